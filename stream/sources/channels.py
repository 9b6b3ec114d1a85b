"""The two channels of a file: a speaker each, or one scene that two microphones hear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.block import RATE, Samples
from stream.speech.crosstalk import WINDOW_SAMPLES, Crosstalk
from stream.speech.vad import HighPass, decibels

APART_DB = 6.0
"""A sound that is on both channels belongs to the one that is louder by this much; else to both."""
ABOVE_FLOOR_DB = 10.0
"""Level above a channel's background from which it says something."""
QUIET_DBFS = -60.0
SHORTEST_ALONE_S = 1.0
"""Both channels must be heard alone for so long, to be a speaker each."""
ENOUGH_S = 60.0
"""Seconds of sound of one kind after which no more of the file is looked at, if there is next to none of the other."""
CHECK_EVERY = 250  # windows (30 s) between two looks at the evidence


@dataclass(frozen=True)
class Channels:
    """The content of two channels."""

    apart: bool
    """True if each has a speaker of its own."""
    weights: tuple[float, float] | None = None
    """Factors with which the two are added up to one; None: any downmix will do."""


class _Evidence:
    """Per window of 120 ms: both levels, and how one channel repeats the other."""

    def __init__(self) -> None:
        self._levels: list[tuple[float, float]] = []
        self._balance: list[float] = []  # dB by which the first is louder where one repeats the other; else NaN
        self._plain: list[float] = []  # correlation where one repeats the other without delay; else NaN

    def add(self, window: Samples, crosstalk: Crosstalk) -> None:
        """window: float32 [2, n]; crosstalk: has just processed it."""
        self._levels.append((decibels(window[0]), decibels(window[1])))
        balance = plain = np.nan
        for channel, repetition in enumerate(crosstalk.repetitions):
            if repetition is not None:
                balance = repetition.lead_db if channel == 1 else -repetition.lead_db
                plain = repetition.correlation if repetition.delay == 0 else np.nan
        self._balance.append(balance)
        self._plain.append(plain)

    def seconds(self) -> tuple[float, float, float]:
        """Seconds for which only the first channel is heard, only the second one, and both with the same sound."""
        loud = self._loud()
        balance = np.array(self._balance)
        same = ~np.isnan(balance)
        first = loud[:, 0] & np.where(same, balance >= APART_DB, ~loud[:, 1])
        second = loud[:, 1] & np.where(same, balance <= -APART_DB, ~loud[:, 0])
        both = loud.all(1) & same & (np.abs(balance) < APART_DB)
        one, other, common = (float(part.sum()) * WINDOW_SAMPLES / RATE for part in (first, second, both))
        return one, other, common

    def verdict(self) -> Channels:
        first, second, both = self.seconds()
        if min(first, second) >= SHORTEST_ALONE_S and first + second >= both:
            return Channels(apart=True)
        loud, levels = self._loud(), np.array(self._levels)
        if not loud.all(0).any() and loud.any(0).sum() < 2:  # the other has nothing but its background
            return Channels(False, (1.0, 0.0) if loud[:, 0].any() else (0.0, 1.0)) if loud.any() else Channels(False)
        repeated = ~np.isnan(np.array(self._balance)) & loud.all(1)
        if not repeated.any() or both < SHORTEST_ALONE_S:
            return Channels(False)
        plain = np.array(self._plain)[repeated]
        if np.isnan(plain).mean() > 0.2:  # a delay: their sum would be a comb filter
            margin = [float(np.median(levels[repeated, c])) - self._floors()[c] for c in (0, 1)]
            return Channels(False, (1.0, 0.0) if margin[0] >= margin[1] else (0.0, 1.0))
        return Channels(False) if np.nanmedian(plain) > 0 else Channels(False, (0.5, -0.5))

    def is_enough(self) -> bool:
        """True if the rest of the file can hardly change the verdict."""
        first, second, both = self.seconds()
        if min(first, second) >= ENOUGH_S / 4 and first + second >= 4 * both:
            return True
        return both >= ENOUGH_S and first + second < both / 10

    def _floors(self) -> NDArray[np.float64]:
        floors: NDArray[np.float64] = np.percentile(np.array(self._levels), 10, axis=0)
        return np.maximum(floors, QUIET_DBFS - ABOVE_FLOOR_DB)

    def _loud(self) -> NDArray[np.bool_]:
        """bool [windows, 2]"""
        return np.array(self._levels) > np.maximum(self._floors() + ABOVE_FLOOR_DB, QUIET_DBFS)


def judge_channels(pieces: Iterable[Samples]) -> Channels:
    """Judge a file by all of its sound, or by as much of it as leaves no doubt.

    pieces: the sound in order, float32 [2, n] at 16 kHz. Two channels have a speaker each if each is heard alone, or
    much louder than the other with the same sound, for a second or more, and more often than both alike. One that has
    nothing but noise is not a speaker's; opposite phase is turned; of two that hear the same at different times the
    clearer one is taken.
    """
    evidence, crosstalk, rest = _Evidence(), Crosstalk(2), np.zeros((2, 0), np.float32)
    filters, count = (HighPass(), HighPass()), 0
    for piece in pieces:
        rest = np.concatenate([rest, np.stack([f(channel) for f, channel in zip(filters, piece, strict=True)])], 1)
        while rest.shape[1] >= WINDOW_SAMPLES:
            window, rest = rest[:, :WINDOW_SAMPLES], rest[:, WINDOW_SAMPLES:]
            crosstalk.push(window)
            evidence.add(window, crosstalk)
            count += 1
            if count % CHECK_EVERY == 0 and evidence.is_enough():
                return evidence.verdict()
    return evidence.verdict() if count else Channels(False)
