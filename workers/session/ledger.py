"""Utterances that a session has begun and finished, for its snapshot."""

from __future__ import annotations

import time
from collections import Counter, deque

from model.encoders.spoken_language import Belief
from stream.block import Utterance
from workers.session.snapshot import Memory, Milestone, Snapshot, Unfinished
from workers.session.utterance import UtteranceInProgress

SAME_PLACE_S = 5.0  # seconds of media beyond which it is not the same place any more


class UtteranceLedger:
    """What a session has begun and finished: the part of its snapshot that it keeps for that alone."""

    def __init__(self, context: int) -> None:
        """context: how many earlier utterances the text encoders read along."""
        self.next_utterance = self.failed = self.notices = 0
        self.dropped = 0.0
        self.counts: Counter[str] = Counter()
        """Of the segmenters of earlier processes."""
        self.unfinished: dict[int, Unfinished] = {}
        self._spoken: deque[tuple[str, str]] = deque(maxlen=context)
        self._milestone: Milestone | None = None
        self._memory = Memory()
        self._languages: dict[str, Belief] = {}
        self._failed_last: deque[int] = deque(maxlen=100)
        self._tries = 0
        self._tried_at = 0.0
        self._written = 0.0

    @property
    def age(self) -> float:
        """Seconds since the last snapshot."""
        return time.monotonic() - self._written

    def begin(self, utterance: Utterance, speaker: str | None) -> int:
        """A number for an utterance, which is unfinished from now on."""
        number, self.next_utterance = self.next_utterance, self.next_utterance + 1
        self.unfinished[number] = Unfinished(
            number=number, speaker=speaker or "unknown", start=utterance.start, end=utterance.end
        )
        return number

    def fail(self, number: int) -> None:
        """It will get no label."""
        self.failed += 1
        self._failed_last.append(number)
        self.unfinished.pop(number, None)

    def finish(self, pending: UtteranceInProgress, memory: Memory) -> None:
        """It has its label or has failed, after all before it; `memory` is what all of them left."""
        self.unfinished.pop(pending.number, None)
        if pending.languages is not None:
            self._languages = pending.languages
        memory.languages = self._languages
        if not pending.redacted and pending.mask is None:
            self._spoken.append((pending.speaker, pending.readable))
        if pending.milestone is not None:
            pending.milestone.spoken = list(self._spoken)
            self._milestone, self._memory = pending.milestone, memory

    def take_up(self, before: Snapshot, replayed: bool) -> None:
        """Go on from what another process has left."""
        self._tried_at = before.position
        self._milestone, self._memory, self._tries = before.milestone, before.memory, before.tries + 1
        self._languages = before.memory.languages
        if before.milestone is not None:
            self._spoken.extend(before.milestone.spoken)
        self.notices = before.notices + 1000  # some may have been told since, and an id is used once
        self.dropped = before.dropped
        if replayed:
            self.failed = before.failed - before.failed_since
            self.next_utterance = before.milestone.next_utterance if before.milestone else 0
        else:
            self.failed, self.next_utterance = before.failed, before.next_utterance
            self.unfinished = {each.number: each for each in before.unfinished}
            self.counts = Counter(before.counts)

    def snapshot(self, position: float, counts: Counter[str]) -> str:
        """As JSON. position: media time heard, in seconds; counts: of the segmenters."""
        self._written = time.monotonic()
        done = self._milestone.next_utterance if self._milestone else 0
        open_then = {told.number for told in self._milestone.told} if self._milestone else set()
        return Snapshot(
            milestone=self._milestone,
            memory=self._memory,
            position=position,
            at=time.time(),
            next_utterance=self.next_utterance,
            unfinished=list(self.unfinished.values()),
            failed=self.failed,
            failed_since=sum(number >= done or number in open_then for number in self._failed_last),
            notices=self.notices,
            dropped=self.dropped,
            counts=dict(self.counts + counts),
            tries=self._tries if abs(position - self._tried_at) < SAME_PLACE_S else 0,
        ).model_dump_json(by_alias=True)
