"""The voice encoder: a small log-mel CNN that classifies emotion from the sound of speech.

It is trained on acted speech only (RAVDESS, `model.training.voice_train`), so it is an expert whose posterior is pooled
with the network's (`model.fusion.experts`), and no modality of the graph. Levels are relative to the loudest band of
the utterance, so the gain of the microphone has no effect. The network itself: `model.encoders.voice_net`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.device import Device
from model.encoders.spectrum import power_spectrum
from model.encoders.transcription import RATE

Array = NDArray[np.float32]

SHIPPED = Path(__file__).parent / "weights" / "voice"
GRAPH = "voice.onnx"
MIN_SPEECH_S, MAX_SPEECH_S = 0.4, 15.0  # of an utterance that is classified; more is cut off


def trim(samples: Array, below: float = 35.0, margin: float = 0.15) -> Array:
    """The samples [n] float32 at 16 kHz from the first to the last 20 ms within `below` dB of the loudest, with a
    margin in seconds on both sides."""
    step = RATE // 50
    if len(samples) < step:
        return samples
    power = (samples[: len(samples) // step * step].reshape(-1, step) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below / 10))
    if not len(loud):
        return samples
    first, last = round(loud[0] * step - margin * RATE), round((loud[-1] + 1) * step + margin * RATE)
    return samples[max(0, first) : last]


class VoiceEncoder:
    """Emotion posterior of an utterance: on a CPU by ONNX Runtime on one thread."""

    def __init__(self, folder: Path | None = None, device: Device = "cpu") -> None:
        """folder: as `model.training.voice_train.save` writes it, None = the shipped one; PyTorch is used if it has no
        export, and on a GPU. Raises RuntimeError where the device cannot be used."""
        folder = folder or SHIPPED
        self.card = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        by_graph = device == "cpu" and (folder / GRAPH).is_file()
        self._run = _by_graph(folder / GRAPH) if by_graph else _by_torch(folder, device)

    def __call__(self, samples: Array) -> Array | None:
        """[8] float32 probabilities of `RAVDESS` for an utterance [n] float32 at 16 kHz; None if silent or too
        short."""
        trimmed = trim(samples)[: round(MAX_SPEECH_S * RATE)]
        if len(trimmed) < MIN_SPEECH_S * RATE or not trimmed.any():
            return None
        return self._run(power_spectrum(trimmed))


def _by_graph(file: Path) -> Callable[[Array], Array]:
    from model.encoders.onnx_session import session_of

    session = session_of(file)

    def run(power: Array) -> Array:
        posterior: Array = session.run(None, {"power": power[None]})[0][0]
        return posterior

    return run


def _by_torch(folder: Path, device: Device) -> Callable[[Array], Array]:
    import torch

    from model.encoders.voice_net import load

    network = load(folder).to(device)

    @torch.inference_mode()
    def run(power: Array) -> Array:
        log_mel = network.levels(torch.from_numpy(power.T.copy())[None].to(device))
        frames = torch.tensor([log_mel.shape[-1]], device=device)
        posterior: Array = network(log_mel, frames)[0].softmax(-1).cpu().numpy()
        return posterior

    return run
