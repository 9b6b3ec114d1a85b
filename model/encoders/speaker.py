"""Speaker embeddings: WeSpeaker's ResNet34, as pyannote's speaker-diarization-community-1 has it.

The network is Wang et al. 2023 (arXiv 2210.17016), trained on VoxCeleb; its card is in
model/encoders/weights/speaker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoders.filter_banks import HOP_SAMPLES, WINDOW_SAMPLES, filter_banks
from model.encoders.transcription import RATE

Array = NDArray[np.float32]
Times = NDArray[np.float64]

WEIGHTS = Path(__file__).parent / "weights" / "speaker"
VOICE_ENCODER = "wespeaker-voxceleb-resnet34"
"""Name of the network: embeddings of another one cannot be compared with its own."""
STATE_BANDS, STATE_HOP_S = 5, 0.04  # of the third stage
RECENT = 4  # utterances whose third stage is remembered
MIN_SAMPLES = RATE // 4  # the network needs some frames; shorter sound is repeated


class SpeakerEncoder:
    """Maps speech to unit vectors; the dot product of two is the similarity of their voices."""

    def __init__(self, file: Path = WEIGHTS / "embedding.onnx") -> None:
        from model.encoders.onnx_session import session_of

        self._session = session_of(file)
        self._recent: deque[tuple[int, Array]] = deque(maxlen=RECENT)

    def __call__(self, samples: Array) -> Array:
        """[256] float32 unit vector of an utterance [n] float32 at 16 kHz."""
        embedding: Array = self.stretches(samples, [(0.0, np.inf)])[0]
        return embedding

    def states(self, samples: Array, start: float = 0.0, end: float = np.inf) -> Array:
        """[1280] float32 of the network's third stage: mean over time, then standard deviation, of 128 channels in
        five bands of frequency. They tell how somebody speaks; the embedding is trained to tell who.

        samples: [n] float32 at 16 kHz; start, end: the stretch that counts, in seconds from the first sample, 0.1 s or
        longer. Nothing is computed anew for one of the last utterances that `stretches` was asked about.
        """
        key = hash(samples.tobytes())
        bands = next((bands for known, bands in tuple(self._recent) if known == key), None)
        if bands is None:
            _, bands = self._run(samples, lambda middle: np.ones((1, len(middle)), np.float32))
        middle = (np.arange(bands.shape[1]) + 0.5) * STATE_HOP_S
        counted = bands[:, (middle >= start) & (middle < end)]
        states: Array = np.concatenate([counted.mean(1), counted.std(1)])
        return states

    def stretches(self, samples: Array, stretches: Sequence[tuple[float, float]]) -> Array:
        """Unit vectors [len(stretches), 256] float32 of stretches of an utterance, each from its own sound alone.

        samples: [n] float32 at 16 kHz; stretches: start and end, in seconds from the first sample. The convolutions run
        once for all of them; each is a mean and a deviation over its frames. One that is shorter than a frame has all.
        """

        def weights_of(middle: Times) -> Array:
            weights = np.stack([(middle >= start) & (middle < end) for start, end in stretches]).astype(np.float32)
            weights[weights.sum(1) == 0] = 1
            return weights

        embeddings, bands = self._run(samples, weights_of)
        self._recent.append((hash(samples.tobytes()), bands))
        units: Array = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
        return units

    def _run(self, samples: Array, weights_of: Callable[[Times], Array]) -> tuple[Array, Array]:
        """Embeddings [S, 256], and the third stage [128 · 5, frames / 4].

        samples: [n]; weights_of: weights [S, frames] of the frames, by the times of their middles in seconds.
        """
        banks = filter_banks(_long_enough(samples))
        weights = weights_of((np.arange(len(banks)) * HOP_SAMPLES + WINDOW_SAMPLES / 2) / RATE)
        inputs = {"fbank": (banks - banks.mean(0))[None], "weights": weights}
        embeddings, (stage,) = self._session.run(["embedding", "third_stage"], inputs)  # [128, 20, frames / 4]
        return embeddings, stage.reshape(len(stage) * STATE_BANDS, -1, stage.shape[2]).mean(1)


def _long_enough(samples: Array) -> Array:
    if len(samples) >= MIN_SAMPLES:
        return samples
    return np.resize(samples, MIN_SAMPLES) if len(samples) else np.zeros(MIN_SAMPLES, np.float32)
