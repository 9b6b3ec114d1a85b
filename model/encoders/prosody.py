"""Prosody in Praat's definitions: the seven columns of the conversation tables, and the network's features of them.

Needs `praat-parselmouth` (GPL-3, the extra `prosody`); without it prosody is missing for all utterances.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.encoders.harmonicity import mean_hnr

COLUMNS = (
    "intensity_mean_db",
    "intensity_std_db",
    "pitch_mean_hz",
    "pitch_std_hz",
    "pitch_range_hz",
    "articulation_rate_syll_per_s",
    "hnr_mean_db",
)
FEATURE_WIDTH = 3 * len(COLUMNS)  # of `VoiceStatistics.describe`
MIN_DURATION_S = 0.13  # Praat's longest window (6.4 periods of 50 Hz, for syllables) has to fit

Array = NDArray[np.float32]


def available() -> bool:
    """True when praat-parselmouth is installed."""
    return importlib.util.find_spec("parselmouth") is not None


def measure(audio: Array, rate: int = 16_000) -> Array | None:
    """Measure the `COLUMNS` of one utterance: [7] float32, NaN where Praat defines no value (pitch of unvoiced speech).

    audio: [n] float32, mono, full scale ±1, at `rate` Hz. Returns None for a clip below `MIN_DURATION_S` or without
    sound. Parameters as for MELD in the tables: intensity from 100 Hz, pitch 75 … 600 Hz, step 10 ms;
    harmonics-to-noise ratio by cross-correlation (silence 0.1, one period).
    """
    import parselmouth
    from parselmouth.praat import call

    if len(audio) < MIN_DURATION_S * rate or not audio.any():
        return None
    sound = parselmouth.Sound(audio.astype(np.float64), rate)
    intensity = sound.to_intensity(minimum_pitch=100, time_step=0.01)
    decibels = intensity.values[0]
    pitch = sound.to_pitch(time_step=0.01, pitch_floor=75, pitch_ceiling=600)
    voiced = pitch.selected_array["frequency"]
    voiced = voiced[voiced > 0]
    values = np.full(len(COLUMNS), np.nan, dtype=np.float32)
    values[0] = call(intensity, "Get mean", 0, 0, "energy")
    values[1] = decibels.std()
    if len(voiced):
        values[2:5] = voiced.mean(), voiced.std(), np.ptp(voiced)
    values[5] = _articulation_rate(sound)
    values[6] = mean_hnr(audio, rate)
    return values


def _articulation_rate(sound: object) -> float:
    """Syllable nuclei per second of phonation (de Jong & Wempe 2009, doi:10.3758/BRM.41.2.385).

    A nucleus is a voiced peak of intensity within 25 dB of the (0.99-quantile) loudest, followed by a dip of over 2 dB.
    """
    from parselmouth.praat import call

    intensity = sound.to_intensity(minimum_pitch=50)  # type: ignore[attr-defined]
    level, times = intensity.values[0], intensity.xs()
    if np.ptp(level) <= 2:
        return 0.0  # a hum: no dip, no syllable (and Praat would ask whether this is speech at all)
    loudest = np.quantile(level, 0.99)
    silences = call(intensity, "To TextGrid (silences)", -25 - (level.max() - loudest), 0.3, 0.1, "silent", "sounding")
    spans = []
    for interval in range(1, call(silences, "Get number of intervals", 1) + 1):
        if call(silences, "Get label of interval", 1, interval) == "sounding":
            bounds = (call(silences, f"Get {edge} time of interval", 1, interval) for edge in ("start", "end"))
            spans.append(tuple(bounds))
    phonation = sum(end - start for start, end in spans)
    if phonation <= 0:
        return float("nan")

    inner = np.arange(1, len(level) - 1)
    peaks = inner[(level[inner] > level[inner - 1]) & (level[inner] >= level[inner + 1])]
    peaks = peaks[level[peaks] > max(loudest - 25, level.min())]
    pitch = sound.to_pitch_ac(0.02, 30, 4, False, 0.03, 0.25, 0.01, 0.35, 0.25, 450)  # type: ignore[attr-defined]
    nuclei = 0
    for peak, following in pairwise(peaks):
        dip = level[peak] - level[peak : following + 1].min()
        sounding = any(start <= times[peak] < end for start, end in spans)
        nuclei += bool(dip > 2 and sounding and np.isfinite(pitch.get_value_at_time(times[peak])))
    return float(nuclei / phonation)


@dataclass(frozen=True)
class ProsodyPrior:
    """Statistics of the training data for each column, used before a speaker's own are known. Each field: 7 numbers."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    weight: tuple[float, ...]
    """Weight of the prior in utterances: variance within speakers / variance between them."""

    @classmethod
    def fit(cls, speakers: Iterable[Array]) -> ProsodyPrior | None:
        """Fit on one array [n, 7] float32 per speaker, NaN where unknown; None when no speaker has two utterances.

        A column that is always unknown gets mean 0, deviation 1 and weight 1, which leave it unchanged.
        """
        voices = [voice for voice in speakers if len(voice) > 1]
        if not voices:
            return None
        pooled = np.concatenate(voices)
        mean, std, weight = np.zeros(len(COLUMNS)), np.ones(len(COLUMNS)), np.ones(len(COLUMNS))
        known = np.flatnonzero(np.isfinite(pooled).sum(0) > 1)
        mean[known] = np.nanmean(pooled[:, known], 0)
        std[known] = np.maximum(np.nanstd(pooled[:, known], 0), 1e-6)
        enough = [v[:, known] for v in voices if (np.isfinite(v[:, known]).sum(0) > 1).all()]
        if enough:
            within = np.mean([np.nanvar(v, 0) for v in enough], 0)
            between = np.var([np.nanmean(v, 0) for v in enough], 0)
            weight[known] = np.maximum(within, 1e-9) / np.maximum(between, 1e-6 * np.maximum(within, 1e-9))
        return cls(tuple(mean.tolist()), tuple(std.tolist()), tuple(weight.tolist()))


@dataclass
class VoiceStatistics:
    """Running statistics of one speaker's prosody, shrunk towards the prior: causal normalisation."""

    count: Array
    """[7] float32: number of utterances in which the column was known."""
    total: Array
    """[7] float32: sum of the columns' z-scores by the prior."""
    square: Array
    """[7] float32: sum of the squared z-scores."""

    @classmethod
    def empty(cls) -> VoiceStatistics:
        """Statistics of a speaker without utterances."""
        zeros = np.zeros((3, len(COLUMNS)), dtype=np.float32)
        return cls(*zeros)

    def describe(self, values: Array, prior: ProsodyPrior) -> Array:
        """[21] float32 features of raw values [7] float32: z-score by the prior, z-score by this speaker so far, 1 if
        known.

        The scores of unknown values are 0, the mean. The values are added to the speaker's statistics afterwards.
        """
        mean, std = np.asarray(prior.mean, np.float32), np.asarray(prior.std, np.float32)
        weight = np.asarray(prior.weight, np.float32)
        known = np.isfinite(values)
        score = np.where(known, (values - mean) / std, 0).clip(-5, 5).astype(np.float32)
        centre = self.total / (weight + self.count)
        spread = (weight + 1 + self.square - self.count * (self.total / np.maximum(self.count, 1)) ** 2) / (
            weight + 1 + self.count
        )
        own = np.where(known, (score - centre) / np.sqrt(np.maximum(spread, 0.05)), 0).clip(-5, 5)
        self.count = self.count + known
        self.total = self.total + score
        self.square = self.square + score**2
        return np.concatenate([score, own, known]).astype(np.float32)
