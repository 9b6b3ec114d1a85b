"""Mel filter banks as Kaldi computes them, which networks trained with Kaldi or torchaudio read."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE = 16_000
WINDOW_SAMPLES, HOP_SAMPLES, FFT = 400, 160, 512  # 25 ms every 10 ms at 16 kHz
BANDS, LOWEST_HZ = 80, 20.0
PRE_EMPHASIS = 0.97
FULL_SCALE = 32_768.0  # of the 16-bit samples that Kaldi takes
EPSILON = float(np.finfo(np.float32).eps)


def filter_banks(samples: Array) -> Array:
    """Natural logarithms of the energies of 80 mel bands, float32 [frames, 80].

    samples: [n] float32 at 16 kHz with full scale ±1, a window or more. Kaldi's `compute-fbank-feats` with a Hamming
    window, without dither.
    """
    windows = np.lib.stride_tricks.sliding_window_view(samples * np.float32(FULL_SCALE), WINDOW_SAMPLES)[::HOP_SAMPLES]
    windows = windows - windows.mean(1, keepdims=True)
    before = np.concatenate([windows[:, :1], windows[:, :-1]], 1)
    spectrum = np.fft.rfft((windows - np.float32(PRE_EMPHASIS) * before) * _hamming(), FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    energies: Array = np.log(np.maximum(power @ _filters(), EPSILON))
    return energies


@cache
def _hamming() -> Array:
    return np.hamming(WINDOW_SAMPLES).astype(np.float32)


@cache
def _filters() -> Array:
    """Triangles of equal width on the mel scale, float32 [FFT / 2 + 1, BANDS]."""
    mels = _mel(np.arange(FFT // 2) * RATE / FFT)[:, None]
    lowest, highest = _mel(np.array([LOWEST_HZ, RATE / 2]))
    left, centre, right = (lowest + (highest - lowest) / (BANDS + 1) * (np.arange(BANDS) + n) for n in range(3))
    rising, falling = (mels - left) / (centre - left), (right - mels) / (right - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.concatenate([triangles, np.zeros((1, BANDS))]).astype(np.float32)


def _mel(hertz: NDArray[np.floating]) -> NDArray[np.floating]:
    mels: NDArray[np.floating] = 1127.0 * np.log1p(hertz / 700.0)
    return mels
