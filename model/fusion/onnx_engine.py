"""ONNX Runtime as the engine of the network's step, from the graphs that a checkpoint carries. Imports no PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnxruntime

from model.fusion.step import Arrays

GRAPHS = ("step", "revise")
SOURCE = "undertone.source"  # key in a graph's metadata: `digest` of the checkpoint that it was made of


class OnnxEngine:
    """`model.fusion.step.Engine` on a CPU, one thread: a step is too small for two."""

    def __init__(self, folder: Path) -> None:
        """Raises OnnxRuntime's exceptions when a graph is damaged."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._sessions, self._outputs = {}, {}
        for name in GRAPHS:
            session = onnxruntime.InferenceSession(
                str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            self._sessions[name] = session
            self._outputs[name] = [output.name for output in session.get_outputs()]

    def source(self) -> set[str]:
        """The digest that each graph carries."""
        metadata = [session.get_modelmeta().custom_metadata_map for session in self._sessions.values()]
        return {each.get(SOURCE, "") for each in metadata}

    def step(self, inputs: Arrays) -> Arrays:
        return self._run("step", inputs)

    def revise(self, inputs: Arrays) -> Arrays:
        return self._run("revise", inputs)

    def _run(self, name: str, inputs: dict[str, Any]) -> Arrays:
        outputs = self._outputs[name]
        return dict(zip(outputs, self._sessions[name].run(outputs, inputs), strict=True))


def digest(folder: Path) -> str:
    """SHA-256 (hex) of a checkpoint's configuration and weights, by which an export is known to be of them."""
    found = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        found.update((folder / name).read_bytes())
    return found.hexdigest()
