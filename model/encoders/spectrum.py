"""Power spectra of speech, as the encoders of voices and speakers read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW_SAMPLES, HOP_SAMPLES = 400, 160  # 25 ms every 10 ms at 16 kHz
BINS = WINDOW_SAMPLES // 2 + 1

_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)).astype(np.float32)


def power_spectrum(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples [n] at 16 kHz, one window or more -> [frames, BINS] float32: squared magnitudes under a Hann window."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(windows * _HANN)
    power: NDArray[np.float32] = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return power
