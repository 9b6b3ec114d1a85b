"""Speakers of a whole recording: agglomerative clustering by voice embeddings, when nothing has to be said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.speech.speakers import OVERLAP_S, SpeakerClusters, VoiceEmbedding, reliability
from stream.speech.turns import MOST_PEOPLE

SAME = 0.55
"""Likeness down to which two clusters are joined."""
MOST_VOICES = 2_000
"""Most voices that are joined pair by pair, the longest ones: memory and time grow with the square of their number."""


@dataclass(frozen=True)
class VoicedTurn:
    """A turn of a local speaker, and its voice."""

    start: float
    end: float
    """Seconds on the media clock."""
    local: int
    """Number of the local speaker."""
    voice: VoiceEmbedding
    """Unit vector, float32 [d]."""
    seconds: float
    """Seconds of speech behind it."""


def name_speakers(
    turns: Sequence[VoicedTurn],
    enrolled: Mapping[str, VoiceEmbedding] | None = None,
    people: tuple[int, int] = (1, MOST_PEOPLE),
) -> list[str]:
    """Name of each turn's speaker: an enrolled one, or "speaker 1", … in order of appearance.

    Clusters, of one turn each at first, are joined in the order of their likeness, as `stream.speech.speakers` defines
    it; turns with little speech then go to the nearest cluster. enrolled: known voices by name, unit vectors float32
    [d]; people: fewest and most speakers.
    """
    enrolled = enrolled or {}
    by_length = sorted(range(len(turns)), key=lambda n: -turns[n].seconds)
    long = [n for n in by_length if turns[n].seconds >= SpeakerClusters.MIN_NEW_S][:MOST_VOICES] or by_length[:1]
    if not long:
        return []
    known = SpeakerClusters.MAX_CENTRE_S
    voices = np.stack([*enrolled.values(), *(turns[n].voice for n in long)]).astype(np.float64)
    seconds = np.array([known] * len(enrolled) + [max(turns[n].seconds, 0.1) for n in long])
    apart = np.zeros((len(voices),) * 2)
    apart[: len(enrolled), : len(enrolled)] = np.inf
    apart[len(enrolled) :, len(enrolled) :] = SpeakerClusters.APART * _overlapping([turns[n] for n in long])
    members = _joined(voices * seconds[:, None], seconds, apart, people)
    centres = {first: (voices[group] * seconds[group, None]).sum(0) for first, group in members.items()}
    owner = {long[n - len(enrolled)]: first for first, group in members.items() for n in group if n >= len(enrolled)}
    for n, turn in enumerate(turns):
        if n not in owner:
            owner[n] = max(
                centres, key=lambda first: float(centres[first] @ turn.voice) / np.linalg.norm(centres[first])
            )
    names = dict(enumerate(enrolled))
    unnamed = 0
    for n in sorted(owner, key=lambda n: turns[n].start):
        known_name = next((names[each] for each in members[owner[n]] if each < len(enrolled)), None)
        if known_name is not None:
            names[owner[n]] = known_name
        elif owner[n] not in names:
            unnamed += 1
            names[owner[n]] = f"speaker {unnamed}"
    return [names[owner[n]] for n in range(len(turns))]


def _overlapping(turns: Sequence[VoicedTurn]) -> NDArray[np.bool_]:
    """[n, n]: which turns are of two local speakers at the same time."""
    start, end, local = (np.array([getattr(turn, name) for turn in turns]) for name in ("start", "end", "local"))
    shared = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    overlapping: NDArray[np.bool_] = (shared > OVERLAP_S) & (local[:, None] != local)
    return overlapping


def _joined(
    totals: NDArray[np.float64], seconds: NDArray[np.float64], apart: NDArray[np.float64], people: tuple[int, int]
) -> dict[int, list[int]]:
    """Members of each cluster, by the number of its first one.

    totals: [n, d] sums of embeddings, weighted by `seconds` [n]; apart: [n, n], what is taken from a pair's likeness.
    """
    totals, seconds, apart = totals.copy(), seconds.copy(), apart.copy()
    members = {n: [n] for n in range(len(totals))}
    units = totals / np.maximum(np.linalg.norm(totals, axis=1, keepdims=True), 1e-9)
    weights = np.sqrt([reliability(each) for each in seconds])
    alike = units @ units.T / np.outer(weights, weights) - apart
    np.fill_diagonal(alike, -np.inf)
    while len(members) > max(1, people[0]):
        one, other = sorted(divmod(int(alike.argmax()), len(alike)))
        if alike[one, other] == -np.inf or (alike[one, other] < SAME and len(members) <= people[1]):
            break
        members[one] += members.pop(other)
        totals[one] += totals[other]
        seconds[one] += seconds[other]
        apart[one] = apart[:, one] = np.maximum(apart[one], apart[other])
        units[one] = totals[one] / max(float(np.linalg.norm(totals[one])), 1e-9)
        weights[one] = np.sqrt(reliability(float(seconds[one])))
        row = units @ units[one] / (weights * weights[one]) - apart[one]
        gone = [n for n in range(len(alike)) if n not in members]
        row[[one, *gone]] = -np.inf
        alike[one] = alike[:, one] = row
        alike[other] = alike[:, other] = -np.inf
    return members
