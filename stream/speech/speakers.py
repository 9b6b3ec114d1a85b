"""Telling speakers apart on one channel, by embeddings of their voices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Voice = NDArray[np.float32]


@dataclass
class Speaker:
    """A voice that is known."""

    name: str
    total: Voice
    """Sum of embeddings, each weighted by its seconds."""
    seconds: float
    enrolled: bool = False

    @property
    def centre(self) -> Voice:
        centre: Voice = self.total / max(float(np.linalg.norm(self.total)), 1e-9)
        return centre


class SpeakerClusters:
    """Online clustering: the most similar known voice, or a new speaker if none is similar enough.

    Embeddings are unit vectors; similarity is their dot product. A speaker who turns out to be another one is merged
    into the one that was there first. Bounded: at most `most` speakers, of whom each keeps one vector.
    """

    SAME = 0.70
    """Similarity to a voice's centre that makes an utterance of 3 s or more its own; see `_threshold`."""
    TELEPHONE = 0.12
    """By which voices are more alike over a telephone (LibriSpeech, filtered: other speakers 0.60 instead of 0.48)."""
    MERGE = 0.84
    """Similarity of two centres, each of `SURE` seconds, that makes them one speaker."""
    SURE = 4.0
    MARGIN = 0.04
    """An utterance not very like one voice, and as like a second (two talk at once), teaches nothing."""
    SHORTEST = 0.8
    """Seconds; a shorter utterance never makes a new speaker."""
    MEMORY = 60.0
    """Seconds of speech that a centre rests on, so that a voice may drift."""

    def __init__(self, enrolled: Mapping[str, Voice] | None = None, most: int = 8) -> None:
        self.speakers = [Speaker(name, voice * self.SURE, self.SURE, True) for name, voice in (enrolled or {}).items()]
        self._most = max(most, len(self.speakers))
        self.unnamed = 0

    def assign(self, voice: Voice, seconds: float, narrowband: bool = False) -> tuple[str, list[tuple[str, str]]]:
        """The speaker of an utterance ("speaker 1", … in order of appearance, or an enrolled name), and the speakers
        that this made us merge: (who, into whom). narrowband: heard over a telephone."""
        alike = [float(voice @ speaker.centre) for speaker in self.speakers]
        order = np.argsort(alike)[::-1]
        nearest = self.speakers[order[0]] if len(order) else None
        if nearest is None or alike[order[0]] < self._threshold(seconds) + self.TELEPHONE * narrowband:
            if nearest is None or (seconds >= self.SHORTEST and len(self.speakers) < self._most):
                self.unnamed += 1
                self.speakers.append(Speaker(f"speaker {self.unnamed}", voice * seconds, seconds))
                return self.speakers[-1].name, []
            return nearest.name, []
        between = len(order) > 1 and alike[order[0]] - alike[order[1]] < self.MARGIN
        if between and alike[order[0]] < self.MERGE:
            return nearest.name, []
        nearest.total = nearest.total * min(1.0, self.MEMORY / (nearest.seconds + seconds)) + voice * seconds
        nearest.seconds = min(nearest.seconds + seconds, self.MEMORY)
        merged = self._merge()
        into = dict(merged)
        return into.get(nearest.name, nearest.name), merged

    def nearest(self, voice: Voice) -> str | None:
        """Who it most likely is, so far; learns nothing."""
        return max(self.speakers, key=lambda speaker: float(voice @ speaker.centre)).name if self.speakers else None

    def _threshold(self, seconds: float) -> float:
        """Embeddings of short utterances scatter more."""
        return self.SAME - 0.05 * max(0.0, 3.0 - seconds)

    def _merge(self) -> list[tuple[str, str]]:
        merged = []
        for n, speaker in enumerate(list(self.speakers)):
            for other in self.speakers[:n]:
                if (speaker.enrolled and other.enrolled) or min(speaker.seconds, other.seconds) < self.SURE:
                    continue
                if speaker in self.speakers and float(speaker.centre @ other.centre) > self.MERGE:
                    self.speakers.remove(speaker)
                    other.total, other.seconds = other.total + speaker.total, other.seconds + speaker.seconds
                    merged.append((speaker.name, other.name))
        return merged
