"""Online speaker clustering on one channel, by voice embeddings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stream.speech.turns import MOST_PEOPLE

VoiceEmbedding = NDArray[np.float32]
"""A voice embedding: unit vector, float32 [d]."""

HALF_RELIABLE_S = 0.9
"""Seconds of speech at which half of an embedding's variance is the speaker and half is what is said (fitted to pieces
of 0.4 … 3 s of LibriSpeech)."""
OVERLAP_S = 0.3
"""Seconds by which two utterances must overlap to count as two people's."""


def reliability(seconds: float) -> float:
    """Expected similarity of two embeddings of one voice, each of so many seconds of speech, 0 … 1."""
    return seconds / (seconds + HALF_RELIABLE_S)


def likeness(one: VoiceEmbedding, seconds: float, other: VoiceEmbedding, other_seconds: float) -> float:
    """Similarity of two voices, whatever their durations: about 1 for the same voice, near 0 for two different ones.

    one, other: unit vectors of so many seconds of speech; their dot product is divided by what it would be in the mean
    for one voice.
    """
    return float(one @ other) / float(np.sqrt(reliability(seconds) * reliability(other_seconds)))


@dataclass
class Speaker:
    """A known voice."""

    name: str
    total: VoiceEmbedding
    """Sum of embeddings, each weighted by its duration in seconds."""
    seconds: float
    """Total duration of the speech behind `total`, at most `SpeakerClusters.MAX_CENTRE_S`; 0 = the voice is not known
    yet, because others talked at the same time or there was too little of it."""
    enrolled: bool = False
    apart: set[str] = field(default_factory=set)
    """Speakers who have talked at the same time, and so are others."""

    @property
    def centre(self) -> VoiceEmbedding:
        """Weighted mean of the embeddings, scaled to a unit vector, float32 [d]."""
        centre: VoiceEmbedding = self.total / max(float(np.linalg.norm(self.total)), 1e-9)
        return centre


class SpeakerClusters:
    """Online clustering: assigns each utterance to the most similar known voice, or to a new speaker.

    Embeddings are unit vectors, float32 [d]; they are compared by `likeness`. Two speakers that turn out to be one are
    merged into the earlier one, unless they have spoken at the same time. Memory is bounded: one vector a speaker.
    """

    SAME = 0.5
    """Likeness from which on an utterance is a known speaker's."""
    APART = 0.2
    """Likeness that counts against a speaker who talks at the same time: the network that hears both at once may be
    wrong, and hear one voice as two."""
    MERGE = 0.65
    """Likeness from which on two speakers are one."""
    MIN_MERGE_S = 1.0
    """Speech of a speaker, in seconds, before a merge."""
    MIN_NEW_S = 0.6
    """Speech in an utterance, in seconds, that makes a new speaker."""
    MIN_LEARN_S = 0.4
    """Speech in an utterance, in seconds, that a known speaker's centre learns from."""
    MAX_CENTRE_S = 60.0
    """Maximum weight of a centre, in seconds of speech, so that it can follow a voice that drifts."""

    def __init__(
        self, enrolled: Mapping[str, VoiceEmbedding] | None = None, people: tuple[int, int] = (1, MOST_PEOPLE)
    ) -> None:
        """enrolled: known voices by name, unit vectors float32 [d]; people: fewest and most speakers. The most are
        raised to the number of enrolled voices."""
        self.speakers = [
            Speaker(name, voice * self.MAX_CENTRE_S, self.MAX_CENTRE_S, True)
            for name, voice in (enrolled or {}).items()
        ]
        self._fewest, self._most = people[0], max(people[1], len(self.speakers))
        self.unnamed = 0
        """Number of speakers so far who had to be given a name."""

    def assign(
        self, voice: VoiceEmbedding, seconds: float, apart: Collection[str] = ()
    ) -> tuple[str, list[tuple[str, str]]]:
        """Assign an utterance to a speaker and learn from it.

        voice: embedding, unit vector float32 [d]; seconds: speech behind it; apart: speakers of whom it is hardly one,
        because they talk at the same time. Returns the speaker's name ("speaker 1", … in order of appearance, or an
        enrolled name) and the merges that followed, as (merged speaker, remaining speaker).
        """
        heard = [each for each in self.speakers if each.seconds > 0]
        alike = {
            each.name: likeness(voice, max(seconds, 0.1), each.centre, each.seconds) - self.APART * (each.name in apart)
            for each in heard
        }
        nearest = max(heard, key=lambda each: alike[each.name], default=None)
        if nearest is None or (alike[nearest.name] < self.SAME and seconds >= self.MIN_NEW_S):
            unheard = [each for each in self.speakers if not each.seconds and each.name not in apart]
            if not unheard and (len(self.speakers) < self._most or not self.speakers):
                self.unnamed += 1
                unheard = [Speaker(f"speaker {self.unnamed}", np.zeros_like(voice), 0.0)]
                self.speakers += unheard
            nearest = unheard[0] if unheard else nearest or self.speakers[0]
        self._keep_apart(nearest, apart)
        learns = not nearest.seconds or alike[nearest.name] >= self.SAME
        if learns and seconds >= (self.MIN_LEARN_S if nearest.seconds else self.MIN_NEW_S):
            nearest.total = nearest.total * min(1.0, self.MAX_CENTRE_S / (nearest.seconds + seconds)) + voice * seconds
            nearest.seconds = min(nearest.seconds + seconds, self.MAX_CENTRE_S)
        merged = self._merge()
        into = dict(merged)
        return into.get(nearest.name, nearest.name), merged

    def nearest(self, voice: VoiceEmbedding, apart: Collection[str] = ()) -> str | None:
        """Name of the speaker most similar to an embedding (unit vector float32 [d]), or None; learns nothing."""
        heard = [each for each in self.speakers if each.seconds > 0] or self.speakers
        possible = [each for each in heard if each.name not in apart] or heard
        return max(possible, key=lambda each: float(voice @ each.centre)).name if possible else None

    def _keep_apart(self, speaker: Speaker, others: Collection[str]) -> None:
        """A speaker and others have talked at the same time."""
        for other in self.speakers:
            if other.name in others and other is not speaker:
                speaker.apart.add(other.name)
                other.apart.add(speaker.name)

    def _merge(self) -> list[tuple[str, str]]:
        """Merge speakers with similar centres; returns (merged speaker, remaining speaker) for each."""
        merged: list[tuple[str, str]] = []
        while len(self.speakers) > self._fewest:
            pairs = [
                (likeness(one.centre, one.seconds, other.centre, other.seconds), one, other)
                for one, other in combinations(self.speakers, 2)
                if min(one.seconds, other.seconds) >= self.MIN_MERGE_S
                and not (one.enrolled and other.enrolled)
                and other.name not in one.apart
            ]
            alike, one, other = max(pairs, key=lambda pair: pair[0], default=(0.0, None, None))
            if one is None or other is None or alike < self.MERGE:
                break
            one.total = one.total + other.total
            one.seconds = min(one.seconds + other.seconds, self.MAX_CENTRE_S)
            self.speakers.remove(other)
            self._keep_apart(one, other.apart)
            merged.append((other.name, one.name))
        return merged
