"""ONNX Runtime as all small networks here use it: on the CPU, one thread, quiet. Imported where a network is loaded."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def options_of_one_thread() -> onnxruntime.SessionOptions:
    """Two threads of a small network wait for each other longer than they work."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def session_of(file: Path, options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """A graph that is ready to run. Raises OnnxRuntime's exceptions when it is damaged."""
    return onnxruntime.InferenceSession(
        str(file), options or options_of_one_thread(), providers=["CPUExecutionProvider"]
    )
