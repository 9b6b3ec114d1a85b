"""Online speaker clustering on one channel, by voice embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VoiceEmbedding = NDArray[np.float32]
"""A voice embedding: unit vector, float32 [d]."""


@dataclass
class Speaker:
    """A known voice."""

    name: str
    total: VoiceEmbedding
    """Sum of embeddings, each weighted by its duration in seconds."""
    seconds: float
    """Total duration of the speech behind `total`, at most `SpeakerClusters.MAX_CENTRE_S`."""
    enrolled: bool = False

    @property
    def centre(self) -> VoiceEmbedding:
        """Weighted mean of the embeddings, scaled to a unit vector, float32 [d]."""
        centre: VoiceEmbedding = self.total / max(float(np.linalg.norm(self.total)), 1e-9)
        return centre


class SpeakerClusters:
    """Online clustering: assigns each utterance to the most similar known voice, or to a new speaker.

    Embeddings are unit vectors, float32 [d]; similarity is their dot product. Two speakers that turn out to be one are
    merged into the earlier one. Memory is bounded: at most `max_speakers` speakers with one vector each.
    """

    SAME_SPEAKER = 0.70
    """Minimum similarity to a centre for an utterance of 3 s or more to be that speaker's; see `_threshold`."""
    TELEPHONE_SHIFT = 0.12
    """Added to the threshold for narrow-band audio, in which voices are more alike (LibriSpeech, filtered: mean
    similarity of different speakers 0.60 instead of 0.48)."""
    MERGE_SPEAKERS = 0.84
    """Minimum similarity of two centres, each of at least `MIN_MERGE_S` seconds, to merge their speakers."""
    MIN_MERGE_S = 4.0
    """Minimum speech of a speaker, in seconds, before a merge."""
    AMBIGUITY_MARGIN = 0.04
    """An utterance whose two best similarities differ by less (two people talk at once, say) updates no centre, unless
    the best reaches `MERGE_SPEAKERS`."""
    MIN_NEW_SPEAKER_S = 0.8
    """Minimum duration of an utterance, in seconds, to create a new speaker."""
    MAX_CENTRE_S = 60.0
    """Maximum weight of a centre, in seconds of speech, so that it can follow a voice that drifts."""

    def __init__(self, enrolled: Mapping[str, VoiceEmbedding] | None = None, max_speakers: int = 8) -> None:
        """enrolled: known voices by name, unit vectors float32 [d]; max_speakers: raised to the number of these."""
        self.speakers = [
            Speaker(name, voice * self.MIN_MERGE_S, self.MIN_MERGE_S, True) for name, voice in (enrolled or {}).items()
        ]
        self._max_speakers = max(max_speakers, len(self.speakers))
        self.unnamed = 0

    def assign(
        self, voice: VoiceEmbedding, seconds: float, narrowband: bool = False
    ) -> tuple[str, list[tuple[str, str]]]:
        """Assign an utterance to a speaker and learn from it.

        voice: embedding, unit vector float32 [d]; seconds: duration of the utterance; narrowband: telephone audio.
        Returns the speaker's name ("speaker 1", … in order of appearance, or an enrolled name) and the merges that
        followed, as (merged speaker, remaining speaker).
        """
        alike = [float(voice @ speaker.centre) for speaker in self.speakers]
        order = np.argsort(alike)[::-1]
        nearest = self.speakers[order[0]] if len(order) else None
        if nearest is None or alike[order[0]] < self._threshold(seconds) + self.TELEPHONE_SHIFT * narrowband:
            if nearest is None or (seconds >= self.MIN_NEW_SPEAKER_S and len(self.speakers) < self._max_speakers):
                self.unnamed += 1
                self.speakers.append(Speaker(f"speaker {self.unnamed}", voice * seconds, seconds))
                return self.speakers[-1].name, []
            return nearest.name, []
        is_ambiguous = len(order) > 1 and alike[order[0]] - alike[order[1]] < self.AMBIGUITY_MARGIN
        if is_ambiguous and alike[order[0]] < self.MERGE_SPEAKERS:
            return nearest.name, []
        nearest.total = nearest.total * min(1.0, self.MAX_CENTRE_S / (nearest.seconds + seconds)) + voice * seconds
        nearest.seconds = min(nearest.seconds + seconds, self.MAX_CENTRE_S)
        merged = self._merge()
        into = dict(merged)
        return into.get(nearest.name, nearest.name), merged

    def nearest(self, voice: VoiceEmbedding) -> str | None:
        """Name of the speaker most similar to an embedding (unit vector float32 [d]), or None; learns nothing."""
        return max(self.speakers, key=lambda speaker: float(voice @ speaker.centre)).name if self.speakers else None

    def _threshold(self, seconds: float) -> float:
        """Minimum similarity for an utterance; lower for short ones, whose embeddings scatter more."""
        return self.SAME_SPEAKER - 0.05 * max(0.0, 3.0 - seconds)

    def _merge(self) -> list[tuple[str, str]]:
        """Merge speakers with similar centres; returns (merged speaker, remaining speaker) for each."""
        merged = []
        for n, speaker in enumerate(list(self.speakers)):
            for other in self.speakers[:n]:
                if (speaker.enrolled and other.enrolled) or min(speaker.seconds, other.seconds) < self.MIN_MERGE_S:
                    continue
                if speaker in self.speakers and float(speaker.centre @ other.centre) > self.MERGE_SPEAKERS:
                    self.speakers.remove(speaker)
                    other.total, other.seconds = other.total + speaker.total, other.seconds + speaker.seconds
                    merged.append((speaker.name, other.name))
        return merged
