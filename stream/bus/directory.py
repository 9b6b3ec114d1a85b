"""Which sessions there are, and how they do: read from what they leave in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel

from stream.bus.connection import connect, listed
from stream.bus.keys import PREFIX, Keys
from stream.events import SessionEnded, SessionStarted, parse_entry


def owned(prefix: str, token: str) -> str:
    """Set of the sessions that a token of the gateway has started."""
    return f"{prefix}:token:{token}:sessions"


class Load(BaseModel):
    """What a session that goes on says of itself every other second."""

    position: float
    """Seconds of media heard."""
    seconds: float
    """Since it began to listen, on the machine's clock."""
    in_flight: int
    """Utterances whose words or embeddings are being made."""
    lag: float
    """Seconds behind its source."""
    given_up: int = 0
    """Steps that are taken because the machine does not keep up."""


class SessionInfo(BaseModel):
    """A session of the directory."""

    id: str
    state: Literal["live", "ended", "lost"]
    """lost: it neither ended nor gives a sign of life."""
    started: str
    """ISO 8601."""
    duration: float | None
    """Seconds of media heard."""
    utterances: int | None
    """Known at the end."""
    reason: str | None
    """Why it ended."""
    sources: list[str]
    speakers: str | None
    checkpoint: str | None
    consent: str | None
    redacted: bool
    masked: bool
    recorded: bool
    kept_until: str | None
    """When Redis forgets its events, unless more come. ISO 8601; null when there are none."""
    load: Load | None
    """Of a live one."""


async def overview(url: str, prefix: str = PREFIX, only: Sequence[str] | None = None) -> list[SessionInfo]:
    """All sessions, or `only` those of these ids that there are; the newest first."""
    client = connect(url)
    try:
        started = await listed(client, prefix)
        names = [name for name in (started if only is None else only) if name in started]
        found = []
        for name in names:
            keys = Keys(name, prefix)
            # A pipeline a session: in a Redis Cluster each lives on a node of its own.
            async with client.pipeline(transaction=False) as pipe:
                pipe.xrange(keys.events, count=1)
                pipe.xrevrange(keys.events, count=1)
                pipe.get(keys.alive)
                pipe.ttl(keys.events)
                first, last, alive, left = await pipe.execute()
            found.append(_info(name, started[name], first, last, alive, left))
    finally:
        await client.aclose()
    return sorted(found, key=lambda info: info.started, reverse=True)


def _info(name: str, started: str, first: Any, last: Any, alive: str | None, left: int) -> SessionInfo:
    opening = parse_entry(first[0][1]) if first else None
    ending = parse_entry(last[0][1]) if last else None
    begun = opening if isinstance(opening, SessionStarted) else None  # else the Stream's cap has cut it off
    ended = ending if isinstance(ending, SessionEnded) else None
    load = Load.model_validate_json(alive) if alive and ended is None else None
    end = datetime.now(UTC) + timedelta(seconds=left) if left >= 0 else None
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
    )
