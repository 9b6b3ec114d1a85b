from __future__ import annotations

import numpy as np
import pytest
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from model.encoders.filter_banks import BANDS, FFT, HOP_SAMPLES, WINDOW_SAMPLES, filter_banks


@pytest.mark.parametrize("scale", [1e-4, 0.1, 0.9])
def test_they_are_those_of_kaldi(scale: float) -> None:
    """As transformers computes them, for models that were trained with torchaudio's kaldi.fbank."""
    samples = (scale * np.random.default_rng(0).normal(0, 0.3, 20_000)).astype(np.float32)
    expected = spectrogram(
        samples * 32768, window_function(WINDOW_SAMPLES, "hamming", periodic=False), WINDOW_SAMPLES, HOP_SAMPLES, FFT,
        power=2.0, center=False, preemphasis=0.97, remove_dc_offset=True, log_mel="log", mel_floor=1.1920929e-07,
        mel_filters=mel_filter_bank(257, BANDS, 20.0, 8000.0, 16_000, None, "kaldi", triangularize_in_mel_space=True),
    ).T  # fmt: skip
    found = filter_banks(samples)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert found == pytest.approx(expected, abs=2e-3)
    assert np.isfinite(filter_banks(np.zeros(WINDOW_SAMPLES, np.float32))).all()
