"""Publishing to Redis: a Stream (the durable log) and a Pub/Sub channel, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from stream.bus.connection import connect, listed
from stream.bus.keys import Keys
from stream.bus.spool import Entry, Spool, spool_path
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.events import Base, SessionEnded

MAX_EVENTS = 100_000  # events kept a session, roughly
RETENTION_S = 24 * 3600  # seconds a session's keys outlive its last event, unless it asks for others
DIRECTORY_REFRESH_S = 3600  # seconds after which a session that goes on sees to it that the directory is kept
HEARTBEAT_TTL_S = 10  # seconds that a sign of life holds
MAX_OUTBOX = 10_000  # events that wait for a slow Redis before the oldest are given up and counted


class Bus:
    """Publishes one session's events in order, without ever making the session wait for Redis.

    Events queue in a bounded outbox; a writer task sends them. While Redis is away, or refuses them, they wait in a
    bounded spool on disk, and the writer tries again (after 1 … 60 s).
    """

    def __init__(
        self,
        url: str,
        keys: Keys,
        kept: int = RETENTION_S,
        spool: Spool | None = None,
        clock: Clock = MonotonicClock(),
    ) -> None:
        """kept: seconds that Redis keeps the events after the last of them; spool: None = the session's own, with what
        another process has left there."""
        self.url, self.keys, self.kept = url, keys, kept
        self.delay = 0.0
        """Seconds the last event spent between `publish` and Redis's answer."""
        self.spool = Spool(spool_path(keys.session, keys.prefix)) if spool is None else spool
        self._client, self._clock = connect(url), clock
        self._outbox: asyncio.Queue[tuple[float, Entry]] = asyncio.Queue(MAX_OUTBOX)
        self._dropped = 0
        self._writer: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._started = ""
        self._listed = 0.0

    @property
    def given_up(self) -> int:
        """Events dropped because outbox or spool was full."""
        return self._dropped + self.spool.given_up

    @property
    def waits(self) -> bool:
        """Redis is away, and events wait on disk."""
        return self.spool.first() is not None

    def publish(self, *events: Base, state: str | None = None, row: str | None = None, rows: int = 0) -> None:
        """Queue events; with them, in one transaction, the session's `state` and one more of the last `rows` rows."""
        told = [(event.id, getattr(event, "type", ""), event.wire()) for event in events]
        over = any(isinstance(event, SessionEnded) for event in events)
        self._put(Entry(told, state, row, rows, over, self.kept))

    def keep(self, state: str) -> None:
        """Queue the session's state, without an event."""
        self._put(Entry(state=state, kept=self.kept))

    def _put(self, entry: Entry) -> None:
        self._begin()
        if self._outbox.full():
            self._dropped += len(self._outbox.get_nowait()[1].events)
        self._idle.clear()
        self._outbox.put_nowait((self._clock.now(), entry))

    def _begin(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while True:
            if self.spool.first() is not None:
                await self._send_late()
                continue
            if self._outbox.empty():
                self._idle.set()
            queued, entry = await self._outbox.get()
            if await self._sent(entry):
                self.delay = self._clock.now() - queued
            else:
                self.spool.append(entry)

    async def _send_late(self) -> None:
        """Send what waits in the spool, in order; what comes meanwhile waits behind it."""
        pause = 1.0
        while (first := self.spool.first()) is not None:
            number, entry = first
            if await self._sent(entry):
                pause = 1.0
                self.spool.remove(number)
                continue
            moving = asyncio.create_task(self._move_to_spool())
            try:
                await self._clock.sleep(pause)
            finally:
                await cancelled(moving)
            pause = min(60.0, 2 * pause)
        if self._started:
            with contextlib.suppress(RedisError, OSError):  # Redis may have come back with nothing in it
                await self.register(self._started)

    async def _move_to_spool(self) -> None:
        """Put on disk what comes, until cancelled."""
        while True:
            _, entry = await self._outbox.get()
            self.spool.append(entry)

    async def _sent(self, entry: Entry) -> bool:
        """Whether Redis took it."""
        try:
            await self._send(entry)
        except (RedisError, OSError):
            return False
        return True

    async def _send(self, entry: Entry) -> None:
        keys = self.keys
        async with self._client.pipeline(transaction=True) as pipe:
            for event_id, kind, event in entry.events:
                fields: Any = {"id": event_id, "type": kind, "event": event}
                pipe.xadd(keys.events, fields, maxlen=MAX_EVENTS, approximate=True)
                pipe.publish(keys.channel, event)
            kept = entry.kept or self.kept
            pipe.expire(keys.events, kept)
            if entry.state is not None:
                pipe.set(keys.state, entry.state, ex=kept)
            if entry.row is not None:
                pipe.rpush(keys.rows, entry.row)
                pipe.ltrim(keys.rows, -entry.rows, -1)
                pipe.expire(keys.rows, kept)
            if entry.over:
                pipe.delete(keys.state, keys.rows)
            await pipe.execute()

    async def register(self, started: str) -> None:
        """Enter the session into the directory, and take out those whose events have expired."""
        self._started = started
        # Not one transaction with the events: the directory lives on another node of a Redis Cluster.
        await self._client.hset(self.keys.directory, self.keys.session, started)
        await self._keep_directory()
        # One that has only just begun may have no events yet.
        old = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        for session, begun in (await listed(self._client, self.keys.prefix)).items():
            keys = Keys(session, self.keys.prefix)
            if keys != self.keys and begun < old and not await self._client.exists(keys.events):
                await self._client.hdel(self.keys.directory, keys.session)

    async def beat(self, load: str) -> None:
        """Leave a sign of life; while Redis is away there is none."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.set(self.keys.alive, load, ex=HEARTBEAT_TTL_S)
            if self._clock.now() - self._listed > DIRECTORY_REFRESH_S:
                await self._keep_directory()

    async def _keep_directory(self) -> None:
        """The directory goes when the last of its sessions does: a killed one, too, leaves no name behind."""
        self._listed = self._clock.now()
        directory, least = self.keys.directory, self.kept + 2 * DIRECTORY_REFRESH_S
        if await self._client.ttl(directory) < least:
            await self._client.expire(directory, least)

    async def flush(self) -> None:
        """Wait until everything is sent, also what an earlier process has left in the spool."""
        self._begin()
        await self._idle.wait()

    async def stop(self) -> None:
        """Send nothing more."""
        if self._writer is not None:
            await cancelled(self._writer)

    async def aclose(self, timeout: float = 30.0) -> bool:
        """Wait until everything is sent; False when Redis stayed away for `timeout` seconds and events wait on disk."""
        sent = True
        try:
            await asyncio.wait_for(self.flush(), timeout)
        except TimeoutError:
            sent = False
        await self.stop()
        while not self._outbox.empty():
            self.spool.append(self._outbox.get_nowait()[1])
        self.spool.close()
        await self._client.aclose()
        return sent
