"""Publishing to Redis: a Stream (the durable log) and a Pub/Sub channel, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from stream.bus.cluster import MAX_AT_ONCE, Lost, Replicas, batches
from stream.bus.connection import connect, listed
from stream.bus.keys import RETENTION_S, Keys
from stream.bus.running import Home, enter, home_of, leave, life
from stream.bus.spool import Entry, Spool, spool_path
from stream.bus.subscriber import subscribe
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.events import Base, Event, SessionEnded

MAX_EVENTS = 100_000  # events in a session's Stream, approximately
DIRECTORY_REFRESH_S = 3600  # seconds after which a live session renews the expiry of the directory
HEARTBEAT_TTL_S = 10  # seconds after which a heartbeat expires
MAX_OUTBOX = 10_000  # events that wait for a slow Redis; beyond that the oldest are dropped and counted
BATCH = 64  # entries that one question to the replicas confirms, at most
CONFIRM_RETRY_S = 1.0  # seconds between questions while no replica confirms


class Bus:
    """Publishes one session's events in order, without ever making the session wait for Redis.

    Events queue in a bounded outbox; a writer task sends them. While Redis is unreachable, or refuses them, they wait
    in a bounded spool on disk, and the writer retries with back-off (1 … 60 s).

    Where Redis has replicas, an event counts as sent when one of them has it (WAIT, once a batch): a leader that dies
    takes what it alone had with it. What no replica confirms waits in the spool, too, and the next leader gets it again
    unless it has it.
    """

    def __init__(
        self,
        url: str,
        keys: Keys,
        retention_s: int = RETENTION_S,
        spool: Spool | None = None,
        clock: Clock = MonotonicClock(),
        home: Home | None = None,
    ) -> None:
        """retention_s: lifetime of the events in Redis after the last of them; spool: None = the session's own, which
        may hold events that an earlier process could not send; home: where the session lives, if it goes on. Raises
        BusError for an invalid address."""
        self.url, self.keys, self.retention_s = url, keys, retention_s
        self.delay = 0.0
        """Seconds from `publish` to Redis's answer, for the last event."""
        self.spool = Spool(spool_path(keys.session, keys.prefix)) if spool is None else spool
        self._client, self._clock = connect(url), clock
        self.forgotten = asyncio.Event()
        """Set once the session turns out to have been forgotten while it went on: nothing more is published."""
        self._home = home
        self._outbox: asyncio.Queue[tuple[float, Entry]] = asyncio.Queue(MAX_OUTBOX)
        self._dropped_from_outbox = 0
        self._writer: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._replicas = Replicas(self._client, keys, self.retention_s, clock)
        self._unconfirmed: list[Entry] = []  # accepted, and not in the spool
        self._accepted = 0  # number of the last spooled entry that Redis has accepted
        self._newest: str | None = None  # id of the last spooled event that Redis has accepted
        self._doubtful: set[str] = set()  # ids of events that Redis may have, or not
        self._started = ""
        self._renewed_at = 0.0

    @property
    def dropped_events(self) -> int:
        """Number of events dropped because outbox or spool was full."""
        return self._dropped_from_outbox + self.spool.dropped_events

    @property
    def is_spooling(self) -> bool:
        """True while events wait on disk because Redis is unreachable."""
        return self.spool.first(self._accepted) is not None

    def publish(self, *events: Base, state: str | None = None, row: str | None = None, rows: int = 0) -> None:
        """Queue events and, in the same transaction, the session's `state` and one `row`, of which Redis holds the
        last `rows`."""
        payloads = [(event.id, getattr(event, "type", ""), event.wire()) for event in events]
        ended = any(isinstance(event, SessionEnded) for event in events)
        self._put(Entry(payloads, state, row, rows, ended, self.retention_s))

    def save_state(self, state: str) -> None:
        """Queue the session's state without an event."""
        self._put(Entry(state=state, kept=self.retention_s))

    def _put(self, entry: Entry) -> None:
        self._start_writer()
        if self._outbox.full():
            self._dropped_from_outbox += len(self._outbox.get_nowait()[1].events)
        self._idle.clear()
        self._outbox.put_nowait((self._clock.now(), entry))

    def _start_writer(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while True:
            if self.spool.first() is not None:
                await self._drain_spool()
                continue
            if self._outbox.empty() or len(self._unconfirmed) >= BATCH:
                await self._confirm()
                if self.spool.first() is not None:
                    continue
            if self._outbox.empty():
                self._idle.set()
            queued, entry = await self._outbox.get()
            self._unconfirmed.append(entry)
            if await self._sent(entry):
                self.delay = self._clock.now() - queued
            else:
                self._spool_unconfirmed()

    async def _confirm(self) -> None:
        """Forget the entries that have been sent if a replica has them, else put them into the spool."""
        events = [event_id for entry in self._unconfirmed for event_id in _ids(entry)]
        try:
            confirmed = not events or self.forgotten.is_set() or await self._replicas.have(events[-1])
        except (Lost, RedisError, OSError):
            self._spool_unconfirmed()
            return
        if confirmed:
            self._unconfirmed.clear()
        else:
            self._newest = events[-1]
            self._accepted = self._spool_unconfirmed()

    def _spool_unconfirmed(self) -> int:
        """Put entries that Redis accepted, or may have, into the spool; returns the number of the last."""
        number = 0
        for entry in self._unconfirmed:
            number = self.spool.append(entry)
            self._doubtful.update(_ids(entry))
        self._unconfirmed.clear()
        return number

    async def _drain_spool(self) -> None:
        """Send the spooled entries in order; entries that arrive meanwhile are spooled behind them."""
        pause = 1.0
        held: set[str] | None = None  # ids of events that the Stream has
        while self.spool.first() is not None:
            try:
                for _ in range(BATCH):
                    if (following := self.spool.first(self._accepted)) is None:
                        break
                    number, entry = following
                    events = set(_ids(entry))
                    if is_doubtful := bool(events) and events <= self._doubtful:
                        held = await self._replicas.ids(3 * len(self.spool) + 1_000) if held is None else held
                    if not (is_doubtful and events <= (held or set())) and not self.forgotten.is_set():
                        self._doubtful |= events
                        await self._send(entry)
                    self._accepted = number
                    self._newest = entry.events[-1][0] if entry.events else self._newest
                confirmed = self._newest is None or self.forgotten.is_set()
                confirmed = confirmed or await self._replicas.have(str(self._newest))
                pause = 1.0
            except (Lost, RedisError, OSError):
                self._accepted, self._newest, held = 0, None, None
                await self._spool_for(pause)
                pause = min(60.0, 2 * pause)
                continue
            while (first := self.spool.first()) is not None and first[0] <= self._accepted:
                if not confirmed and len(self.spool) <= MAX_OUTBOX:
                    break
                self._doubtful.difference_update(_ids(first[1]))
                self.spool.remove(first[0])
            if not confirmed and self.spool.first(self._accepted) is None:
                await self._spool_next(CONFIRM_RETRY_S)
        self._newest = None
        self._accepted = 0
        if self._started:
            with contextlib.suppress(RedisError, OSError):  # Redis may have restarted empty
                await self.register(self._started)

    async def _spool_for(self, seconds: float) -> None:
        """Wait, and put on disk what comes meanwhile."""
        moving = asyncio.create_task(self._move_to_spool())
        try:
            await self._clock.sleep(seconds)
        finally:
            await cancelled(moving)

    async def _spool_next(self, seconds: float) -> None:
        """Put on disk what comes next, or nothing if nothing comes."""
        with contextlib.suppress(TimeoutError):
            _, entry = await asyncio.wait_for(self._outbox.get(), seconds)
            self.spool.append(entry)

    async def _move_to_spool(self) -> None:
        """Put on disk what comes, until cancelled."""
        while True:
            _, entry = await self._outbox.get()
            self.spool.append(entry)

    async def _sent(self, entry: Entry) -> bool:
        """Send an entry, unless the session was forgotten; False if Redis did not accept it."""
        if self.forgotten.is_set():
            return True
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
            retention_s = entry.kept or self.retention_s
            pipe.expire(keys.events, retention_s)
            pipe.expire(keys.annotations, retention_s)
            if entry.state is not None:
                pipe.set(keys.state, entry.state, ex=retention_s)
            if entry.row is not None:
                pipe.rpush(keys.rows, entry.row)
                pipe.ltrim(keys.rows, -entry.rows, -1)
                pipe.expire(keys.rows, retention_s)
            if entry.over:
                pipe.delete(keys.state, keys.rows)
            pipe.exists(keys.forgotten)
            *_, forgotten = await pipe.execute()
        with contextlib.suppress(RedisError, OSError):  # the entry itself is there
            if forgotten:
                await self._forget()
            elif entry.over:
                await leave(self._client, keys)

    async def register(self, started: str) -> None:
        """Enter the session (started: ISO 8601) into the directory, and remove sessions whose events have expired.

        Raises RedisError or OSError.
        """
        self._started = started
        await self._enter()
        # A session that has only just started may have no events yet.
        old = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        others = [
            session
            for session, start in (await listed(self._client, self.keys.prefix)).items()
            if session != self.keys.session and start < old
        ]
        for some in batches(others, MAX_AT_ONCE):
            streams = [Keys(session, self.keys.prefix).events for session in some]
            there = await self._client.run_each([(key, ("EXISTS", key)) for key in streams])
            if gone := [session for session, answer in zip(some, there, strict=True) if answer == 0]:
                await self._client.hdel(self.keys.directory, *gone)
                await self._client.hdel(self.keys.running, *gone)  # one that lives after all enters itself again

    async def beat(self, load: str) -> None:
        """Write the heartbeat (load: JSON of `stream.bus.directory.Load`); silently skipped if Redis is unreachable."""
        with contextlib.suppress(RedisError, OSError):
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.set(self.keys.alive, load, ex=HEARTBEAT_TTL_S)
                pipe.exists(self.keys.forgotten)
                _, forgotten = await pipe.execute()
            if forgotten:
                await self._forget()
            elif self._started and not await self._is_listed():  # Redis was emptied: none could find it, nor stop it
                await self._enter()
            elif self._clock.now() - self._renewed_at > DIRECTORY_REFRESH_S:
                await self._renew_directory()

    async def _is_listed(self) -> bool:
        keys = self.keys
        if await self._client.hget(keys.directory, keys.session) is None:
            return False
        return self._home is None or await home_of(self._client, keys) is not None

    async def _enter(self) -> None:
        """Enter the session into the directory and among the running ones."""
        # Not in one transaction with the events: these keys are on other nodes of a Redis Cluster.
        await self._client.hset(self.keys.directory, self.keys.session, self._started)
        await self._renew_directory()

    async def _forget(self) -> None:
        """Publish nothing more, and take back what was published since the session was forgotten."""
        self.forgotten.set()
        keys = self.keys
        for key in (keys.events, keys.annotations, keys.state, keys.rows, keys.alive):
            await self._client.expire(key, 0)  # who publishes may not delete
        await self._client.hdel(keys.directory, keys.session)
        await leave(self._client, keys)

    async def _renew_directory(self) -> None:
        """Extend the directory's expiry, so that it goes with the last of its sessions, even if that was killed."""
        self._renewed_at = self._clock.now()
        if self._home is not None:
            await enter(self._client, self.keys, self._home)
        directory, min_ttl_s = self.keys.directory, self.retention_s + 2 * DIRECTORY_REFRESH_S
        if await self._client.ttl(directory) < min_ttl_s:
            await self._client.expire(directory, min_ttl_s)

    async def flush(self) -> None:
        """Wait until everything is sent, including spooled entries of an earlier process."""
        self._start_writer()
        await self._idle.wait()

    async def stop(self) -> None:
        """Stop the writer; nothing more is sent."""
        if self._writer is not None:
            await cancelled(self._writer)

    async def aclose(self, timeout: float = 30.0) -> bool:
        """Wait until everything is sent; False if `timeout` seconds passed, and the remaining events wait on disk."""
        sent = True
        try:
            await asyncio.wait_for(self.flush(), timeout)
        except TimeoutError:
            sent = False
        await self.stop()
        self._spool_unconfirmed()
        while not self._outbox.empty():
            self.spool.append(self._outbox.get_nowait()[1])
        self.spool.close()
        await self._client.aclose()
        return sent

    def events(self) -> AsyncGenerator[Event]:
        """The session's events, as every subscriber receives them."""
        return subscribe(self.url, self.keys.session, self.keys.prefix, wait=None)

    async def end(self, reason: str) -> None:
        """Close, and publish the `session.ended` of a session that can no longer do it itself."""
        await self.aclose(timeout=5)  # what it had to tell comes before
        if not self.forgotten.is_set():
            await publish_end(self.url, self.keys, self.retention_s, reason)


async def publish_end(url: str, keys: Keys, kept: int, reason: str) -> None:
    """Publish the `session.ended` of a session that cannot go on, whose events Redis keeps for `kept` seconds; what it
    left in this machine's spool comes before, perhaps its own end."""
    bus = Bus(url, keys, kept)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(bus.flush(), 5)
    if await _has_ended(url, keys):
        await bus.aclose(timeout=5)
        return
    bus.publish(broken_off(keys.session, reason))
    await bus.aclose(timeout=5)


def broken_off(session: str, reason: str) -> SessionEnded:
    """The last event of a session that broke off, so that nothing is known of its length and counts."""
    return SessionEnded(
        id=f"{session}:ended", session=session, reason=reason, duration=0, utterances=0, failed=0, counts={}
    )


async def _has_ended(url: str, keys: Keys) -> bool:
    """True if the session's end stands in Redis, as far as that can be read."""
    client = connect(url)
    try:
        return await life(client, keys) == "ended"
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()


def _ids(entry: Entry) -> list[str]:
    return [event_id for event_id, _, _ in entry.events]
