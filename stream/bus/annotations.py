"""Annotations of a session by people: its title, its tags, notes at moments of it, corrected labels, alert rules.

They lie in one Redis hash beside the session's events, expire with these, and are erased with them
(`stream.bus.forget`). No event and no export has them; corrections leave by `undertone corrections` alone.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from stream.bus.alert_rules import Rule, RuleError, check_names
from stream.bus.cluster import Client
from stream.bus.connection import SessionNotFound, connect
from stream.bus.keys import Keys
from stream.errors import InputError, StreamError
from stream.events import SessionStarted, parse_entry

MAX_NOTES = 1_000  # of a session
MAX_CORRECTIONS = 10_000  # of a session
MAX_RULES = 20  # of a session: each is tried on every label, for every reader of its alerts
MAX_UTTERANCE = (1 << 31) - 1  # the highest number of an utterance that can be corrected
NOTE = "note:"  # beginning of the names of the hash's fields that hold notes
CORRECTION = "correction:"  # beginning of those that hold corrections; the utterance's number follows
RULES = "rules"  # the field that holds the session's own alert rules

Title = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Utterance = Annotated[int, Field(ge=0, le=MAX_UTTERANCE)]
"""Number of an utterance."""
Rules = Annotated[list[Rule], Field(max_length=MAX_RULES)]


TAGS = TypeAdapter(list[str])
RULE_LIST: TypeAdapter[list[Rule]] = TypeAdapter(Rules)


class TooManyNotes(StreamError):
    """The session has `MAX_NOTES` notes."""

    http_status = 409


class TooManyCorrections(StreamError):
    """The session has `MAX_CORRECTIONS` corrections."""

    http_status = 409


class UnknownLabel(InputError):
    """The session's labels do not include this one."""


class Note(BaseModel):
    """A note at a moment of a session."""

    id: str
    time: float
    """Seconds of media, from the start of the session."""
    text: str
    author: str
    """Name of the token with which it was written."""
    written: str
    """Wall-clock time, ISO 8601."""


class Correction(BaseModel):
    """The right label of an utterance, as a person says."""

    utterance: Utterance
    emotion: Label
    was: str | None
    """The label that it had when it was corrected; null = not stated."""
    author: str
    """Name of the token with which it was written."""
    written: str
    """Wall-clock time, ISO 8601."""


class Annotations(BaseModel):
    """All that people wrote about a session."""

    title: str | None = None
    tags: list[str] = []
    notes: list[Note] = []
    """In order of their moments."""
    corrections: list[Correction] = []
    """In order of their utterances, one each."""
    rules: list[Rule] = []
    """Alert rules of this session alone."""


class Change(BaseModel):
    """New values; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = None
    """"" removes it."""
    tags: Annotated[list[Tag], Field(max_length=20)] | None = None


class NewNote(BaseModel):
    """A note that is to be added."""

    model_config = ConfigDict(extra="forbid")

    time: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Seconds of media, from the start of the session."""
    text: Text


class NewCorrection(BaseModel):
    """A correction that is to be written."""

    model_config = ConfigDict(extra="forbid")

    emotion: Label
    """One of the session's labels."""
    was: Label | None = None
    """The label that the utterance has."""


async def read(url: str, keys: Keys) -> Annotations:
    """Read the annotations of a session. Raises RedisError."""
    client = connect(url)
    try:
        return _annotations(await client.hgetall(keys.annotations))
    finally:
        await client.aclose()


async def change(url: str, keys: Keys, wanted: Change) -> Annotations:
    """Give a session another title or other tags; returns all that is written about it now.

    Raises SessionNotFound when Redis has no events of the session, and RedisError.
    """
    values = {}
    if wanted.title is not None:
        values["title"] = wanted.title
    if wanted.tags is not None:
        values["tags"] = json.dumps(list(dict.fromkeys(wanted.tags)))
    client = connect(url)
    try:
        await _write(client, keys, values)
        return _annotations(await client.hgetall(keys.annotations))
    finally:
        await client.aclose()


async def add_note(url: str, keys: Keys, new: NewNote, author: str) -> Note:
    """Write a note. Raises SessionNotFound, TooManyNotes and RedisError."""
    written = datetime.now(UTC).isoformat(timespec="seconds")
    note = Note(id=secrets.token_hex(8), time=new.time, text=new.text, author=author, written=written)
    client = connect(url)
    try:
        fields = await client.hkeys(keys.annotations)
        if sum(str(field).startswith(NOTE) for field in fields) >= MAX_NOTES:
            raise TooManyNotes(f"session {keys.session} has {MAX_NOTES} notes, and takes no more")
        await _write(client, keys, {NOTE + note.id: note.model_dump_json()})
    finally:
        await client.aclose()
    return note


async def remove_note(url: str, keys: Keys, note: str) -> bool:
    """Remove a note; False if there is none with this id. Raises RedisError."""
    client = connect(url)
    try:
        return bool(await client.hdel(keys.annotations, NOTE + note))
    finally:
        await client.aclose()


async def correct(url: str, keys: Keys, utterance: int, new: NewCorrection, author: str) -> Correction:
    """Write the right label of an utterance, in place of what was written before.

    Raises UnknownLabel for an emotion that `session.started` does not name (while Redis has that event),
    SessionNotFound, TooManyCorrections and RedisError.
    """
    written = datetime.now(UTC).isoformat(timespec="seconds")
    correction = Correction(utterance=utterance, emotion=new.emotion, was=new.was, author=author, written=written)
    name = f"{CORRECTION}{utterance}"
    client = connect(url)
    try:
        labels = await _labels(client, keys)
        if labels and new.emotion not in labels:
            raise UnknownLabel(
                f"emotion: session {keys.session} has no label {new.emotion!r}; it has {', '.join(labels)}"
            )
        fields = {str(field) for field in await client.hkeys(keys.annotations)}
        if name not in fields and sum(field.startswith(CORRECTION) for field in fields) >= MAX_CORRECTIONS:
            raise TooManyCorrections(f"session {keys.session} has {MAX_CORRECTIONS} corrections, and takes no more")
        await _write(client, keys, {name: correction.model_dump_json()})
    finally:
        await client.aclose()
    return correction


async def remove_correction(url: str, keys: Keys, utterance: int) -> bool:
    """Remove a correction; False if the utterance has none. Raises RedisError."""
    client = connect(url)
    try:
        return bool(await client.hdel(keys.annotations, f"{CORRECTION}{utterance}"))
    finally:
        await client.aclose()


async def set_rules(url: str, keys: Keys, wanted: list[Rule]) -> list[Rule]:
    """Replace the session's own alert rules, at most `MAX_RULES`.

    Raises RuleError for two rules of one name, SessionNotFound and RedisError.
    """
    check_names(wanted)
    client = connect(url)
    try:
        await _write(client, keys, {RULES: RULE_LIST.dump_json(wanted).decode()})
    finally:
        await client.aclose()
    return wanted


async def rules(url: str, keys: Keys) -> list[Rule]:
    """Read the session's own alert rules. Raises RedisError."""
    client = connect(url)
    try:
        value: Any = await client.hget(keys.annotations, RULES)
        return _rules_of(value)
    finally:
        await client.aclose()


def tags_of(value: str | None) -> list[str]:
    """The tags in the hash's field "tags"; none if somebody else's program wrote it."""
    try:
        return TAGS.validate_json(value or "[]")
    except ValidationError:
        return []


def _rules_of(value: str | None) -> list[Rule]:
    """The rules in the hash's field `RULES`; none if somebody else's program wrote it."""
    try:
        found = RULE_LIST.validate_json(value or "[]")
        check_names(found)
    except (ValidationError, RuleError):
        return []
    return found


async def _labels(client: Client, keys: Keys) -> list[str]:
    """The session's label set; empty when Redis has its first event no more."""
    page: Any = await client.xrange(keys.events, count=1)
    for _, fields in page:
        event = parse_entry(fields, keys.session)
        if isinstance(event, SessionStarted):
            return event.emotions
    return []


async def _write(client: Client, keys: Keys, values: dict[Any, Any]) -> None:
    """Set fields of the hash, which then expires when the events do."""
    ttl_s = await client.ttl(keys.events)
    if ttl_s == -2:
        raise SessionNotFound(f"Redis has no events of a session {keys.session}")
    if not values:
        return
    async with client.pipeline(transaction=True) as pipe:
        pipe.hset(keys.annotations, mapping=values)
        if ttl_s >= 0:
            pipe.expire(keys.annotations, ttl_s)
        await pipe.execute()


def _annotations(fields: dict[Any, Any]) -> Annotations:
    notes, corrections = [], []
    for name, value in fields.items():
        with suppress(ValidationError):  # another version's, or somebody else's
            if name.startswith(NOTE):
                notes.append(Note.model_validate_json(value))
            elif name.startswith(CORRECTION):
                correction = Correction.model_validate_json(value)
                if name == f"{CORRECTION}{correction.utterance}":  # else an utterance could have two
                    corrections.append(correction)
    return Annotations(
        title=fields.get("title") or None,
        tags=tags_of(fields.get("tags")),
        notes=sorted(notes, key=lambda note: (note.time, note.written)),
        corrections=sorted(corrections, key=lambda correction: correction.utterance),
        rules=_rules_of(fields.get(RULES)),
    )
