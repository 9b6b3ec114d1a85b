"""What a session leaves in Redis after each utterance, so that another process can go on where it stopped.

JSON, no pickles. `Snapshot` is the state of the session, each `Row` what a labelled utterance leaves for later ones.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, PlainSerializer, PlainValidator, ValidationError

from model.dialogue import GraphRow
from model.spoken_language import Belief
from stream import speakers
from stream.block import Utterance
from stream.bus import Keys, kept
from stream.events import Emotion
from workers import interims
from workers.agreement import Agreement

if TYPE_CHECKING:
    from workers.pending import Pending


def _unpack(value: Any) -> Any:
    return np.frombuffer(b64decode(value), np.float32) if isinstance(value, str) else np.asarray(value, np.float32)


def _pack(values: Any) -> str:
    return b64encode(np.ascontiguousarray(values, np.float32).tobytes()).decode()


FURTHER = 5.0  # seconds of media beyond which it is not the same place any more

Floats = Annotated[Any, PlainValidator(_unpack), PlainSerializer(_pack, return_type=str)]
"""[n] float32, base64 in JSON."""


class Speaker(BaseModel):
    """`stream.speakers.Speaker`"""

    name: str
    total: Floats
    seconds: float
    enrolled: bool

    @classmethod
    def of(cls, known: speakers.Speaker) -> Speaker:
        return cls(name=known.name, total=known.total, seconds=known.seconds, enrolled=known.enrolled)

    def known(self) -> speakers.Speaker:
        return speakers.Speaker(self.name, self.total, self.seconds, self.enrolled)


class Told(BaseModel):
    """`workers.interims.Told`: an utterance that went on and had a number."""

    number: int
    channel: int
    speaker: str | None
    start: float
    end: float
    count: int
    next_at: float
    next_words: float = 0.0
    committed: list[str] = []
    rest: list[str] = []
    """State of `workers.agreement.Agreement`; empty where words are redacted or masked."""

    @classmethod
    def of(cls, told: interims.Told) -> Told:
        heard = told.utterance
        return cls(
            number=told.number, channel=heard.channel, speaker=heard.speaker, start=heard.start, end=heard.end,
            count=told.count, next_at=told.next_at, next_words=told.next_words,
            committed=told.agreement.committed, rest=told.agreement.rest,
        )  # fmt: skip

    def going_on(self) -> interims.Told:
        heard = Utterance(self.channel, self.start, self.end, np.zeros(0, np.float32), self.end, self.speaker)
        agreement = Agreement(self.committed, self.rest)
        return interims.Told(self.number, heard, self.count, self.next_at, self.next_words, agreement)


class Milestone(BaseModel):
    """The session when it had taken in a block, and nothing after it."""

    position: float
    """Media time of the block's end, in seconds."""
    flushed: bool
    """It was the last one, and what was open has been closed."""
    next_utterance: int
    spoken: list[tuple[str, str]] = []
    """Speaker and words of the utterances that the text encoder reads along; none of redacted or masked ones."""
    speakers: list[Speaker]
    unnamed: int
    told: list[Told]
    words_given: tuple[int, list[int]] | None
    """Of a transcript: all words before this one, but for these."""


class Memory(BaseModel):
    """`model.dialogue.SpeakerMemory`, and how far the graph is."""

    in_graph: int = 0
    slots: dict[str, int] = {}
    """Least recently heard first."""
    voices: dict[str, Floats] = {}
    """[21]: count, total and square of seven columns."""
    languages: dict[str, Belief] = {}
    """Belief about each speaker's language."""


class Unfinished(BaseModel):
    """An utterance that has a number and no label yet."""

    number: int
    speaker: str
    start: float
    end: float


class Snapshot(BaseModel):
    """Up to `milestone` every utterance has its label, and `memory` is what these left; the rest is newer."""

    schema_: Literal[1] = 1
    milestone: Milestone | None
    """None before the first label."""
    memory: Memory
    position: float
    """Media time heard."""
    at: float
    """Wall clock (Unix time) when that was."""
    next_utterance: int
    unfinished: list[Unfinished]
    failed: int
    failed_since: int
    """Of these, after the milestone."""
    notices: int
    dropped: float
    """Seconds of audio that nobody heard."""
    counts: dict[str, int]
    """Of the segmenters."""
    tries: int
    """How often a process went on from about this place."""

    def elapsed(self) -> float:
        """Seconds since it was written; a clock that was set back makes it 0."""
        return max(0.0, time.time() - self.at)


class Book:
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

    def finish(self, pending: Pending, memory: Memory) -> None:
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
            tries=self._tries if abs(position - self._tried_at) < FURTHER else 0,
        ).model_dump_json(by_alias=True)


class Row(BaseModel):
    """What a labelled utterance leaves: its row in the graph, and what was told of it."""

    index: int
    slot: int
    present: tuple[bool, ...]
    values: Floats
    told: Emotion

    @classmethod
    def of(cls, row: GraphRow, told: Emotion) -> Row:
        return cls(index=row.index, slot=row.slot, present=row.present, values=row.values, told=told)

    def graph(self) -> GraphRow:
        return GraphRow(self.index, self.slot, self.present, self.values)


@dataclass(frozen=True)
class Left:
    """All that a session's last process has left."""

    snapshot: Snapshot
    rows: list[Row]


async def left_behind(url: str, keys: Keys) -> Left | None:
    """What the session's last process has left; None when it has ended, never began, or left what this version cannot
    read."""
    state, rows = await kept(url, keys)
    if state is None:
        return None
    try:
        snapshot = Snapshot.model_validate_json(state)
        return Left(snapshot, _joined([Row.model_validate_json(row) for row in rows], snapshot.memory.in_graph))
    except (ValidationError, ValueError):
        return None


def _joined(rows: Sequence[Row], count: int) -> list[Row]:
    """The last rows before `count` without a gap; of those written twice, the last."""
    by_index = {row.index: row for row in rows}
    joined: list[Row] = []
    while (row := by_index.get(count - 1 - len(joined))) is not None:
        joined.append(row)
    return joined[::-1]
