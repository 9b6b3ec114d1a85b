"""The choice of a device, and models that go back to the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from model import device
from model.device import DeviceError, WithFallback, choose, without_cuda


class Faulty:
    """A model whose device fails from a call on."""

    def __init__(self, where: str, fails_at: int | None) -> None:
        self.where, self.fails_at, self.calls = where, fails_at, 0

    def __call__(self, text: str) -> str:
        self.calls += 1
        if text == "bad":
            raise ValueError("bad input")
        if self.fails_at is not None and self.calls >= self.fails_at:
            raise RuntimeError("CUDA error: an illegal memory access\nand more lines")
        return f"{text} on {self.where}"


def loading(fails_at: int | None, loaded: list[str]):
    def load(where: device.Device) -> Faulty:
        loaded.append(where)
        if where == "cuda" and fails_at == 0:
            raise RuntimeError("CUDA out of memory")
        return Faulty(where, fails_at if where == "cuda" else None)

    return load


def test_a_device_that_fails_at_work_is_left_for_good() -> None:
    loaded: list[str] = []
    model = WithFallback("encoder", loading(2, loaded), "cuda")
    assert model(lambda ask: ask("a")) == "a on cuda" and model.fault is None
    assert model(lambda ask: ask("b")) == "b on cpu"
    assert model.fault == "encoder: on the CPU, because the GPU failed (CUDA error: an illegal memory access)"
    assert model(lambda ask: ask("c")) == "c on cpu" and loaded == ["cuda", "cpu"]


def test_a_device_without_room_is_not_used() -> None:
    model = WithFallback("encoder", loading(0, []), "cuda")
    assert model(lambda ask: ask("a")) == "a on cpu"
    assert model.fault == "encoder: on the CPU, because the GPU failed (CUDA out of memory)"


def test_bad_input_is_not_the_devices_fault() -> None:
    loaded: list[str] = []
    model = WithFallback("encoder", loading(None, loaded), "cuda")
    for _ in range(3):
        with pytest.raises(ValueError, match="bad input"):
            model(lambda ask: ask("bad"))
    assert model(lambda ask: ask("a")) == "a on cuda" and model.fault is None
    assert loaded == ["cuda", "cpu"]  # the CPU's is kept


def test_a_fault_of_the_cpu_is_raised() -> None:
    with pytest.raises(ValueError, match="bad input"):
        WithFallback("encoder", loading(None, []), "cpu")(lambda ask: ask("bad"))


def test_the_choice_needs_a_driver_and_a_pytorch_with_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "DRIVERS", (str(tmp_path / "driver"),))
    assert "no NVIDIA GPU" in str(without_cuda()) and choose("auto") == choose("cpu") == "cpu"
    with pytest.raises(DeviceError, match="--device cuda: this machine has no NVIDIA GPU"):
        choose("cuda")
    (tmp_path / "driver").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: importlib.util.spec_from_loader("torch", None))
    assert without_cuda() == "PyTorch is not installed"
    spec = importlib.util.spec_from_file_location("torch", tmp_path / "torch" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    assert "without CUDA" in str(without_cuda())
    (tmp_path / "torch/lib").mkdir(parents=True)
    (tmp_path / "torch/lib/libtorch_cuda.so").touch()
    assert without_cuda() is None and choose("auto") == choose("cuda") == "cuda" and choose("cpu") == "cpu"
