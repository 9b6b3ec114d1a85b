"""Voice activity, frame by frame."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Protocol

import numpy as np

from stream.block import RATE, Samples


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
        self._levels: deque[float] = deque(maxlen=self.MEMORY)
        self._sorted: list[float] = []  # the same: to sort them anew for each frame costs more than all else in here

    def __call__(self, frame: Samples) -> float:
        level = decibels(frame)
        if len(self._levels) == self.MEMORY:
            del self._sorted[bisect_left(self._sorted, self._levels[0])]
        self._levels.append(level)
        insort(self._sorted, level)
        # With under half a second heard the floor would be the first word itself.
        floor = self._tenth() if len(self._levels) >= 25 else self.QUIET
        if level < max(self.QUIET, min(floor + self.MARGIN, -25.0)):
            return 0.0
        return float(self._vad.is_speech((frame * 32767).astype(np.int16).tobytes(), RATE))

    def _tenth(self) -> float:
        """The level below which a tenth of them lie, between the two nearest, as numpy.percentile has it."""
        at = 0.1 * (len(self._sorted) - 1)
        low, high = self._sorted[int(at)], self._sorted[int(at) + 1]
        return low + (at - int(at)) * (high - low)


def decibels(samples: Samples) -> float:
    """Level in dB relative to full scale, -120 for digital silence."""
    return 20 * float(np.log10(max(float(np.sqrt(np.mean(samples**2))), 1e-6)))
