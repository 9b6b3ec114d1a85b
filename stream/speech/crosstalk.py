"""The same speech on several channels: which channel repeats which, and a gate that leaves it to one of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stream.block import BLOCK_SAMPLES, RATE, Samples
from stream.speech.vad import HighPass, decibels

WINDOW_SAMPLES = 3 * BLOCK_SAMPLES
"""Samples (120 ms) of one channel that are looked for in another."""
MAX_DELAY_SAMPLES = RATE // 4
"""Largest delay of a repetition: 250 ms, an echo by way of a loudspeaker and a network."""
MAX_LEAD_SAMPLES = RATE // 100
"""By so much the quieter channel may be the earlier one: 10 ms, so 3.4 m of air."""

ALIKE = 0.4
"""Correlation from which two windows have the same sound, if the next two have it at the same delay. Of two people who
speak at once (LibriSpeech, all pairs of six readers) one window in a thousand reaches 0.42 at any delay."""
STILL_ALIKE = 0.15
"""The same at a delay that is known: of two people 1 window in 140 reaches it; of one person through a room with as
much echo as direct sound 95 in 100 do."""
SAME_DELAY_SAMPLES = 8
QUIET_DB = -75.0
"""Level of the difference signal below which there is only background."""
HEARD_DB = 1.0
"""Level above its background from which a channel has anything else."""
SPEECH_DB = 6.0
"""Level above a channel's background from which it says something."""
FLOOR_BLOCKS = 125
"""Blocks (5 s) whose quietest one is the level of the background."""
TIE_DB = 3.0
"""A channel that repeats another must be this much louder before the two change places."""

Spectrum = Callable[[int], NDArray[np.complexfloating]]
"""The spectrum of a channel's signal."""

_SPAN = MAX_DELAY_SAMPLES + WINDOW_SAMPLES + MAX_LEAD_SAMPLES
_FFT_SIZE = 6144  # 2 ** 11 * 3, the next above _SPAN that is fast


@dataclass(frozen=True)
class Repetition:
    """One channel's sound is another's, which is louder."""

    channel: int
    """The louder channel."""
    lead_db: float
    """By so many dB it is louder."""
    correlation: float
    """-1 … 1; negative: in opposite phase."""
    delay: int
    """Samples by which the quieter channel is later."""


class Crosstalk:
    """Finds, block by block, which channels repeat another one.

    Windows of the channels' difference signals (low frequencies, such as mains hum, are alike everywhere) are compared
    at all delays. A delay that two windows in a row have in common is remembered: the way from a mouth to a microphone
    is the same for a long time. A channel at the level of its background is nobody's speech, so nobody repeats it.
    """

    def __init__(self, channels: int) -> None:
        self._levels = [deque([QUIET_DB], maxlen=FLOOR_BLOCKS) for _ in range(channels)]
        self._recent: Samples = np.zeros((channels, _SPAN + 1), np.float32)
        self._paths: dict[tuple[int, int], int] = {}
        self._candidates: dict[tuple[int, int], int] = {}
        self.repetitions: list[Repetition | None] = [None] * channels
        """For each channel, the one that it repeats in the last window."""

    def push(self, samples: Samples) -> list[Repetition | None]:
        """Process the next samples, float32 [channels, n], n <= `WINDOW_SAMPLES`, which have been through a `HighPass`;
        returns `repetitions`."""
        self._recent = np.concatenate([self._recent, samples], 1)[:, -(_SPAN + 1) :]
        signal = np.diff(self._recent)
        for levels, channel in zip(self._levels, signal, strict=True):
            levels.append(decibels(channel[-WINDOW_SAMPLES:]))
        energies = [float(np.dot(channel, channel)) for channel in signal]
        spectrum = cache(lambda channel: np.fft.rfft(signal[channel], _FFT_SIZE))
        self.repetitions = [
            self._repetition(channel, signal, energies, spectrum) if levels[-1] > min(levels) + HEARD_DB else None
            for channel, levels in enumerate(self._levels)
        ]
        return self.repetitions

    def _repetition(
        self, channel: int, signal: Samples, energies: list[float], spectrum: Spectrum
    ) -> Repetition | None:
        """signal [channels, n]; energies: of each channel of it."""
        window = signal[channel, MAX_DELAY_SAMPLES : MAX_DELAY_SAMPLES + WINDOW_SAMPLES]
        energy = float(np.dot(window, window))
        others = [n for n, whole in enumerate(energies) if n != channel and whole > energy / 2]
        if not energy or not others:
            return None
        own = cache(lambda: np.conj(np.fft.rfft(window, _FFT_SIZE)))
        found = [self._compare(channel, other, own, energy, spectrum, signal[other]) for other in others]
        return max(filter(None, found), key=lambda repetition: repetition.lead_db, default=None)

    def _compare(
        self,
        channel: int,
        other: int,
        own: Callable[[], NDArray[np.complexfloating]],
        energy: float,
        spectrum: Spectrum,
        signal: Samples,
    ) -> Repetition | None:
        """The repetition of `other` by `channel`, if there is one; most windows are told apart without spectra."""
        total = np.concatenate([[0.0], np.cumsum(signal**2, dtype=np.float64)])
        energies = total[WINDOW_SAMPLES:] - total[:-WINDOW_SAMPLES]
        background = WINDOW_SAMPLES * 10 ** ((min(self._levels[other]) + SPEECH_DB) / 10)
        speech = energies > max(energy * 10 ** (self._least_lead(channel, other) / 10), background, 1e-12)
        if not speech.any():
            self._candidates.pop((channel, other), None)
            return None
        products = np.fft.irfft(spectrum(other) * own(), _FFT_SIZE)[: _SPAN - WINDOW_SAMPLES + 1]
        correlations = np.where(speech, products / np.sqrt(np.maximum(energies, 1e-12) * energy), 0.0)
        delay = self._delay(channel, other, correlations)
        if delay is None:
            return None
        lead = 10 * float(np.log10(energies[delay] / energy))
        return Repetition(other, lead, float(correlations[delay]), MAX_DELAY_SAMPLES - delay)

    def _delay(self, channel: int, other: int, correlations: NDArray[np.float64]) -> int | None:
        """Index of the delay with which `channel` repeats `other`; None if it does not.

        A sound of constant pitch is alike at many delays, so one that is known, or was found just before, is tried
        first.
        """
        pair = (channel, other)
        if pair in self._paths and (known := _best_near(correlations, self._paths[pair], STILL_ALIKE)) is not None:
            return known
        candidate = self._candidates.pop(pair, None)
        if candidate is not None and (again := _best_near(correlations, candidate, ALIKE)) is not None:
            self._paths[pair] = again
            return again
        best = int(np.abs(correlations).argmax())
        if abs(correlations[best]) >= ALIKE:
            self._candidates[pair] = best
        return None

    def _least_lead(self, channel: int, other: int) -> float:
        """By how many dB `other` must be the louder one now."""
        for quieter, louder, lead in ((channel, other, -TIE_DB), (other, channel, TIE_DB)):
            before = self.repetitions[quieter]
            if before is not None and before.channel == louder:
                return lead
        return 0.0


def _best_near(correlations: NDArray[np.float64], index: int, least: float) -> int | None:
    """Index of the largest correlation around one, if it is not less than `least`."""
    first = max(0, index - SAME_DELAY_SAMPLES)
    best = first + int(np.abs(correlations[first : index + SAME_DELAY_SAMPLES + 1]).argmax())
    return best if abs(correlations[best]) >= least else None


class CrosstalkGate:
    """Replaces what a channel repeats of another, louder one by noise as quiet as its own background.

    Who speaks at the same time with a voice of his own repeats nothing, and stays.
    """

    FIRST_FLOOR_DBFS = -65.0

    def __init__(self, channels: int) -> None:
        self._crosstalk = Crosstalk(channels)
        self._high_pass = HighPass()
        self._floors = [deque([self.FIRST_FLOOR_DBFS], maxlen=FLOOR_BLOCKS) for _ in range(channels)]
        self._noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
        self._muted = 0

    @property
    def muted_ms(self) -> int:
        """Milliseconds of repeated speech that were replaced, over all channels."""
        return round(1000 * self._muted / RATE)

    def push(self, samples: Samples, start: float) -> Samples:
        """The next samples, float32 [channels, n], without what each channel repeats of another.

        start: seconds on the media clock of the first one.
        """
        pieces, first, done = range(BLOCK_SAMPLES, samples.shape[1], BLOCK_SAMPLES), round(start * RATE), []
        for piece in np.split(samples, pieces, axis=1):
            done.append(self._gate(piece, first))
            first += piece.shape[1]
        return np.concatenate(done, 1)

    def _gate(self, piece: Samples, first: int) -> Samples:
        size, gated = piece.shape[1], piece
        for channel, repetition in enumerate(self._crosstalk.push(self._high_pass(piece))):
            if repetition is None:
                self._floors[channel].append(decibels(piece[channel] - piece[channel].mean()) if size else 0.0)
                continue
            gated = gated.copy() if gated is piece else gated
            background = 10 ** (min(self._floors[channel]) / 20)
            gated[channel] = background * np.take(self._noise, range(first, first + size), mode="wrap")
            self._muted += size
        return gated
