"""Connections to Redis, and short queries: reachability, existence of a session, its saved state."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import unquote

import redis.asyncio
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from stream.bus.cluster import Client
from stream.bus.keys import PREFIX, SESSION_ID, Keys
from stream.errors import StreamError

CLAIM_TTL_S = 60  # seconds that a session id stays reserved until the session starts
SENTINELS = re.compile(
    r"redis(?P<tls>s)?\+sentinel://((?P<username>[^:@/]*):(?P<password>[^@/]*)@)?"
    r"(?P<hosts>[^/@]+:\d+)/(?P<service>[^/]+)(/(?P<db>\d+))?"
)


class BusError(StreamError):
    """Redis is unreachable or refuses us."""


def connect(url: str, timeout: float | None = 5.0) -> Client:
    """A client of the Redis server, or Redis Cluster, at `url`.

    redis+sentinel://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]/SERVICE[/DB] finds the leader through Sentinels (rediss+…:
    over TLS). Commands fail after `timeout` seconds (None: never, for subscribers); retries are up to the caller.
    Raises BusError for an invalid address.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout, "socket_connect_timeout": 5.0, "retry": Retry(NoBackoff(), 0),
        "decode_responses": True, "encoding_errors": "replace",  # bytes that others wrote must not break a connection
    }  # fmt: skip
    try:
        found = SENTINELS.fullmatch(url)
        if found is None:
            return cast(Client, Client.from_url(url, **options))
        hosts = [host.rpartition(":") for host in found["hosts"].split(",")]
        sentinel = Sentinel(
            [(name, int(port)) for name, _, port in hosts], sentinel_kwargs={**options, "ssl": bool(found["tls"])}
        )
        options |= {name: unquote(found[name]) for name in ("username", "password") if found[name]}
        leader: Client = sentinel.master_for(
            found["service"], Client, ssl=bool(found["tls"]), db=int(found["db"] or 0), **options
        )
        leader.sentinels = sentinel.sentinels
        return leader
    except ValueError as error:
        raise BusError(f"Redis address {public(url)!r}: {error}") from None


async def check(url: str) -> None:
    """Check that the server answers and accepts us; raises BusError with one line if not."""
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
    """True if Redis holds any event of the session."""
    client = connect(url)
    try:
        return bool(await client.exists(keys.events))
    finally:
        await client.aclose()


async def claim(url: str, keys: Keys) -> bool:
    """Reserve the id of a session that is about to start; False if it is in use, Redis still holds events of it, or it
    was forgotten lately while nothing proved its death."""
    client = connect(url)
    try:
        if await client.exists(keys.events) or await client.exists(keys.forgotten):
            return False
        return bool(await client.set(keys.alive, "", nx=True, ex=CLAIM_TTL_S))
    finally:
        await client.aclose()


async def renew_claim(url: str, keys: Keys) -> None:
    """Hold on to a claimed id while its session takes long to start."""
    client = connect(url)
    try:
        await client.expire(keys.alive, CLAIM_TTL_S)
    finally:
        await client.aclose()


async def claim_silent(url: str, keys: Keys) -> bool:
    """Take hold of a session without a sign of life, to end it; False if it has one, or another has hold of it."""
    client = connect(url)
    try:
        return bool(await client.set(keys.alive, "", nx=True, ex=CLAIM_TTL_S))
    finally:
        await client.aclose()


async def release(url: str, keys: Keys) -> None:
    """Give a claimed id back, of a session that did not begin."""
    client = connect(url)
    try:
        await client.expire(keys.alive, 0)  # who publishes may not delete
    finally:
        await client.aclose()


async def listed(client: redis.asyncio.Redis, prefix: str = PREFIX) -> dict[str, str]:
    """The directory: start time (ISO 8601) by session id; entries that are not valid session ids are ignored."""
    entries = await client.hgetall(Keys("any", prefix).directory)
    return {str(name): str(started) for name, started in entries.items() if SESSION_ID.fullmatch(str(name))}


def public(url: str) -> str:
    """The address without its password, for messages."""
    return re.sub(r"//.*@", "//…@", url)


async def read_state(url: str, keys: Keys) -> tuple[str | None, list[str]]:
    """State and rows that the session's last process saved for a resume; (None, []) when there are none."""
    client = connect(url)
    try:
        async with client.pipeline(transaction=True) as pipe:
            pipe.get(keys.state)
            pipe.lrange(keys.rows, 0, -1)
            state, rows = await pipe.execute()
        return state, rows
    finally:
        await client.aclose()
