"""Voice activity detection, frame by frame."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
        floor = percentile(self._sorted, 0.1) if len(self._levels) >= 25 else self.QUIET_DBFS
        if level < max(self.QUIET_DBFS, min(floor + self.MARGIN_DB, -25.0)):
            return 0.0
        return float(self._vad.is_speech((frame * 32767).astype(np.int16).tobytes(), RATE))


class HighPass:
    """Takes mains hum, rumble and a constant offset out of sound: a Butterworth high-pass of fourth order.

    It is applied as the first `TAPS` samples of its impulse response (64 ms, after which it is below -80 dB), so that
    its only state is the last samples.
    """

    CUTOFF_HZ = 100.0
    TAPS = 1024

    def __init__(self) -> None:
        self._tail: Samples | None = None

    def __call__(self, samples: Samples) -> Samples:
        """The next samples, float32 [n] or [channels, n] at 16 kHz, filtered."""
        if self._tail is None:  # as if the first sample had always been there: an offset makes no click
            first = samples[..., :1] if samples.size else np.zeros((*samples.shape[:-1], 1), np.float32)
            self._tail = np.repeat(first, self.TAPS - 1, -1)
        joined = np.concatenate([self._tail, samples], -1)
        length = joined.shape[-1]
        self._tail = joined[..., length - self.TAPS + 1 :]
        size = 1 << (length - 1).bit_length()
        filtered = np.fft.irfft(np.fft.rfft(joined, size) * _spectrum(size), size)
        return filtered[..., self.TAPS - 1 : length].astype(np.float32)


def _impulse_response() -> NDArray[np.float32]:
    """The response of `HighPass`, float32 [TAPS]: two biquads with Butterworth's Q (R. Bristow-Johnson, Audio EQ
    Cookbook)."""
    response = np.zeros(HighPass.TAPS)
    response[0] = 1.0
    angle = 2 * np.pi * HighPass.CUTOFF_HZ / RATE
    for q in (0.54119610, 1.30656296):
        alpha, cosine = np.sin(angle) / (2 * q), np.cos(angle)
        b0, b1, a0, a1, a2 = (1 + cosine) / 2, -(1 + cosine), 1 + alpha, -2 * cosine, 1 - alpha
        filtered = np.zeros_like(response)
        for n in range(len(response)):
            x0, x1, x2 = response[n], response[n - 1] if n > 0 else 0.0, response[n - 2] if n > 1 else 0.0
            y1, y2 = filtered[n - 1] if n > 0 else 0.0, filtered[n - 2] if n > 1 else 0.0
            filtered[n] = (b0 * x0 + b1 * x1 + b0 * x2 - a1 * y1 - a2 * y2) / a0
        response = filtered
    response -= response.mean()  # what was cut off: nothing of an offset passes
    return response.astype(np.float32)


_RESPONSE = _impulse_response()


@lru_cache(maxsize=16)
def _spectrum(size: int) -> NDArray[np.complexfloating]:
    """Spectrum of `_RESPONSE` for a transform of so many samples, complex64 [size / 2 + 1]."""
    return np.fft.rfft(_RESPONSE, size)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Percentile of numbers in ascending order, linearly interpolated as `numpy.percentile`, which takes ten times as
    long for a few hundred. share: 0 … 1."""
    position = share * (len(ordered) - 1)
    low = int(position)
    return ordered[low] + (position - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def decibels(samples: Samples) -> float:
    """Level of samples, float32 [n], in dB relative to full scale; -120 for digital silence."""
    return 10 * math.log10(max(float(np.dot(samples, samples)) / max(1, len(samples)), 1e-12))
