"""Telling speakers apart on one channel by running statistics of their voices."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream import RATE
from stream.block import Samples

FRAME, HOP, MELS, CEPSTRA = RATE // 40, RATE // 100, 32, 16


class SpeakerClusters:
    """Online clustering: the nearest known voice, or a new speaker if none is near enough.

    Distance is taken between utterance means of mel cepstra, in units of their spread within an utterance. Simple by
    intention: it separates a man from a woman, not twins.
    """

    THRESHOLD = 1.3  # equal error rate (21 %) between 3 s pieces of six LibriSpeech speakers
    SHORTEST = 1.0  # seconds; a shorter utterance never makes a new speaker
    MOST = 8

    def __init__(self) -> None:
        self._voices: list[NDArray[np.float64]] = []
        self._heard: list[float] = []  # seconds of speech behind each voice

    def assign(self, samples: Samples) -> str:
        """The speaker of an utterance, "speaker 1", "speaker 2", … in order of appearance."""
        voice, seconds = voice_statistics(samples), len(samples) / RATE
        distances = [float(np.sqrt(np.mean((voice - known) ** 2))) for known in self._voices]
        nearest = int(np.argmin(distances)) if distances else -1
        stranger = nearest < 0 or distances[nearest] > self.THRESHOLD
        if nearest < 0 or (stranger and seconds >= self.SHORTEST and len(self._voices) < self.MOST):
            self._voices.append(voice)
            self._heard.append(seconds)
            return f"speaker {len(self._voices)}"
        if not stranger:
            total = self._heard[nearest] + seconds
            self._voices[nearest] = (self._voices[nearest] * self._heard[nearest] + voice * seconds) / total
            self._heard[nearest] = min(total, 60.0)  # so that a voice may drift
        return f"speaker {nearest + 1}"


def voice_statistics(samples: Samples) -> NDArray[np.float64]:
    """[CEPSTRA] means of mel cepstra 1 … 16 over the louder frames, scaled by their typical spread."""
    padded = np.pad(samples, (0, max(0, FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    mel = np.log(power @ _mel_filters().T + 1e-8)
    energy = power.sum(1)
    loud = mel[energy > energy.max() * 10**-2.5]
    cepstra = loud @ _cosines().T
    scale = 1.0 / np.sqrt(np.arange(1, CEPSTRA + 1))
    statistics: NDArray[np.float64] = cepstra.mean(0) / (2.0 * scale)
    return statistics


def _mel_filters() -> NDArray[np.float64]:
    """[MELS, 257] triangles, 100 … 3800 Hz: what telephone and microphone have in common."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (100.0, 3800.0))
    edges = np.linspace(low, high, MELS + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.fft.rfftfreq(512, 1 / RATE)
    rising = (bins - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
    falling = (hertz[2:, None] - bins) / (hertz[2:] - hertz[1:-1])[:, None]
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters


def _cosines() -> NDArray[np.float64]:
    """[CEPSTRA, MELS] rows 1 … of the orthonormal DCT-II."""
    angle = np.pi / MELS * (np.arange(MELS) + 0.5) * np.arange(1, CEPSTRA + 1)[:, None]
    cosines: NDArray[np.float64] = np.sqrt(2 / MELS) * np.cos(angle)
    return cosines
