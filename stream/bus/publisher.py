"""Publishing to Redis: a Stream (the durable log) and a Pub/Sub channel, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError, ResponseError

from stream.bus.cluster import MAX_AT_ONCE, Client, batches
from stream.bus.connection import connect, listed
from stream.bus.keys import RETENTION_S, Keys
from stream.bus.spool import Entry, Spool, spool_path
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.events import Base, SessionEnded

MAX_EVENTS = 100_000  # events in a session's Stream, approximately
DIRECTORY_REFRESH_S = 3600  # seconds after which a live session renews the expiry of the directory
HEARTBEAT_TTL_S = 10  # seconds after which a heartbeat expires
MAX_OUTBOX = 10_000  # events that wait for a slow Redis; beyond that the oldest are dropped and counted
BATCH = 64  # entries that one question to the replicas confirms, at most
REPLICA_PATIENCE_S = 0.5  # seconds in which a replica has to confirm; until one does again, there is no patience
REPLICA_POLL_S = 10.0  # seconds between questions whether there are replicas
REPLICA_GRACE_S = 60.0  # seconds after which replicas that are gone need not confirm any more: longer than a failover
CONFIRM_RETRY_S = 1.0  # seconds between questions while no replica confirms
log = logging.getLogger(__name__)


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
    ) -> None:
        """retention_s: lifetime of the events in Redis after the last of them; spool: None = the session's own, which
        may hold events that an earlier process could not send. Raises BusError for an invalid address."""
        self.url, self.keys, self.retention_s = url, keys, retention_s
        self.delay = 0.0
        """Seconds from `publish` to Redis's answer, for the last event."""
        self.spool = Spool(spool_path(keys.session, keys.prefix)) if spool is None else spool
        self._client, self._clock = connect(url), clock
        self._outbox: asyncio.Queue[tuple[float, Entry]] = asyncio.Queue(MAX_OUTBOX)
        self._dropped_from_outbox = 0
        self._writer: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._replicas = _Replicas(self._client, keys, self.retention_s, clock)
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
            confirmed = not events or await self._replicas.have(events[-1])
        except (_Lost, RedisError, OSError):
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
                    if not (is_doubtful and events <= (held or set())):
                        self._doubtful |= events
                        await self._send(entry)
                    self._accepted = number
                    self._newest = entry.events[-1][0] if entry.events else self._newest
                confirmed = self._newest is None or await self._replicas.have(self._newest)
                pause = 1.0
            except (_Lost, RedisError, OSError):
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
        """Send an entry; False if Redis did not accept it."""
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
            if entry.state is not None:
                pipe.set(keys.state, entry.state, ex=retention_s)
            if entry.row is not None:
                pipe.rpush(keys.rows, entry.row)
                pipe.ltrim(keys.rows, -entry.rows, -1)
                pipe.expire(keys.rows, retention_s)
            if entry.over:
                pipe.delete(keys.state, keys.rows)
            await pipe.execute()

    async def register(self, started: str) -> None:
        """Enter the session (started: ISO 8601) into the directory, and remove sessions whose events have expired.

        Raises RedisError or OSError.
        """
        self._started = started
        # Not in one transaction with the events: the directory is on another node of a Redis Cluster.
        await self._client.hset(self.keys.directory, self.keys.session, started)
        await self._renew_directory()
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

    async def beat(self, load: str) -> None:
        """Write the heartbeat (load: JSON of `stream.bus.directory.Load`); silently skipped if Redis is unreachable."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.set(self.keys.alive, load, ex=HEARTBEAT_TTL_S)
            if self._clock.now() - self._renewed_at > DIRECTORY_REFRESH_S:
                await self._renew_directory()

    async def _renew_directory(self) -> None:
        """Extend the directory's expiry, so that it goes with the last of its sessions, even if that was killed."""
        self._renewed_at = self._clock.now()
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


class _Lost(Exception):
    """The Stream lacks an event that Redis had accepted: another server leads, without it."""


def _ids(entry: Entry) -> list[str]:
    return [event_id for event_id, _, _ in entry.events]


class _Replicas:
    """Asks whether a replica has what the leader has accepted."""

    def __init__(self, client: Client, keys: Keys, retention_s: int, clock: Clock) -> None:
        self._client, self._keys, self._retention_s, self._clock = client, keys, retention_s, clock
        self._asked_at = self._seen_at = -math.inf
        self._patience_s = REPLICA_PATIENCE_S
        self._may_ask = True

    async def have(self, newest: str) -> bool:
        """True if a replica has the event `newest` of ours, and all before it, or if there are no replicas to have it.

        Raises _Lost, RedisError or OSError.
        """
        try:
            return not await self._expected() or await self._confirmed(newest)
        except (NoPermissionError, ResponseError) as error:
            if not isinstance(error, NoPermissionError) and "unknown command" not in str(error):
                raise
            log.warning("Redis refuses ROLE or WAIT: what its leader loses is not sent again (%s)", error)
            self._may_ask = False
            return True
        except (_Lost, RedisError, OSError):
            self._asked_at = self._seen_at = -math.inf
            raise

    async def ids(self, count: int) -> set[str]:
        """Ids of the last `count` events in the Stream. Raises RedisError or OSError."""
        page: Any = await self._client.xrevrange(self._keys.events, count=count)
        return {str(fields.get("id")) for _, fields in page}

    async def _expected(self) -> bool:
        """True if there are replicas, or were until a moment ago."""
        now = self._clock.now()
        if self._may_ask and now - self._asked_at > REPLICA_POLL_S:
            role: Any = await self._client.execute_command("ROLE")
            if role[0] != "master":
                raise ReadOnlyError("this server does not lead")
            self._asked_at = now
            if role[2]:
                self._seen_at = now
        return self._may_ask and now - self._seen_at < REPLICA_GRACE_S

    async def _confirmed(self, newest: str) -> bool:
        name = self._keys.events
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.xrevrange(name, count=1)
            # WAIT is about what this connection has written, which need not be the one that wrote the events.
            pipe.expire(name, self._retention_s)
            pipe.wait(1, round(1000 * self._patience_s))
            tail, _, copies = await pipe.execute()
        if not (tail and tail[0][1].get("id") == newest) and newest not in await self.ids(1_000):
            raise _Lost
        if copies:
            self._seen_at, self._patience_s = self._clock.now(), REPLICA_PATIENCE_S
            return True
        self._patience_s, self._asked_at = 0.001, -math.inf
        await self._client.find_leader()
        return False
