"""Speaker embeddings: WeSpeaker's ResNet34, as pyannote's speaker-diarization-community-1 has it.

The network is Wang et al. 2023 (arXiv 2210.17016), trained on VoxCeleb; its card is in
model/encoders/weights/speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoders.filter_banks import HOP_SAMPLES, WINDOW_SAMPLES, filter_banks
from model.encoders.transcription import RATE

Array = NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "weights" / "speaker"
VOICE_ENCODER = "wespeaker-voxceleb-resnet34"
"""Name of the network: embeddings of another one cannot be compared with its own."""
MIN_SAMPLES = RATE // 4  # the network needs some frames; shorter sound is repeated


class SpeakerEncoder:
    """Maps speech to unit vectors; the dot product of two is the similarity of their voices."""

    def __init__(self, file: Path = WEIGHTS / "embedding.onnx") -> None:
        from model.encoders.onnx_session import session_of

        self._session = session_of(file)

    def __call__(self, samples: Array) -> Array:
        """[256] float32 unit vector of an utterance [n] float32 at 16 kHz."""
        embedding: Array = self.stretches(samples, [(0.0, np.inf)])[0]
        return embedding

    def stretches(self, samples: Array, stretches: Sequence[tuple[float, float]]) -> Array:
        """Unit vectors [len(stretches), 256] float32 of stretches of an utterance, each from its own sound alone.

        samples: [n] float32 at 16 kHz; stretches: start and end, in seconds from the first sample. The convolutions run
        once for all of them; each is a mean and a deviation over its frames. One that is shorter than a frame has all.
        """
        if len(samples) < MIN_SAMPLES:
            samples = np.resize(samples, MIN_SAMPLES) if len(samples) else np.zeros(MIN_SAMPLES, np.float32)
        banks = filter_banks(samples)
        middle = (np.arange(len(banks)) * HOP_SAMPLES + WINDOW_SAMPLES / 2) / RATE
        weights = np.stack([(middle >= start) & (middle < end) for start, end in stretches]).astype(np.float32)
        weights[weights.sum(1) == 0] = 1
        inputs = {"fbank": (banks - banks.mean(0))[None], "weights": weights}
        embeddings: Array = self._session.run(None, inputs)[0]
        units: Array = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
        return units
