"""ONNX Runtime as the engine of the network's step, from the graphs that a checkpoint carries. Imports no PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from model.encoders.onnx_session import session_of
from model.fusion.config import FusionConfig
from model.fusion.step import ArrayEngine, Arrays, functions

SOURCE = "undertone.source"  # key in a graph's metadata: `digest` of the checkpoint that it was made of


class OnnxEngine(ArrayEngine):
    """The network by ONNX Runtime on a CPU, one thread: a step is too small for two."""

    def __init__(self, config: FusionConfig, folder: Path) -> None:
        """Raises OnnxRuntime's exceptions when a graph is damaged."""
        super().__init__(config, self._run_graph)
        self._sessions, self._inputs, self._outputs = {}, {}, {}
        for name in functions(config):
            session = session_of(folder / f"{name}.onnx")
            self._sessions[name] = session
            self._inputs[name] = [each.name for each in session.get_inputs()]
            self._outputs[name] = [each.name for each in session.get_outputs()]

    def source(self) -> set[str]:
        """The digest that each graph carries."""
        metadata = [session.get_modelmeta().custom_metadata_map for session in self._sessions.values()]
        return {each.get(SOURCE, "") for each in metadata}

    def _run_graph(self, name: str, inputs: Arrays) -> Arrays:
        outputs = self._outputs[name]
        wanted = {key: inputs[key] for key in self._inputs[name]}
        return dict(zip(outputs, self._sessions[name].run(outputs, wanted), strict=True))


def digest(folder: Path) -> str:
    """SHA-256 (hex) of a checkpoint's configuration and weights, by which an export is known to be of them."""
    found = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        found.update((folder / name).read_bytes())
    return found.hexdigest()
