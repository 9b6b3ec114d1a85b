"""Silero VAD v6, the ONNX file inside faster-whisper, one frame at a time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class SileroVad:
    """Speech probability of consecutive 32 ms frames at 16 kHz. Stateful: one for each channel."""

    size = 512
    """Samples of a frame."""
    CONTEXT = 64  # samples of the previous frame that the network needs again

    def __init__(self) -> None:
        import onnxruntime

        spec = importlib.util.find_spec("faster_whisper")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError("Silero VAD comes with faster-whisper: pip install faster-whisper")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(spec.submodule_search_locations[0]) / "assets" / "silero_vad_v6.onnx"
        self._network = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._hidden = np.zeros((1, 1, 128), np.float32)
        self._cell = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(self.CONTEXT, np.float32)

    def __call__(self, frame: NDArray[np.float32]) -> float:
        """Probability of speech, 0 … 1, in the next frame [512] float32."""
        inputs = {"input": np.concatenate([self._context, frame])[None], "h": self._hidden, "c": self._cell}
        probability, self._hidden, self._cell = self._network.run(None, inputs)
        self._context = frame[-self.CONTEXT :]
        return float(np.ravel(probability)[0])
