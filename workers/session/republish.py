"""Events of a past session published again, as if it went on now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from stream.bus.connection import BusError
from stream.bus.directory import no_session, overview
from stream.bus.keys import RETENTION_S, Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import history
from stream.clock import MonotonicClock, Pacer
from stream.events import (
    Degraded,
    Emotion,
    Event,
    EventsMissed,
    Lag,
    SessionEnded,
    SessionStarted,
    UtteranceFailed,
    UtteranceHeard,
    UtterancePartial,
)
from workers.errors import UsageError
from workers.session.runner import EventObserver

REDIS_PATIENCE_S = 30.0  # seconds that Redis may stay away at the end


async def stored_events(url: str, session: str, prefix: str) -> list[Event]:
    """All events of a session that has ended. Raises UsageError when Redis keeps none, BusError when it goes
    on still."""
    found = await overview(url, prefix, [session])
    if not found:
        raise UsageError(await no_session(url, session, prefix))
    if found[0].state == "live":
        raise BusError(f"session {session!r} goes on still: undertone watch {session}")
    return await history(url, session, prefix)


async def republish(events: Sequence[Event], keys: Keys, url: str, speed: float | None, display: EventObserver) -> None:
    """Publish events under the session id of `keys`, each at its moment on the media clock.

    Raises BusError when the last of them could not be sent.
    """
    first = events[0]
    bus = Bus(url, keys, first.kept if isinstance(first, SessionStarted) else RETENTION_S)
    pacer = Pacer(MonotonicClock(), speed)
    await bus.register(datetime.now(UTC).isoformat(timespec="milliseconds"))
    for moment, event in timed(events):
        await pacer.wait_until(moment)
        display.position(moment)
        name = keys.session + event.id.removeprefix(event.session)
        again = event.model_copy(update={"session": keys.session, "id": name})
        if not isinstance(event, EventsMissed):  # which readers alone tell
            bus.publish(again)
        display.event(again)
    if not await bus.aclose(REDIS_PATIENCE_S):
        raise BusError("Redis stayed away; the last events wait on this disk (undertone spool --send)")


def timed(events: Sequence[Event]) -> Iterator[tuple[float, Event]]:
    """Events with the media time, in seconds, at which they could first be told. Never goes back."""
    now = 0.0
    for event in events:
        match event:
            case Emotion(revision=0) | UtteranceHeard() | UtterancePartial() | UtteranceFailed():
                now = max(now, event.audio_end)
            case Lag() | Degraded():
                now = max(now, event.audio_time)
            case SessionEnded():
                now = max(now, event.duration)
        yield now, event
