"""Time, injected: the monotonic clock of the machine, or one that tests turn by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that only grow, the date, and ways to wait."""

    def now(self) -> float:
        """Seconds since some moment; they only grow."""
        ...

    def date(self) -> float:
        """Seconds since 1970, which may jump when the machine's clock is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, in an event loop."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait in a thread until the event is set or the seconds are over; returns whether it is set."""
        ...


class MonotonicClock:
    """The machine's clock; one for all processes of a host."""

    def now(self) -> float:
        return time.monotonic()

    def date(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


class VirtualClock:
    """A clock for tests: it stands still until whoever lives by it waits, and then jumps.

    A coroutine that sleeps takes it along at once. Threads go in step: time moves on when all of them wait, to the
    moment that the first of them waits for.
    """

    def __init__(self, threads: int = 1, date: float = 0.0) -> None:
        """threads: how many wait on this clock; before each has done so once, no time passes. date: that of the start,
        in seconds since 1970."""
        self._now, self._started, self._threads = 0.0, date, threads
        self._known: set[threading.Thread] = set()
        self._waiting: dict[threading.Thread, tuple[float, threading.Event]] = {}
        self._changed = threading.Condition()

    def now(self) -> float:
        return self._now

    def date(self) -> float:
        return self._started + self._now

    async def sleep(self, seconds: float) -> None:
        self._now += max(0.0, seconds)
        await asyncio.sleep(0)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        me, until = threading.current_thread(), self._now + max(0.0, seconds)
        with self._changed:
            self._known.add(me)
            self._waiting[me] = until, event
            while not event.is_set() and self._now < until:
                if len(self._known) >= self._threads and self._all_wait():
                    self._now = min(moment for moment, _ in self._waiting.values())
                    self._changed.notify_all()
                else:
                    self._changed.wait(0.001)  # real seconds: nobody tells of an event, or of a thread that ends
            del self._waiting[me]
        return event.is_set()

    def _all_wait(self) -> bool:
        """One whose time or event has come counts as awake, though it may not have noticed yet."""
        waiting = (self._waiting.get(thread) for thread in self._known if thread.is_alive())
        return all(each is not None and each[0] > self._now and not each[1].is_set() for each in waiting)


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
