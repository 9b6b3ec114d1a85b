"""Time, injected: the monotonic clock of the machine, or one that tests turn by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that only grow, and a way to wait for them."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class MonotonicClock:
    """The machine's clock; one for all processes of a host."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that stands still until somebody sleeps on it, and then jumps."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += max(0.0, seconds)
        await asyncio.sleep(0)


class Pacer:
    """Holds media back so that it flows at `speed` times real time (None: as fast as it is taken)."""

    def __init__(self, clock: Clock, speed: float | None) -> None:
        self._clock = clock
        self._speed = speed
        self._origin: float | None = None

    async def wait_until(self, media_time: float) -> float:
        """Wait until `media_time` is due; returns by how many seconds it was late already (0 = in time)."""
        if self._speed is None:
            return 0.0
        if self._origin is None:
            self._origin = self._clock.now() - media_time / self._speed
        ahead = self._origin + media_time / self._speed - self._clock.now()
        if ahead > 0:
            await self._clock.sleep(ahead)
        return max(0.0, -ahead)
