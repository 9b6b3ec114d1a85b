"""Events of a session that stay in this process: no Redis, nothing on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

from stream.bus.keys import Keys
from stream.bus.publisher import broken_off
from stream.events import Base, Event, SessionEnded


class LocalBus:
    """A session's events for one reader of the same event loop (`workers.session.services.EventBus`).

    What would let another process resume the session (its state and graph rows) is dropped.
    """

    delay = 0.0
    dropped_events = 0
    is_spooling = False

    def __init__(self, keys: Keys) -> None:
        self.keys, self.forgotten = keys, asyncio.Event()
        self._events: asyncio.Queue[Base] = asyncio.Queue()
        self._has_ended = False

    def publish(self, *events: Base, state: str | None = None, row: str | None = None, rows: int = 0) -> None:
        for event in events:
            self._has_ended |= isinstance(event, SessionEnded)
            self._events.put_nowait(event)

    def save_state(self, state: str) -> None:
        pass

    async def register(self, started: str) -> None:
        pass

    async def beat(self, load: str) -> None:
        pass

    async def events(self) -> AsyncGenerator[Event]:
        while True:
            event = cast(Event, await self._events.get())
            yield event
            if isinstance(event, SessionEnded):
                return

    async def aclose(self, timeout: float = 30.0) -> bool:
        return True

    async def end(self, reason: str) -> None:
        if not self._has_ended:
            self.publish(broken_off(self.keys.session, reason))
