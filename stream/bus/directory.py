"""The directory of sessions: state, load and settings of each, read from Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from redis.exceptions import RedisError

from stream.bus.annotations import tags_of
from stream.bus.cluster import MAX_AT_ONCE, Client, batches
from stream.bus.connection import connect, listed
from stream.bus.keys import PREFIX, Keys
from stream.bus.running import running
from stream.events import SessionEnded, SessionStarted, parse_entry

MAX_NAMED = 10  # sessions that a line names
QUESTIONS = 6  # of `_questions`, about each session


class Load(BaseModel):
    """Load of a live session, which it publishes every two seconds as its heartbeat."""

    position: float
    """Seconds of media processed."""
    seconds: float
    """Seconds since it started listening, on the machine's clock."""
    in_flight: int
    """Utterances being transcribed or encoded."""
    lag: float
    """Delay behind the source in seconds."""
    given_up: int = 0
    """Degradation steps in force because the machine does not keep up."""


class SessionInfo(BaseModel):
    """One session of the directory."""

    id: str
    state: Literal["live", "ended", "lost"]
    """lost: not ended, but without a heartbeat."""
    started: str
    """Wall-clock start, ISO 8601."""
    duration: float | None
    """Seconds of media processed."""
    utterances: int | None
    """Number of utterances, known at the end."""
    reason: str | None
    """Reason of the end."""
    sources: list[str]
    speakers: str | None
    checkpoint: str | None
    consent: str | None
    redacted: bool
    masked: bool
    recorded: bool
    kept_until: str | None
    """Expiry of its events in Redis unless more are published, ISO 8601; null when there are none."""
    load: Load | None
    """Present while the session is live."""
    title: str | None
    """The last one that it was given, at its start or later."""
    tags: list[str]


async def overview(url: str, prefix: str = PREFIX, only: Sequence[str] | None = None) -> list[SessionInfo]:
    """All sessions of the directory, or those among the ids `only`; the newest first."""
    client = connect(url)
    try:
        found = await _infos(client, prefix, await listed(client, prefix, only))
    finally:
        await client.aclose()
    return sorted(found, key=lambda info: info.started, reverse=True)


async def no_session(url: str, session: str, prefix: str = PREFIX) -> str:
    """The line about a session that this Redis does not have, with those that it has, the newest first."""
    client = connect(url)
    try:
        started = await listed(client, prefix)
    finally:
        await client.aclose()
    names = sorted(started, key=lambda name: started[name], reverse=True)
    more = f" and {len(names) - MAX_NAMED} more (undertone sessions)" if len(names) > MAX_NAMED else ""
    there_are = f"there are {', '.join(names[:MAX_NAMED])}{more}" if names else "there are none"
    return f"no session {session!r} in this Redis; {there_are}"


async def page(
    url: str, prefix: str, limit: int, before: str | None = None, only_running: bool = False
) -> tuple[list[SessionInfo], str | None]:
    """At most `limit` sessions of the directory, the newest first, and the cursor behind which there are more.

    before: such a cursor; only_running: without those that are known to be over.
    """
    client = connect(url)
    try:
        started = await listed(client, prefix)
        if only_running:
            homes = await running(client, prefix)
            started = {name: start for name, start in started.items() if name in homes}
        order = sorted(((start, name) for name, start in started.items()), reverse=True)
        if before is not None:
            start, _, name = before.rpartition("/")
            order = [each for each in order if each < (start, name)]
        asked = order[:limit]
        found = await _infos(client, prefix, {name: start for start, name in asked})
    finally:
        await client.aclose()
    return found, "/".join(asked[-1]) if len(order) > limit else None


async def unfinished(url: str, prefix: str, ended: dict[str, str]) -> list[SessionInfo]:
    """The sessions of the directory that have not ended.

    ended: start (ISO 8601) by id of those that have, which are not asked for again; brought up to date.
    """
    client = connect(url)
    try:
        started = await listed(client, prefix)
        others = {name: start for name, start in started.items() if ended.get(name) != start}
        found = await _infos(client, prefix, others)
    finally:
        await client.aclose()
    for name in [name for name, start in ended.items() if started.get(name) != start]:
        del ended[name]
    ended |= {info.id: info.started for info in found if info.state == "ended"}
    return [info for info in found if info.state != "ended"]


async def _infos(client: Client, prefix: str, started: Mapping[str, str]) -> list[SessionInfo]:
    """The sessions with these starts, in their order, but those whose keys are somebody else's. Raises RedisError."""
    found = []
    for some in batches(list(started), MAX_AT_ONCE):
        answers = await client.run_each([command for name in some for command in _questions(Keys(name, prefix))])
        for number, name in enumerate(some):
            known = answers[QUESTIONS * number : QUESTIONS * (number + 1)]
            # A user of Redis whose rights are older than annotations reads everything else.
            known[4:] = [None if isinstance(answer, RedisError) else answer for answer in known[4:]]
            refused = next((answer for answer in known if isinstance(answer, RedisError)), None)
            if refused is not None and "WRONGTYPE" in str(refused):
                continue
            if refused is not None:
                raise refused
            found.append(_info(name, started[name], *known))
    return found


def _questions(keys: Keys) -> list[tuple[str, tuple[Any, ...]]]:
    return [
        (keys.events, ("XRANGE", keys.events, "-", "+", "COUNT", 1)),
        (keys.events, ("XREVRANGE", keys.events, "+", "-", "COUNT", 1)),
        (keys.alive, ("GET", keys.alive)),
        (keys.events, ("TTL", keys.events)),
        (keys.annotations, ("HGET", keys.annotations, "title")),
        (keys.annotations, ("HGET", keys.annotations, "tags")),
    ]


def _info(
    name: str, started: str, first: Any, last: Any, alive: str | None, ttl_s: int, title: str | None, tags: str | None
) -> SessionInfo:
    opening = parse_entry(first[0][1], name) if first else None
    ending = parse_entry(last[0][1], name) if last else None
    begun = opening if isinstance(opening, SessionStarted) else None  # else the Stream was trimmed
    ended = ending if isinstance(ending, SessionEnded) else None
    load = _load(alive) if alive and ended is None else None
    end = datetime.now(UTC) + timedelta(seconds=ttl_s) if ttl_s >= 0 else None
    return SessionInfo(
        id=name,
        state="ended" if ended else "live" if load else "lost",
        started=started,
        duration=ended.duration if ended else load.position if load else None,
        utterances=ended.utterances if ended else None,
        reason=ended.reason if ended else None,
        sources=begun.sources if begun else [],
        speakers=begun.speakers if begun else None,
        checkpoint=begun.checkpoint if begun else None,
        consent=begun.consent if begun else None,
        redacted=begun.redacted if begun else False,
        masked=begun.masked if begun else False,
        recorded=begun.recorded if begun else False,
        kept_until=end.isoformat(timespec="seconds") if end else None,
        load=load,
        title=title or (begun.title if begun and title is None else None),
        tags=tags_of(tags),
    )


def _load(heartbeat: str) -> Load | None:
    """The load that a heartbeat tells; None if it is not one of ours."""
    try:
        return Load.model_validate_json(heartbeat)
    except ValidationError:
        return None
