"""Devices that models run on: the CPU, or an NVIDIA GPU by CUDA."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Literal, TypeVar

from model.errors import InputError

Device = Literal["cpu", "cuda"]
DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
"""Files of NVIDIA's driver on Linux, and under Windows' subsystem for Linux."""

DeviceChoice = Literal["auto", "cpu", "cuda"]
"""auto: a GPU where there is one, else the CPU."""

Model = TypeVar("Model")
Answer = TypeVar("Answer")


def without_cuda() -> str | None:
    """The reason why no GPU can be used here; None where one may be. Imports no PyTorch, so it does not try one."""
    if not any(Path(driver).exists() for driver in DRIVERS):
        return "this machine has no NVIDIA GPU, or not its driver"
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return "PyTorch is not installed"
    if not (Path(torch.origin).parent / "lib" / "libtorch_cuda.so").exists():
        return "PyTorch is installed without CUDA (pip install torch, from an index that has it)"
    return None


class DeviceError(InputError):
    """A device that is not here."""


def choose(choice: DeviceChoice) -> Device:
    """The device of this machine. Raises DeviceError where there is no GPU and one is asked for."""
    missing = without_cuda()
    if choice == "cuda" and missing:
        raise DeviceError(f"--device cuda: {missing}")
    return "cpu" if choice == "cpu" or missing else "cuda"


def fell_back(name: str, error: Exception) -> str:
    """The line that tells users that a model runs on the CPU, although another device was asked for."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{name}: on the CPU, because the GPU failed ({reason[:200]})"


class WithFallback(Generic[Model]):
    """A model on a device, and on the CPU from the moment that the device fails. Not for several threads at once."""

    def __init__(self, name: str, load: Callable[[Device], Model], device: Device) -> None:
        """name: of the model, as users know it. Raises what `load` raises for the CPU."""
        self._name, self._load = name, load
        self._on_cpu: Model | None = None
        self.fault: str | None = None
        """`fell_back`, once it has."""
        try:
            self._model = load(device)
        except Exception as error:  # each library has its own
            if device == "cpu":
                raise
            self._model, self.fault = load("cpu"), fell_back(name, error)
        if device == "cpu" or self.fault:
            self._on_cpu = self._model

    def __call__(self, work: Callable[[Model], Answer]) -> Answer:
        """The result of `work`. Raises what it raises on the CPU: what fails there, too, is not the device's fault."""
        try:
            return work(self._model)
        except Exception as error:
            if self._model is self._on_cpu:
                raise
            if self._on_cpu is None:
                self._on_cpu = self._load("cpu")
            result = work(self._on_cpu)
            self._model, self.fault = self._on_cpu, fell_back(self._name, error)
            return result
