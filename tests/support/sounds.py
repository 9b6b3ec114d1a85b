"""Sound as microphones hear it: late, quiet, through a room, with noise."""

from __future__ import annotations

import numpy as np

from stream.block import RATE, Samples


def delayed(sound: Samples, samples: int, decibels: float) -> Samples:
    return np.roll(sound, samples) * np.float32(10 ** (decibels / 20))


def in_a_room(sound: Samples, direct_db: float, seed: int) -> Samples:
    """With an echo of 0.3 s; direct_db: level of the direct sound over that of the echo."""
    rng = np.random.default_rng(seed)
    echo = rng.standard_normal(round(0.3 * RATE)) * np.exp(-6.9 * np.arange(round(0.3 * RATE)) / (0.3 * RATE))
    echo *= 10 ** (-direct_db / 20) / np.sqrt((echo**2).sum())
    echo[0] = 1
    size = len(sound) + len(echo)
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(echo, size), size)[: len(sound)].astype(np.float32)


def hiss(size: int, dbfs: float, seed: int) -> Samples:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32) * np.float32(10 ** (dbfs / 20))
