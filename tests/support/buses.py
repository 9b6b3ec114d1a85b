"""Publishing to Redis and reading back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.events import Base, Event
from tests.support.events import ended, notice


async def publish(url: str, session: str, count: int, end: bool = True) -> None:
    bus = Bus(url, Keys(session))
    await bus.register("2026-01-01T00:00:00Z")
    for n in range(count):
        bus.publish(notice(session, n))
    if end:
        bus.publish(ended(session))
    assert await bus.aclose()


def ids(events: list[Event] | list[Base]) -> list[str]:
    return [event.id.removeprefix(f"{event.session}:") for event in events]


def publish_events(url: str, events: Sequence[Base], prefix: str = "undertone") -> None:
    """Register a session and publish its events."""

    async def send() -> None:
        bus = Bus(url, Keys(events[0].session, prefix))
        await bus.register("2026-01-01T00:00:00Z")
        for event in events:
            bus.publish(event)
        assert await bus.aclose()

    asyncio.run(send())
