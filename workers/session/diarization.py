"""Diarization on one channel: an utterance is cut where the voice changes, and each piece is given to a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from model.encoders.prosody import Array
from stream.block import RATE, Samples, Utterance
from stream.speech.speakers import Speaker, SpeakerClusters
from workers.session.snapshot import SpeakerSnapshot

if TYPE_CHECKING:
    from model.encoders.speaker import SpeakerEncoder


@dataclass(frozen=True)
class SpeakerSegment:
    """A stretch of an utterance in one voice."""

    start: float
    end: float
    """Seconds from the utterance's first sample."""
    voice: Array
    """[256] unit vector."""
    narrowband: bool = False
    """Telephone bandwidth, in which voices are more alike."""


SegmentSpeakers = Callable[[Utterance], Awaitable[list[SpeakerSegment]]]
"""`speaker_segments`, wherever it runs."""


def speaker_segments(encoder: SpeakerEncoder, samples: Samples) -> list[SpeakerSegment]:
    """Stretches of an utterance in one voice each, in order and without gaps. samples: [n] float32 at 16 kHz."""
    from model.encoders.speaker import narrowband  # sessions tell speakers apart without PyTorch

    edges = [0.0, *encoder.changes(samples), len(samples) / RATE]
    cuts = [(a, b, samples[round(a * RATE) : round(b * RATE)]) for a, b in pairwise(edges)]
    return [SpeakerSegment(a, b, encoder(cut), narrowband(cut)) for a, b, cut in cuts]


class Diarization:
    """The speakers of a session."""

    def __init__(self, enrolled: Mapping[str, Array], segment_speakers: SegmentSpeakers) -> None:
        """enrolled: [256] unit vectors of known voices, by name."""
        self._clusters, self._segment_speakers = SpeakerClusters(enrolled), segment_speakers

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
            speaker, merged = self._clusters.assign(part.voice, part.end - part.start, part.narrowband)
            merges += merged
            start, last = whole.start + part.start, n == len(parts) - 1
            end = whole.end if last else whole.start + part.end
            if spoken and spoken[-1][1] == speaker:  # the voice only sounded different
                start = spoken.pop()[0].start
            first = round((start - whole.start) * RATE)
            samples = whole.samples[first : None if last else first + round((end - start) * RATE)]
            frames = tuple(frame for frame in whole.frames if start <= frame.time < end)
            onset = whole.onset if start == whole.start else None
            spoken.append((replace(whole, start=start, end=end, samples=samples, frames=frames, onset=onset), speaker))
        return spoken, merges

    async def guess(self, going_on: Utterance) -> str:
        """The speaker at the end of an utterance that goes on, as far as is known; the clusters stay as they are."""
        if going_on.speaker is not None:
            return going_on.speaker
        (*_, last) = await self._segment_speakers(going_on)
        return self._clusters.nearest(last.voice) or "speaker 1"

    def snapshot(self) -> tuple[list[SpeakerSnapshot], int]:
        """The clusters, and the number of speakers without a name so far."""
        speakers = [
            SpeakerSnapshot(name=each.name, total=each.total, seconds=each.seconds, enrolled=each.enrolled)
            for each in self._clusters.speakers
        ]
        return speakers, self._clusters.unnamed

    def restore(self, speakers: Sequence[SpeakerSnapshot], unnamed: int) -> None:
        """Go on with another process's clusters."""
        self._clusters.speakers = [Speaker(each.name, each.total, each.seconds, each.enrolled) for each in speakers]
        self._clusters.unnamed = unnamed
