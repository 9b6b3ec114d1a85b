from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.encoders.harmonicity import mean_hnr
from model.encoders.prosody import COLUMNS, MIN_DURATION_S, ProsodyPrior, measure
from stream.sources.file import FileSource
from tests.support.paths import DEMO

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    harmonics = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 6))
    return (level * harmonics).astype(np.float32)


def test_pitch_and_harmonicity_of_a_steady_voice() -> None:
    values = dict(zip(COLUMNS, measure(tone(150.0)), strict=True))
    assert values["pitch_mean_hz"] == pytest.approx(150, abs=0.5)
    assert values["pitch_range_hz"] < 1
    assert values["hnr_mean_db"] > 30


def test_intensity_is_praats_decibels_over_20_micropascal() -> None:
    time = np.arange(RATE) / RATE
    sine = (0.1 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
    values = measure(sine)
    assert values[0] == pytest.approx(20 * np.log10(0.1 / np.sqrt(2) / 2e-5), abs=0.2)
    assert measure(10 * sine)[0] == pytest.approx(values[0] + 20, abs=0.01)


def test_noise_has_no_pitch_and_silence_has_nothing() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, RATE).astype(np.float32)
    assert measure(noise)[6] < 5
    assert measure(np.zeros(RATE, np.float32)) is None


def test_too_short_a_clip_is_missing() -> None:
    assert measure(tone(150, 0.05)) is None
    assert measure(tone(150, 0.14)) is not None


def test_syllables_are_counted() -> None:
    """Four bursts of voice a second, as in speech, are four nuclei a second of phonation."""
    time = np.arange(2 * RATE) / RATE
    bursts = tone(150, 2.0) * (0.02 + 0.98 * np.sin(np.pi * 4 * time) ** 2)
    rate = measure(bursts.astype(np.float32))[5]
    assert 3.0 <= rate <= 4.5


@pytest.mark.data
def test_columns_of_speech_lie_where_the_tables_have_them(data: Path) -> None:
    """Read speech gives values within the tables' 1st … 99th percentile."""
    import csv

    with (data / "meld" / "train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for path in sorted((data / "librispeech").glob("1688*.flac"))[:2]:
        samples = np.concatenate([block.samples for block in FileSource(path)], 1)[0]
        for name, value in zip(COLUMNS, measure(samples[: 5 * RATE]), strict=True):
            known = [float(row[name]) for row in rows if row[name]]
            low, high = np.percentile(known, [0.5, 99.5])
            assert low <= value <= high, name


def test_prior_of_little_data() -> None:
    assert ProsodyPrior.fit([np.full((1, 7), 60, np.float32)]) is None
    values = np.random.default_rng(0).normal(60, 4, (6, 7)).astype(np.float32)
    values[:, 5] = np.nan
    prior = ProsodyPrior.fit([values[:3], values[3:]])
    assert prior is not None and (prior.mean[5], prior.std[5], prior.weight[5]) == (0, 1, 1)
    assert np.isfinite([*prior.mean, *prior.std, *prior.weight]).all()


def test_prior_is_fitted_around_unknown_values() -> None:
    rng = np.random.default_rng(0)
    voices = [rng.normal(centre, 2.0, (20, 7)).astype(np.float32) for centre in rng.normal(60, 4.0, 50)]
    voices[0][3, 2] = np.nan
    prior = ProsodyPrior.fit(voices)
    assert np.allclose(prior.mean, 60, atol=2)
    assert np.allclose(prior.weight, 2.0**2 / 4.0**2, rtol=0.6)


@pytest.mark.parametrize("start", range(0, 55, 5))
def test_harmonicity_is_praats(start: int) -> None:
    """Of speech, with noise of its own level, and at another rate; a tenth of a decibel is a hundredth of the mean."""
    import parselmouth
    from parselmouth.praat import call

    heard = np.concatenate([block.samples for block in FileSource(DEMO)], 1)[0]
    speech = heard[start * RATE : (start + 4) * RATE]
    noise = np.random.default_rng(start).normal(0, speech.std(), len(speech)).astype(np.float32)
    for samples, rate in ((speech, RATE), (speech + noise, RATE), (speech, RATE // 2)):
        sound = parselmouth.Sound(samples.astype(np.float64), rate)
        praats = call(call(sound, "To Harmonicity (cc)", 0.01, 75, 0.1, 1.0), "Get mean", 0, 0)
        assert mean_hnr(samples, rate) == pytest.approx(praats, abs=0.15)


def test_harmonicity_of_the_shortest_and_of_silence() -> None:
    rng = np.random.default_rng(0)
    for count in (int(MIN_DURATION_S * RATE), 2_500, 4_001):
        assert np.isfinite(mean_hnr(rng.normal(0, 0.1, count), RATE))
    assert np.isnan(mean_hnr(np.zeros(RATE), RATE))
