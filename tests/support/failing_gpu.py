"""The emotion model on a device that fails in the middle of its work."""

from __future__ import annotations

from model.fusion.checkpoint import load_checkpoint, load_step
from model.fusion.device_engine import DeviceEngine
from model.fusion.step import Arrays, FusionStep, Indices


class FailingEngine(DeviceEngine):
    """The GPU's engine, on the CPU; from step number `fails_at` on, it does as PyTorch does after a fault of CUDA."""

    def __init__(self, fails_at: int) -> None:
        super().__init__(load_checkpoint("meld"), load_step("meld").config, "cpu")
        self.fails_at, self.steps = fails_at, 0

    def step(self, states: Indices, inputs: Arrays) -> Arrays:
        self.steps += 1
        self._check()
        return super().step(states, inputs)

    def revise(self, states: Indices, inputs: Arrays) -> Arrays:
        self._check()
        return super().revise(states, inputs)

    def write(self, states: Indices, rows) -> None:
        self._check()
        super().write(states, rows)

    def _check(self) -> None:
        if self.steps >= self.fails_at:
            raise RuntimeError("CUDA error: device-side assert triggered")


def failing_network(fails_at: int) -> FusionStep:
    network = load_step("meld")
    network._engine = FailingEngine(fails_at)
    return network
