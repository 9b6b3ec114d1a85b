"""Voice activity, frame by frame."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from stream import RATE
from stream.block import Samples


class FrameVad(Protocol):
    """Says of consecutive frames of `size` samples how likely each holds speech (0 … 1). Has state; one a channel."""

    size: int

    def __call__(self, frame: Samples) -> float: ...


class WebRtcVad:
    """WebRTC's Gaussian-mixture detector, on 20 ms frames; answers 0 or 1.

    It takes steady noise for speech, so a frame also has to stand out from the noise floor, the quietest tenth of the
    last seconds.
    """

    size = RATE // 50
    MARGIN = 6.0  # dB over the floor
    QUIET = -60.0  # dBFS; below, nothing is speech
    MEMORY = 250  # frames (5 s) that make the floor

    def __init__(self, aggressiveness: int = 2) -> None:
        import webrtcvad

        self._vad = webrtcvad.Vad(aggressiveness)
        self._levels = np.full(self.MEMORY, np.nan, dtype=np.float32)
        self._count = 0

    def __call__(self, frame: Samples) -> float:
        level = decibels(frame)
        self._levels[self._count % self.MEMORY] = level
        self._count += 1
        # With under half a second heard the floor would be the first word itself.
        floor = float(np.nanpercentile(self._levels, 10)) if self._count >= 25 else self.QUIET
        if level < max(self.QUIET, min(floor + self.MARGIN, -25.0)):
            return 0.0
        return float(self._vad.is_speech((frame * 32767).astype(np.int16).tobytes(), RATE))


def decibels(samples: Samples) -> float:
    """Level in dB relative to full scale, -120 for digital silence."""
    return 20 * float(np.log10(max(float(np.sqrt(np.mean(samples**2))), 1e-6)))
