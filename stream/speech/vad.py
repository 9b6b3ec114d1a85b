"""Voice activity detection, frame by frame."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Protocol

import numpy as np

from stream.block import RATE, Samples


class FrameVad(Protocol):
    """Speech probability of consecutive frames. Has state, so every channel needs its own."""

    size: int
    """Samples in a frame."""

    def __call__(self, frame: Samples) -> float:
        """Probability 0 … 1 that the frame, float32 [size] at 16 kHz, contains speech."""
        ...


class WebRtcVad:
    """WebRTC's Gaussian-mixture detector on 20 ms frames; its probabilities are 0 or 1.

    It mistakes steady noise for speech, so a frame must also exceed the noise floor: the 10th percentile of the levels
    of the last five seconds.
    """

    size = RATE // 50
    MARGIN_DB = 6.0  # dB above the noise floor
    QUIET_DBFS = -60.0  # level below which nothing is speech
    FLOOR_FRAMES = 250  # frames (5 s) from which the noise floor is estimated

    def __init__(self, aggressiveness: int = 2) -> None:
        """aggressiveness: 0 (accepts most frames as speech) … 3 (accepts fewest)."""
        import webrtcvad

        self._vad = webrtcvad.Vad(aggressiveness)
        self._levels: deque[float] = deque(maxlen=self.FLOOR_FRAMES)
        self._sorted: list[
            float
        ] = []  # the same levels, kept in order because sorting them for each frame would be slow

    def __call__(self, frame: Samples) -> float:
        """1.0 if the frame, float32 [size] at 16 kHz, contains speech, else 0.0."""
        level = decibels(frame)
        if len(self._levels) == self.FLOOR_FRAMES:
            del self._sorted[bisect_left(self._sorted, self._levels[0])]
        self._levels.append(level)
        insort(self._sorted, level)
        # In the first half second the floor would be the first word itself.
        floor = self._tenth_percentile() if len(self._levels) >= 25 else self.QUIET_DBFS
        if level < max(self.QUIET_DBFS, min(floor + self.MARGIN_DB, -25.0)):
            return 0.0
        return float(self._vad.is_speech((frame * 32767).astype(np.int16).tobytes(), RATE))

    def _tenth_percentile(self) -> float:
        """10th percentile of the levels, linearly interpolated like numpy.percentile."""
        position = 0.1 * (len(self._sorted) - 1)
        low, high = self._sorted[int(position)], self._sorted[int(position) + 1]
        return low + (position - int(position)) * (high - low)


def decibels(samples: Samples) -> float:
    """Level of samples, float32 [n], in dB relative to full scale; -120 for digital silence."""
    return 20 * float(np.log10(max(float(np.sqrt(np.mean(samples**2))), 1e-6)))
