"""Publishing to Redis: a Stream (the durable log) and a Pub/Sub channel, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from stream.cluster import Client
from stream.events import Base

PREFIX = "undertone"
CAP = 100_000  # events kept a session, roughly
RETENTION = 24 * 3600  # seconds a session's keys outlive its last event, unless it asks for others
LISTED = 3600  # seconds after which a session that goes on sees to it that the directory is kept
ALIVE = 10  # seconds that a sign of life holds
CLAIMED = 60  # seconds that an id is kept for a session that is about to begin
OUTBOX = 10_000  # events that wait for a slow Redis before the oldest are given up and counted
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BusError(Exception):
    """Redis cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Keys:
    """Names in Redis. The braces are Redis Cluster's hash tag: all keys of a session live on one node."""

    session: str
    prefix: str = PREFIX

    def __post_init__(self) -> None:
        if not SESSION_ID.fullmatch(self.session):
            raise ValueError(f"session {self.session!r}: letters, digits, '.', '_' and '-', at most 64")

    @property
    def events(self) -> str:
        """The Stream."""
        return f"{self.prefix}:{{{self.session}}}:events"

    @property
    def channel(self) -> str:
        """The Pub/Sub channel."""
        return f"{self.prefix}:{{{self.session}}}"

    @property
    def alive(self) -> str:
        """How a session that goes on does (`stream.directory.Load`); gone when it gives no sign of life."""
        return f"{self.prefix}:{{{self.session}}}:alive"

    @property
    def directory(self) -> str:
        """Hash of all sessions: id -> ISO time of start."""
        return f"{self.prefix}:sessions"


def connect(url: str, timeout: float | None = 5.0) -> Client:
    """A client of the Redis, or of the Redis Cluster, that the server at `url` belongs to.

    It fails within `timeout` seconds (None: blocks, for subscribers) and leaves retrying to its owner. Raises BusError
    for an address that is none.
    """
    try:
        made = Client.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=5.0, retry=Retry(NoBackoff(), 0), decode_responses=True
        )
        return cast(Client, made)
    except ValueError as error:
        raise BusError(f"Redis address {public(url)!r}: {error}") from None


async def check(url: str) -> None:
    """Raises BusError with one clear line when the server does not answer or refuses us."""
    client = connect(url)
    try:
        await client.ping()
    except AuthenticationError:
        raise BusError(f"Redis at {public(url)} refuses the user name or password") from None
    except ResponseError as error:
        raise BusError(f"Redis at {public(url)}: {error}") from None
    except (RedisError, OSError) as error:
        raise BusError(f"no Redis answers at {public(url)} ({error})") from None
    finally:
        await client.aclose()


async def exists(url: str, keys: Keys) -> bool:
    """Whether the session has published anything that Redis still keeps."""
    client = connect(url)
    try:
        return bool(await client.exists(keys.events))
    finally:
        await client.aclose()


async def claim(url: str, keys: Keys) -> bool:
    """Take the session's id for one that is about to start; False when it is taken or Redis still keeps its events."""
    client = connect(url)
    try:
        return not await client.exists(keys.events) and bool(await client.set(keys.alive, "", nx=True, ex=CLAIMED))
    finally:
        await client.aclose()


def public(url: str) -> str:
    """The address without its password, for messages."""
    return re.sub(r"//.*@", "//…@", url)


class Bus:
    """Publishes one session's events in order, without ever making the session wait for Redis.

    Events queue in a bounded outbox; a writer task sends them, and tries again (1 … 60 s) while Redis is away.
    """

    def __init__(self, url: str, keys: Keys, kept: int = RETENTION) -> None:
        """kept: seconds that Redis keeps the events after the last of them."""
        self.url, self.keys, self.kept = url, keys, kept
        self.given_up = 0
        """Events dropped because the outbox was full."""
        self.delay = 0.0
        """Seconds the last event spent between `publish` and Redis's answer."""
        self._client = connect(url)
        self._outbox: asyncio.Queue[tuple[float, Base]] = asyncio.Queue(OUTBOX)
        self._writer: asyncio.Task[None] | None = None
        self._listed = 0.0

    def publish(self, event: Base) -> None:
        """Queue an event."""
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        if self._outbox.full():
            self._outbox.get_nowait()
            self._outbox.task_done()
            self.given_up += 1
        self._outbox.put_nowait((time.monotonic(), event))

    async def _write(self) -> None:
        while True:
            queued, event = await self._outbox.get()
            pause = 1.0
            while True:
                try:
                    await self._send(event)
                    break
                except (RedisError, OSError):
                    await asyncio.sleep(pause)
                    pause = min(60.0, 2 * pause)
            self.delay = time.monotonic() - queued
            self._outbox.task_done()

    async def _send(self, event: Base) -> None:
        keys, payload = self.keys, event.wire()
        async with self._client.pipeline(transaction=True) as pipe:
            fields: Any = {"id": event.id, "type": getattr(event, "type", ""), "event": payload}
            pipe.xadd(keys.events, fields, maxlen=CAP, approximate=True)
            pipe.publish(keys.channel, payload)
            pipe.expire(keys.events, self.kept)
            await pipe.execute()

    async def register(self, started: str) -> None:
        """Enter the session into the directory, and take out those whose events have expired."""
        # Not one transaction with the events: the directory lives on another node of a Redis Cluster.
        await self._client.hset(self.keys.directory, self.keys.session, started)
        await self._keep_directory()
        # One that has only just begun may have no events yet.
        old = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        for session, begun in (await self._client.hgetall(self.keys.directory)).items():
            keys = Keys(str(session), self.keys.prefix)
            if keys != self.keys and str(begun) < old and not await self._client.exists(keys.events):
                await self._client.hdel(self.keys.directory, keys.session)

    async def beat(self, load: str) -> None:
        """Leave a sign of life; while Redis is away there is none."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.set(self.keys.alive, load, ex=ALIVE)
            if time.monotonic() - self._listed > LISTED:
                await self._keep_directory()

    async def _keep_directory(self) -> None:
        """The directory goes when the last of its sessions does: a killed one, too, leaves no name behind."""
        self._listed = time.monotonic()
        directory, least = self.keys.directory, self.kept + 2 * LISTED
        if await self._client.ttl(directory) < least:
            await self._client.expire(directory, least)

    async def flush(self) -> None:
        """Wait until everything is sent."""
        await self._outbox.join()

    async def aclose(self, timeout: float = 30.0) -> bool:
        """Wait until everything is sent; False when Redis stayed away for `timeout` seconds and events are lost."""
        sent = True
        try:
            await asyncio.wait_for(self.flush(), timeout)
        except TimeoutError:
            sent = False
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        await self._client.aclose()
        return sent
