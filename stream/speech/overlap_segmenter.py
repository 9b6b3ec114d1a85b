"""Utterances of several people on one channel, who may talk at the same time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stream.block import RATE, Samples, Utterance
from stream.speech.endpointing import Endpointer, Endpointing, Span
from stream.speech.local_speakers import FRAME, FRAME_S, LAST_CENTRE, WINDOW, LocalSpeakers, SpeakerActivity
from stream.speech.segmenter import SampleBuffer, silence
from stream.speech.vad import WebRtcVad, decibels

STEP = 30
"""Frames by which the window moves on (0.5 s)."""
LATENCY_S = 0.5
"""Seconds after which a frame is decided."""
ENDPOINTING = Endpointing(stop_threshold=0.5, onset=0.05, pre_roll=0.1, padding=0.1)
"""The network's edges of speech are sharper than a frame VAD's, so less sound is added, which others may fill; a lower
threshold within speech would bridge pauses of a second."""
LIKELY_SILENCE_S = 0.15
"""Silence at the end of what is heard after which an utterance has likely ended; not all of it is decided."""
FIRST_SYLLABLE_S = 0.5
"""A local speaker who talks less, up to another's onset, is that one: the network had not made up its mind."""
HANDOVER_S = 0.15
"""Seconds between the end of such a first syllable and the onset of the rest, at most."""
SAME_END_S = 3.5 * FRAME_S
"""An utterance that ends so near to where it had likely ended is taken as it was then: work on it has begun."""


@dataclass(frozen=True)
class Frame:
    """A decided frame of a local speaker."""

    end: float
    """Seconds on the media clock."""
    talks: bool
    others: bool
    """Somebody else talks."""


@dataclass
class LocalSpeaker:
    """A local speaker's endpointer, and the frames that his utterances may still need."""

    endpointer: Endpointer
    frames: deque[Frame] = field(default_factory=deque)
    likely: Utterance | None = None
    """His utterance, if it has likely ended."""


@dataclass(frozen=True)
class Syllable:
    """A short utterance that has ended, and may be the first syllable of another local speaker's."""

    number: int
    """The local speaker who said it."""
    span: Span
    frames: list[Frame]


class OverlapSegmenter:
    """Cuts utterances: one endpointer for each local speaker that a network hears in a sliding window.

    Two people who talk at once give two utterances. The sound of each is silent where only others talk; in its
    stretches `alone` nobody else does.
    """

    def __init__(
        self,
        activity: SpeakerActivity,
        options: Endpointing = ENDPOINTING,
        channel: int = 0,
        latency: float = LATENCY_S,
        step: int = STEP,
    ) -> None:
        """activity: the network; latency: seconds after which a frame is decided; step: frames between windows."""
        self._activity, self._options, self._channel = activity, options, channel
        self._step, self._latency = step, round(latency / FRAME_S)
        self._counts: Counter[str] = Counter()  # of local speakers that are gone
        self._buffer = SampleBuffer()
        self._speakers: dict[int, LocalSpeaker] = {}
        self._restart(first=0)

    def _restart(self, first: int) -> None:
        """Begin at the buffer's end, as if there had been silence before. first: number of the first local speaker."""
        self._locals = LocalSpeakers(self._step, self._latency, first)
        self._window: Samples = np.zeros(WINDOW, np.float32)
        self._quiet = WINDOW  # samples at the window's end in which there is nothing to hear
        self._rest: Samples = np.zeros(0, np.float32)  # samples that do not make a step yet
        self._syllables: list[Syllable] = []
        # The first frames that are decided lie before the first sample.
        self._decided = self._buffer.end - (self._latency * FRAME + LAST_CENTRE) / RATE + FRAME_S / 2

    @property
    def counts(self) -> Counter[str]:
        """Numbers of utterances split, joined and dropped."""
        return sum((speaker.endpointer.counts for speaker in self._speakers.values()), self._counts)

    def push(self, samples: Samples) -> list[Utterance]:
        """Process the next samples, float32 [n] at 16 kHz; returns the utterances that they complete."""
        self._buffer.append(samples)
        self._rest = np.concatenate([self._rest, samples])
        done: list[Utterance] = []
        size = self._step * FRAME
        while len(self._rest) >= size:
            step, self._rest = self._rest[:size], self._rest[size:]
            done += self._advance(step)
        return done

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close the current utterances; the next samples come `lost` seconds later."""
        end, size = self._buffer.end, self._step * FRAME
        undecided = np.zeros(self._latency * FRAME + LAST_CENTRE + size, np.float32)
        silent = np.concatenate([self._rest, undecided])
        done = [u for first in range(0, len(silent) - size + 1, size) for u in self._advance(silent[first:][:size])]
        done += [self._ended(syllable.number, syllable.span) for syllable in self._syllables]
        for number, speaker in self._speakers.items():
            if (span := speaker.endpointer.close()) is not None:
                done.append(self._ended(number, span))
            speaker.endpointer.drop_held()
        self._counts, self._speakers = self.counts, {}
        if lost:
            self._buffer.skip(lost)
        self._restart(self._locals.next)
        done = [replace(u, end=min(u.end, end), confirmed=end) for u in done if u.start < end]
        return sorted(done, key=lambda utterance: utterance.end)

    def ongoing(self) -> list[Utterance]:
        """The current utterances, up to what is decided."""
        current = {number: speaker.endpointer.current for number, speaker in self._speakers.items()}
        return [
            self._utterance(n, span, self._decided, self._speakers[n].frames)
            for n, span in current.items()
            if span is not None
        ]

    def likely_ended(self) -> list[Utterance]:
        """The current utterances after which a silence of `LIKELY_SILENCE_S` has begun."""
        return [speaker.likely for speaker in self._speakers.values() if speaker.likely is not None]

    def _advance(self, step: Samples) -> list[Utterance]:
        """Move the window on by a step; returns the utterances that end."""
        self._window = np.concatenate([self._window[len(step) :], step])
        self._quiet = self._quiet + len(step) if decibels(step - step.mean()) < WebRtcVad.QUIET_DBFS else 0
        silent = self._quiet >= WINDOW
        activity = self._locals.push(LocalSpeakers.SILENCE if silent else self._activity(self._window))
        for number in activity.keys() - self._speakers.keys():
            endpointer = Endpointer(self._options, FRAME_S, self._buffer.quietest)
            endpointer.skip_to(self._decided)
            self._speakers[number] = LocalSpeaker(endpointer)
        length = self._step + self._latency
        nothing = np.zeros(length, np.float32)
        known = {number: activity.get(number, nothing) for number in self._speakers}
        talks = {number: each >= self._options.stop_threshold for number, each in known.items()}
        last = {number: max(np.flatnonzero(each), default=-1) for number, each in talks.items()}
        ended: list[tuple[int, Span]] = []
        for frame in range(self._step):
            self._decided += FRAME_S
            talking = {number for number, each in talks.items() if each[frame]}
            for number, speaker in self._speakers.items():
                speaker.frames.append(Frame(self._decided, number in talking, bool(talking - {number})))
                silence_ahead = (length - 1 - frame) * FRAME_S if frame >= last[number] else 0.0
                was_idle = speaker.endpointer.start is None
                span = speaker.endpointer.advance(float(known[number][frame]), silence_ahead)
                if span is not None and span.end - span.onset < FIRST_SYLLABLE_S:
                    self._syllables.append(Syllable(number, span, list(speaker.frames)))
                elif span is not None:
                    ended.append((number, span))
                elif was_idle and speaker.endpointer.start is not None:
                    self._begin_with_syllable(speaker)
        latest = self._decided - HANDOVER_S - 2 * self._options.onset
        alone = [each for each in self._syllables if each.span.end < latest]
        self._syllables = [each for each in self._syllables if each.span.end >= latest]
        done = [self._ended(number, span) for number, span in [*((s.number, s.span) for s in alone), *ended]]
        for number, speaker in self._speakers.items():
            speaker.likely = self._likely(number, speaker, talks)
        self._forget(set(activity))
        return done

    def _begin_with_syllable(self, speaker: LocalSpeaker) -> None:
        """One has begun to talk: a short utterance of another that has just ended is the beginning."""
        begun = speaker.endpointer.current
        for syllable in self._syllables:
            if begun is not None and abs(begun.onset - syllable.span.end) <= HANDOVER_S:
                before = [replace(frame, others=False) for frame in syllable.frames if frame.end <= begun.onset]
                speaker.frames = deque([*before, *(frame for frame in speaker.frames if frame.end > begun.onset)])
                speaker.endpointer.begin_with(syllable.span)
                self._syllables.remove(syllable)
                return

    def _likely(self, number: int, speaker: LocalSpeaker, talks: dict[int, NDArray[np.bool_]]) -> Utterance | None:
        """An utterance that goes on, if it will have ended here unless what is undecided changes.

        talks: of each local speaker, the frames of the step, which are decided, and those after it.
        """
        span, ahead = speaker.endpointer.current, {n: each[self._step :] for n, each in talks.items()}
        if span is None:
            return None
        last = max(np.flatnonzero(ahead[number]), default=-1)
        end = self._decided + (last + 1) * FRAME_S if last >= 0 else span.end
        if (
            self._decided + self._latency * FRAME_S - end < LIKELY_SILENCE_S
            or end - span.onset < self._options.shortest
        ):
            return None
        if speaker.likely is not None and abs(end - speaker.likely.end) < SAME_END_S:
            return speaker.likely
        undecided = [
            Frame(
                self._decided + (n + 1) * FRAME_S, bool(mine), any(each[n] for o, each in ahead.items() if o != number)
            )
            for n, mine in enumerate(ahead[number])
        ]
        likely = Span(span.start, span.onset, end, span.padding)
        return self._utterance(number, likely, end + span.padding, [*speaker.frames, *undecided])

    def _ended(self, number: int, span: Span) -> Utterance:
        """The utterance that a local speaker has ended."""
        speaker, confirmed = self._speakers[number], max(self._decided + self._latency * FRAME_S, span.end)
        likely, speaker.likely = speaker.likely, None
        if likely is not None and likely.start == span.start and abs(likely.end - span.end) < SAME_END_S:
            return replace(likely, confirmed=confirmed)
        return self._utterance(number, span, span.end + span.padding, speaker.frames)

    def _forget(self, active: set[int]) -> None:
        """Drop local speakers that are gone, and frames and samples that nobody needs any more."""
        needs = {syllable.number for syllable in self._syllables}
        idle = {number for number, each in self._speakers.items() if each.endpointer.start is None}
        gone = idle - active - needs
        for number in gone:
            self._counts += self._speakers.pop(number).endpointer.counts
        recent = self._decided - self._options.pre_roll - 2 * self._options.onset - FRAME_S
        needed = min([recent, *(syllable.span.start for syllable in self._syllables)])
        for number, speaker in self._speakers.items():
            start = speaker.endpointer.start
            if number in needs:
                continue
            first = recent if start is None else min(start, recent)
            needed = min(needed, first)
            while speaker.frames and speaker.frames[0].end < first:
                speaker.frames.popleft()
        self._buffer.forget(needed)

    def _utterance(self, number: int, span: Span, last: float, frames: Iterable[Frame]) -> Utterance:
        """An utterance with its sound up to a moment."""
        inside = [frame for frame in frames if span.start < frame.end <= last + FRAME_S]
        silenced = _stretches(span.start, [frame for frame in inside if frame.others and not frame.talks])
        alone = _stretches(span.start, [frame for frame in inside if frame.talks and not frame.others])
        samples = silence(self._buffer.cut(span.start, last), silenced)
        confirmed = max(self._decided + self._latency * FRAME_S, span.end)
        return Utterance(
            self._channel, span.start, span.end, samples, confirmed, onset=span.onset, voice=number, alone=alone,
            silenced=silenced,
        )  # fmt: skip


def _stretches(start: float, frames: Iterable[Frame]) -> tuple[tuple[float, float], ...]:
    """The stretches that frames make up, in seconds from `start`."""
    joined: list[tuple[float, float]] = []
    for frame in frames:
        first, last = max(0.0, frame.end - FRAME_S - start), frame.end - start
        if joined and first - joined[-1][1] < FRAME_S / 2:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return tuple(joined)
