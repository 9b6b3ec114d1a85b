"""Mean harmonics-to-noise ratio by cross-correlation, as Praat defines it, for all frames of an utterance at once.

Praat 6's "To Harmonicity (cc)" and "Get mean" (its `Sound_to_Pitch.cpp`, method FCC, after Boersma 1993, Proc. Inst.
Phonetic Sciences 17) search for the height of each of a frame's maxima by itself, which is three quarters of what
prosody costs. Here one product of matrices interpolates all of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

STEP_S = 0.01
FLOOR_HZ = 75.0
SILENCE = 0.1  # a frame whose peak is lower, relative to the utterance's, may be silent
DEPTH = 70  # samples on either side that an interpolation uses, fewer near the longest lag
FINE = 8  # points of the interpolation a sample
UNDEFINED = 1e-15

Floats = NDArray[np.float64]


def mean_hnr(samples: NDArray[np.floating], rate: int) -> float:
    """Mean over the frames that are not silent, in dB; NaN without any. samples: [n], mono; 27 ms at least."""
    z = samples.astype(np.float64)
    period, window = int(rate / FLOOR_HZ), 2 * (int(rate / FLOOR_HZ) // 2 - 1)
    lags = min(window + 2, window)
    frames = 1 + int((len(z) / rate - 2 / FLOOR_HZ) / STEP_S)
    first = 0.5 * (len(z) / rate - (frames - 1) * STEP_S)  # s, the middle of the first frame
    middle = first + STEP_S * np.arange(frames)
    left = np.floor(middle * rate - 0.5).astype(int)  # the sample before the middle, from 0

    def around(starts: NDArray[np.int_], count: int) -> Floats:
        """[frames, count] samples from each of the starts."""
        found: Floats = z[np.clip(starts[:, None] + np.arange(count), 0, len(z) - 1)]
        return found

    mean = around(left + 1 - period, 2 * period).mean(1, keepdims=True)
    half = min(period // 2 + 1, window // 2)
    peak = np.abs(around(left + 1 - half, 2 * half) - mean).max(1)
    loudness = np.minimum(1, peak / max(np.abs(z - z.mean()).max(), UNDEFINED))

    begin = np.maximum(0, np.floor((middle - 1 / FLOOR_HZ) * rate - 0.5).astype(int))
    y = around(begin, window + lags) - mean
    spectrum = np.fft.rfft(y)
    product = np.fft.irfft(np.conj(np.fft.rfft(y[:, :window], y.shape[1])) * spectrum, y.shape[1])[:, : lags + 1]
    energy = np.concatenate([np.zeros((frames, 1)), np.cumsum(y**2, 1)], 1)
    power = (energy[:, window:] - energy[:, : lags + 1]) * energy[:, window, None]
    r = product / np.sqrt(np.maximum(power, UNDEFINED**2))
    r[:, 0] = 1

    inner = r[:, 2:lags]
    is_peak = (inner > 0) & (inner > r[:, 1 : lags - 1]) & (inner >= r[:, 3 : lags + 1])
    fine = r.astype(np.float32) @ _interpolation(lags)
    frame, lag = np.nonzero(is_peak)
    best = fine[:, 1:-1].reshape(frames, lags - 2, FINE)[frame, lag].argmax(1) + lag * FINE
    low, mid, high = (fine[frame, best + step].astype(np.float64) for step in range(3))
    height = mid + 0.125 * (high - low) ** 2 / np.maximum(2 * mid - low - high, UNDEFINED)  # of the parabola
    height = np.where(height > 1, 1 / np.maximum(height, 1), height)  # a short window's; so does Praat
    strength = np.full(frames, -1.0)
    np.maximum.at(strength, frame, height)
    voiced = strength > np.maximum(0, 2 - loudness / SILENCE)
    share = np.clip(strength[voiced], UNDEFINED, 1 - UNDEFINED)
    return float((10 * np.log10(share / (1 - share))).mean()) if voiced.any() else float("nan")


@cache
def _interpolation(lags: int) -> NDArray[np.float32]:
    """[lags + 1, (lags - 2) · FINE + 2]: from the values at lags 0 … `lags` (the same at negative ones) to those at
    `FINE` points around each from 2 on, by sin(x)/x under a raised cosine, with a point more at both ends."""
    x = 2 - 0.5 + (np.arange((lags - 2) * FINE + 2) - 0.5) / FINE
    base = np.floor(x).astype(int)
    depth = np.minimum(DEPTH, lags - base)[:, None]
    column = np.arange(-lags, lags + 1)
    apart = x[:, None] - column
    width = depth + np.where(apart > 0, (x - base)[:, None], 1 - (x - base)[:, None])
    weight = 0.5 * np.sinc(apart) * (1 + np.cos(np.pi * apart / width)) * (np.abs(apart) < width)
    folded = weight[:, lags:].astype(np.float32)
    folded[:, 1:] += weight[:, lags - 1 :: -1]
    return np.ascontiguousarray(folded.T)
