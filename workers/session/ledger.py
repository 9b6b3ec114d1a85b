"""Account of the utterances that a session has begun, finished and failed."""

from __future__ import annotations

from collections import Counter, deque

from model.encoders.spoken_language import Belief
from stream.block import Utterance
from stream.clock import Clock, MonotonicClock
from workers.session.snapshot import Memory, Milestone, Snapshot, Unfinished
from workers.session.utterance import InFlight, UnderstoodUtterance

SAME_PLACE_S = 5.0  # of media: kills within it count as the same place


class UtteranceLedger:
    """Numbers of a session's utterances, those that are unfinished, and the last milestone."""

    def __init__(self, context: int, clock: Clock | None = None) -> None:
        """context: number of earlier utterances that the text encoders read along."""
        self.next_utterance = self.failed = self.notices = 0
        self.dropped = 0.0
        """Seconds of audio that nobody heard."""
        self.counts: Counter[str] = Counter()
        """Counts of the segmenters of earlier processes."""
        self.flushed = False
        """The source is at its end, and speech that went on has been closed."""
        self.resume_position = 0.0
        """Media time up to which a source that is played again needs no labels: another process published them."""
        self._unfinished: dict[int, Unfinished] = {}
        self._spoken: deque[tuple[str, str]] = deque(maxlen=context)
        self._milestone: Milestone | None = None
        self._memory = Memory()
        self._beliefs: dict[str, Belief] = {}
        self._failed_last: deque[int] = deque(maxlen=100)
        self._attempts = 0
        self._attempted_at = 0.0
        self._clock = clock or MonotonicClock()
        self._saved_at = 0.0

    @property
    def age(self) -> float:
        """Seconds since the last snapshot."""
        return self._clock.now() - self._saved_at

    def begin(self, utterance: Utterance, speaker: str | None) -> int:
        """A number for an utterance, which is unfinished from now on."""
        number, self.next_utterance = self.next_utterance, self.next_utterance + 1
        self._unfinished[number] = Unfinished(
            number=number, speaker=speaker or "unknown", start=utterance.start, end=utterance.end
        )
        return number

    def fail(self, number: int) -> None:
        """It will get no label."""
        self.failed += 1
        self._failed_last.append(number)
        self._unfinished.pop(number, None)

    def fail_unfinished(self) -> list[Unfinished]:
        """No utterance that is unfinished will get a label; returns them."""
        lost = list(self._unfinished.values())
        for each in lost:
            self.fail(each.number)
        return lost

    def finish(
        self, in_flight: InFlight, understood: UnderstoodUtterance | None, keeps_words: bool, memory: Memory
    ) -> None:
        """It has its label or has failed, after all before it.

        understood: None where that failed; keeps_words: its words may be stored; memory: what the labels so far leave.
        """
        admitted, milestone = in_flight.admitted, in_flight.milestone
        self._unfinished.pop(admitted.number, None)
        if understood is not None and understood.words.beliefs is not None:
            self._beliefs = understood.words.beliefs
        memory = memory.model_copy(update={"languages": self._beliefs})
        if understood is not None and keeps_words:
            self._spoken.append((admitted.speaker, understood.words.readable))
        if milestone is not None:
            self._milestone = milestone.model_copy(update={"spoken": list(self._spoken)})
            self._memory = memory

    def restore(self, snapshot: Snapshot, replayed: bool) -> None:
        """Go on from what another process has left.

        replayed: the source is played again, so what came after the milestone comes again.
        """
        milestone = snapshot.milestone
        self._attempted_at, self._attempts = snapshot.position, snapshot.tries + 1
        self._milestone, self._memory, self._beliefs = milestone, snapshot.memory, snapshot.memory.languages
        if milestone is not None:
            self._spoken.extend(milestone.spoken)
        self.notices = snapshot.notices + 1000  # some may have been published since, and an id is used once
        self.dropped = snapshot.dropped
        if not replayed:
            self.failed, self.next_utterance = snapshot.failed, snapshot.next_utterance
            self._unfinished = {each.number: each for each in snapshot.unfinished}
            self.counts = Counter(snapshot.counts)
            return
        self.failed = snapshot.failed - snapshot.failed_since
        if milestone is not None:
            self.next_utterance = milestone.next_utterance
            self.resume_position, self.flushed = milestone.position, milestone.flushed

    def snapshot(self, position: float, counts: Counter[str]) -> str:
        """The session's state as JSON. position: media time heard, in seconds; counts: of the segmenters."""
        self._saved_at = self._clock.now()
        done = self._milestone.next_utterance if self._milestone else 0
        ongoing = {interim.number for interim in self._milestone.told} if self._milestone else set()
        return Snapshot(
            milestone=self._milestone,
            memory=self._memory,
            position=position,
            at=self._clock.date(),
            next_utterance=self.next_utterance,
            unfinished=list(self._unfinished.values()),
            failed=self.failed,
            failed_since=sum(number >= done or number in ongoing for number in self._failed_last),
            notices=self.notices,
            dropped=self.dropped,
            counts=dict(self.counts + counts),
            tries=self._attempts if abs(position - self._attempted_at) < SAME_PLACE_S else 0,
        ).model_dump_json(by_alias=True)
