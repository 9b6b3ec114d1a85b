"""Annotations of a session by people: its title, its tags, and notes at moments of it.

They lie in one Redis hash beside the session's events, expire with these, and are erased with them
(`stream.bus.forget`). No event and no export has them.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from stream.bus.cluster import Client
from stream.bus.connection import SessionNotFound, connect
from stream.bus.keys import Keys
from stream.errors import StreamError

MAX_NOTES = 1_000  # of a session
NOTE = "note:"  # beginning of the names of the hash's fields that hold notes

Title = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


TAGS = TypeAdapter(list[str])


class TooManyNotes(StreamError):
    """The session has `MAX_NOTES` notes."""

    http_status = 409


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


class Annotations(BaseModel):
    """All that people wrote about a session."""

    title: str | None = None
    tags: list[str] = []
    notes: list[Note] = []
    """In order of their moments."""


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


def tags_of(value: str | None) -> list[str]:
    """The tags in the hash's field "tags"; none if somebody else's program wrote it."""
    try:
        return TAGS.validate_json(value or "[]")
    except ValidationError:
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
    notes = []
    for name, value in fields.items():
        if name.startswith(NOTE):
            with suppress(ValidationError):  # another version's, or somebody else's
                notes.append(Note.model_validate_json(value))
    return Annotations(
        title=fields.get("title") or None,
        tags=tags_of(fields.get("tags")),
        notes=sorted(notes, key=lambda note: (note.time, note.written)),
    )
