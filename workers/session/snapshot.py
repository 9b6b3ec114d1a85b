"""The state that a session saves in Redis after each utterance, for a process that resumes it.

JSON, no pickles. `Snapshot` is the state of the session, each `GraphRowRecord` what a labelled utterance leaves for
later ones.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, PlainSerializer, PlainValidator, ValidationError, model_validator

from model.encoders.spoken_language import Belief
from model.fusion.dialogue import GraphRow
from stream.bus.connection import read_state
from stream.bus.keys import Keys
from stream.events import Emotion


def _unpack(value: Any) -> Any:
    return np.frombuffer(b64decode(value), np.float32) if isinstance(value, str) else np.asarray(value, np.float32)


def _pack(values: Any) -> str:
    return b64encode(np.ascontiguousarray(values, np.float32).tobytes()).decode()


Floats = Annotated[Any, PlainValidator(_unpack), PlainSerializer(_pack, return_type=str)]
"""[n] float32, base64 in JSON."""


class SpeakerSnapshot(BaseModel):
    """`stream.speech.speakers.Speaker`"""

    name: str
    total: Floats
    seconds: float
    enrolled: bool
    apart: set[str] = set()


class SpokenTurn(BaseModel):
    """A turn of one of several speakers on a channel, in seconds on the media clock."""

    start: float
    end: float
    voice: int
    """Number of the local speaker."""
    speaker: str


class VoicesSnapshot(BaseModel):
    """Speakers who are told apart by voice (`workers.session.diarization.Diarization`)."""

    encoder: str
    """The network behind the embeddings."""
    speakers: list[SpeakerSnapshot]
    unnamed: int
    """Speakers so far who had to be given a name."""
    turns: list[SpokenTurn] = []
    """The last turns on a channel of several speakers."""


class InterimSnapshot(BaseModel):
    """An utterance that went on and had a number (`workers.session.stages.interims.InterimState`)."""

    number: int
    channel: int
    speaker: str | None
    voice: int | None = None
    """Number of the local speaker, where several are told apart on the channel."""
    start: float
    end: float
    count: int
    next_at: float
    next_words: float = 0.0
    committed: list[str] = []
    rest: list[str] = []
    """State of `workers.session.stages.agreement.Agreement`; empty where words are redacted or masked."""


class Milestone(BaseModel):
    """The session when it had taken in a block, and nothing after it."""

    position: float
    """Media time of the block's end, in seconds."""
    flushed: bool
    """It was the last one, and what was open has been closed."""
    next_utterance: int
    spoken: list[tuple[str, str]] = []
    """Speaker and words of the utterances that the text encoder reads along; none of redacted or masked ones."""
    voices: VoicesSnapshot
    told: list[InterimSnapshot]
    words_given: tuple[int, list[int]] | None
    """Words of a given transcript that were dealt out: all before the first number, but for those of the list."""

    @model_validator(mode="before")
    @classmethod
    def _of_version_0_1(cls, fields: Any) -> Any:
        """Before there were several encoders of voices, the speakers stood in the milestone itself."""
        if isinstance(fields, dict) and "speakers" in fields:
            speakers, unnamed = fields["speakers"], fields["unnamed"]
            others = {name: each for name, each in fields.items() if name not in ("speakers", "unnamed")}
            return others | {"voices": {"encoder": "ge2e", "speakers": speakers, "unnamed": unnamed}}
        return fields


class Memory(BaseModel):
    """`model.fusion.dialogue.SpeakerMemory`, and how far the graph is."""

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
    """Failures after the milestone."""
    notices: int
    dropped: float
    """Seconds of audio that nobody heard."""
    counts: dict[str, int]
    """Counts of the segmenters."""
    tries: int
    """Number of processes that resumed from about this place."""

    def elapsed(self, date: float) -> float:
        """Seconds since it was written; a clock that was set back makes it 0."""
        return max(0.0, date - self.at)


class GraphRowRecord(BaseModel):
    """Row of a labelled utterance in the graph, with its provisional label."""

    index: int
    slot: int
    present: tuple[bool, ...]
    values: Floats
    told: Emotion

    @classmethod
    def of(cls, row: GraphRow, told: Emotion) -> GraphRowRecord:
        return cls(index=row.index, slot=row.slot, present=row.present, values=row.values, told=told)

    def graph(self) -> GraphRow:
        return GraphRow(self.index, self.slot, self.present, self.values)


@dataclass(frozen=True)
class ResumePoint:
    """Snapshot and graph rows that a session's last process saved."""

    snapshot: Snapshot
    rows: list[GraphRowRecord]


async def load_resume_point(url: str, keys: Keys) -> ResumePoint | None:
    """State and rows that the session's last process saved; None when the session has ended or never began, or this
    version cannot read them. Raises RedisError, OSError."""
    state, rows = await read_state(url, keys)
    if state is None:
        return None
    try:
        snapshot = Snapshot.model_validate_json(state)
        return ResumePoint(
            snapshot, _joined([GraphRowRecord.model_validate_json(row) for row in rows], snapshot.memory.in_graph)
        )
    except (ValidationError, ValueError):
        return None


def _joined(rows: Sequence[GraphRowRecord], count: int) -> list[GraphRowRecord]:
    """The last rows before `count` without a gap; of those written twice, the last."""
    by_index = {row.index: row for row in rows}
    joined: list[GraphRowRecord] = []
    while (row := by_index.get(count - 1 - len(joined))) is not None:
        joined.append(row)
    return joined[::-1]
