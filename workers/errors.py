"""Errors of this package. Each class says how a command exits and what a gateway answers."""

from __future__ import annotations


class WorkersError(Exception):
    """Base of this package's errors. The message is one line for the user."""

    exit_code = 1
    """Exit code of a command that fails with this error: 2 for what the user asked, 1 for what happened."""
    http_status = 503
    """Status of the gateway's answer."""


class UsageError(WorkersError):
    """Settings that contradict each other or what is available. The message says what to do."""

    exit_code, http_status = 2, 422


EXTRAS = {
    "onnx": "train", "onnxscript": "train", "parselmouth": "prosody", "presidio_analyzer": "mask", "psutil": "bench",
    "pyannote": "bench", "scipy": "train", "sklearn": "train", "spacy": "mask", "tensorboard": "train",
    "threadpoolctl": "bench",
}  # fmt: skip
"""The extra that brings a module which a plain installation lacks."""


def not_installed(module: str) -> str:
    """A line about a missing module, with what installs it."""
    package = module.partition(".")[0]
    if extra := EXTRAS.get(package):
        return f"{package} is not installed: pip install '.[{extra}]' in the folder of Undertone's source"
    return f"{package} is not installed, though a plain installation has it: install Undertone anew"
