"""Diarization on one channel: an utterance is cut where the voice changes, and each piece is given to a cluster."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from model.encoders.prosody import Array
from model.encoders.speaker import VOICE_ENCODER
from stream.block import RATE, Samples, Utterance
from stream.speech.speakers import OVERLAP_S, Speaker, SpeakerClusters, likeness
from workers.session.snapshot import SpeakerSnapshot, SpokenTurn, VoicesSnapshot

if TYPE_CHECKING:
    from model.encoders.speaker import SpeakerEncoder

Stretches = Sequence[tuple[float, float]]
"""Stretches of time, in seconds."""

PIECE_S = 1.0  # pieces in which a stretch is compared with its neighbours
MIN_PIECE_S = 0.3  # shorter ones say nothing of a voice
MIN_CHANGE_LIKENESS = 0.6  # below, two neighbouring pieces are two voices
MEMORY_S = 30.0  # for which turns are remembered; longer than an utterance


@dataclass(frozen=True)
class SpeakerSegment:
    """A stretch of an utterance in one voice."""

    start: float
    end: float
    """Seconds from the utterance's first sample."""
    voice: Array
    """[256] unit vector."""
    seconds: float
    """Seconds of the voice alone behind it."""


SegmentSpeakers = Callable[[Utterance], Awaitable[list[SpeakerSegment]]]
"""`speaker_segments`, wherever it runs."""


def speaker_segments(
    encoder: SpeakerEncoder,
    samples: Samples,
    alone: Stretches | None = None,
    piece: float = PIECE_S,
    change: float = MIN_CHANGE_LIKENESS,
) -> list[SpeakerSegment]:
    """Stretches of an utterance in one voice each, in order and without gaps.

    samples: [n] float32 at 16 kHz; alone: stretches in which nobody else speaks; None = all of it. They are cut into
    pieces of about `piece` seconds, of which the most similar neighbours are joined as long as two sound like one
    voice, by a likeness of `change` or more.
    """
    length = len(samples) / RATE
    pieces = list(_pieces([(0.0, length)] if alone is None else alone, piece))
    if not pieces:
        seconds = sum(end - start for start, end in alone or ())
        return [SpeakerSegment(0.0, length, encoder(samples), seconds)]
    voices = encoder.stretches(samples, pieces)
    joined = [SpeakerSegment(a, b, voice, b - a) for (a, b), voice in zip(pieces, voices, strict=True)]
    while len(joined) > 1:
        alike = [likeness(a.voice, a.seconds, b.voice, b.seconds) for a, b in itertools.pairwise(joined)]
        n = int(np.argmax(alike))
        if alike[n] < change:
            break
        joined[n : n + 2] = [_together(joined[n], joined[n + 1])]
    edges = [0.0, *(segment.start for segment in joined[1:]), length]
    return [replace(s, start=a, end=b) for s, a, b in zip(joined, edges, edges[1:], strict=False)]


def _pieces(stretches: Stretches, seconds: float) -> Stretches:
    """Pieces of about so many seconds of stretches that are long enough."""
    pieces: list[tuple[float, float]] = []
    for start, end in stretches:
        if end - start >= MIN_PIECE_S:
            edges = np.linspace(start, end, max(1, round((end - start) / seconds)) + 1).tolist()
            pieces += itertools.pairwise(edges)
    return pieces


def _together(one: SpeakerSegment, other: SpeakerSegment) -> SpeakerSegment:
    total = one.voice * one.seconds + other.voice * other.seconds
    voice = (total / max(float(np.linalg.norm(total)), 1e-9)).astype(np.float32)
    return SpeakerSegment(one.start, other.end, voice, one.seconds + other.seconds)


class Diarization:
    """The speakers of a session."""

    def __init__(self, clusters: SpeakerClusters, segment_speakers: SegmentSpeakers) -> None:
        self._clusters, self._segment_speakers = clusters, segment_speakers
        self._turns: deque[SpokenTurn] = deque()

    async def tell_apart(self, whole: Utterance) -> tuple[list[tuple[Utterance, str]], list[tuple[str, str]]]:
        """The utterance with its speaker, or several where the voice changes; and merges of speakers: (speaker, into).

        Raises whatever the segmentation by voice raises.
        """
        if whole.speaker is not None:
            return [(whole, whole.speaker)], []
        parts = await self._segment_speakers(whole)
        spoken: list[tuple[Utterance, str]] = []
        merges: list[tuple[str, str]] = []
        for n, part in enumerate(parts):
            start, last = whole.start + part.start, n == len(parts) - 1
            end = whole.end if last else whole.start + part.end
            onset = start if n or whole.onset is None else whole.onset
            apart = self._talking(onset, end, whole.voice)
            speaker, merged = self._clusters.assign(part.voice, part.seconds, apart)
            merges += merged
            self._merge(merged)
            if spoken and spoken[-1][1] == speaker:  # the voice only sounded different
                start = spoken.pop()[0].start
            spoken.append((_part(whole, start, end, last), speaker))
            if whole.voice is not None:
                self._turns.append(SpokenTurn(start=onset, end=end, voice=whole.voice, speaker=speaker))
        while self._turns and self._turns[0].end < whole.end - MEMORY_S:
            self._turns.popleft()
        return spoken, merges

    async def guess(self, going_on: Utterance) -> str:
        """The speaker at the end of an utterance that goes on, as far as is known; the clusters stay as they are."""
        if going_on.speaker is not None:
            return going_on.speaker
        (*_, last) = await self._segment_speakers(going_on)
        apart = self._talking(going_on.start + last.start, going_on.end, going_on.voice)
        return self._clusters.nearest(last.voice, apart) or "speaker 1"

    def snapshot(self) -> VoicesSnapshot:
        """All that is known of the voices."""
        speakers = [
            SpeakerSnapshot(
                name=each.name, total=each.total, seconds=each.seconds, enrolled=each.enrolled, apart=each.apart
            )
            for each in self._clusters.speakers
        ]
        unnamed, turns = self._clusters.unnamed, list(self._turns)
        return VoicesSnapshot(encoder=VOICE_ENCODER, speakers=speakers, unnamed=unnamed, turns=turns)

    def restore(self, known: VoicesSnapshot) -> None:
        """Go on with another process's clusters; with their numbers alone where another encoder made them."""
        self._clusters.unnamed = known.unnamed
        if known.encoder == VOICE_ENCODER:
            self._clusters.speakers = [
                Speaker(each.name, each.total, each.seconds, each.enrolled, set(each.apart)) for each in known.speakers
            ]
            self._turns = deque(known.turns)

    def _talking(self, start: float, end: float, voice: int | None) -> set[str]:
        """Speakers who talk at the same time as a local speaker does, in seconds on the media clock."""
        return {
            turn.speaker
            for turn in self._turns
            if voice is not None and turn.voice != voice and min(end, turn.end) - max(start, turn.start) > OVERLAP_S
        }

    def _merge(self, merged: Sequence[tuple[str, str]]) -> None:
        into = dict(merged)
        self._turns = deque(
            turn.model_copy(update={"speaker": into.get(turn.speaker, turn.speaker)}) for turn in self._turns
        )


def _part(whole: Utterance, start: float, end: float, last: bool) -> Utterance:
    """The part of an utterance between two times, in seconds on the media clock. last: with the sound after its end."""
    if start == whole.start and last:
        return whole
    first = round((start - whole.start) * RATE)
    samples = whole.samples[first : None if last else first + round((end - start) * RATE)]
    frames = tuple(frame for frame in whole.frames if start <= frame.time < end)
    onset = whole.onset if start == whole.start else None
    return replace(whole, start=start, end=end, samples=samples, frames=frames, onset=onset, alone=None)
