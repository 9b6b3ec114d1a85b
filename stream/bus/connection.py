"""Connections to Redis, and the short questions asked of it."""

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

CLAIM_TTL_S = 60  # seconds that an id is kept for a session that is about to begin
SENTINELS = re.compile(
    r"redis(?P<tls>s)?\+sentinel://((?P<username>[^:@/]*):(?P<password>[^@/]*)@)?"
    r"(?P<hosts>[^/@]+:\d+)/(?P<service>[^/]+)(/(?P<db>\d+))?"
)


class BusError(Exception):
    """Redis cannot be used; the message is one line for the user."""

    exit_code, http_status = 1, 503


def connect(url: str, timeout: float | None = 5.0) -> Client:
    """A client of the Redis, or of the Redis Cluster, that the server at `url` belongs to.

    redis+sentinel://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]/SERVICE[/DB] asks Sentinels who leads (rediss+…: by TLS).
    It fails within `timeout` seconds (None: blocks, for subscribers) and leaves retrying to its owner. Raises BusError
    for an address that is none.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout, "socket_connect_timeout": 5.0, "retry": Retry(NoBackoff(), 0),
        "decode_responses": True, "encoding_errors": "replace",  # what others write shall not break a connection
    }  # fmt: skip
    try:
        found = SENTINELS.fullmatch(url)
        if found is None:
            return cast(Client, Client.from_url(url, **options))
        hosts = [host.rpartition(":") for host in found["hosts"].split(",")]
        asked = Sentinel(
            [(name, int(port)) for name, _, port in hosts], sentinel_kwargs={**options, "ssl": bool(found["tls"])}
        )
        options |= {name: unquote(found[name]) for name in ("username", "password") if found[name]}
        leader: Client = asked.master_for(
            found["service"], Client, ssl=bool(found["tls"]), db=int(found["db"] or 0), **options
        )
        leader.sentinels = asked.sentinels
        return leader
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
        return not await client.exists(keys.events) and bool(await client.set(keys.alive, "", nx=True, ex=CLAIM_TTL_S))
    finally:
        await client.aclose()


async def listed(client: redis.asyncio.Redis, prefix: str = PREFIX) -> dict[str, str]:
    """The directory: ISO time of start by session; names that can be no session's are somebody else's."""
    entries = await client.hgetall(Keys("any", prefix).directory)
    return {str(name): str(started) for name, started in entries.items() if SESSION_ID.fullmatch(str(name))}


def public(url: str) -> str:
    """The address without its password, for messages."""
    return re.sub(r"//.*@", "//…@", url)


async def read_state(url: str, keys: Keys) -> tuple[str | None, list[str]]:
    """The state and the rows that the session's last process has left; None when there is nothing to go on with."""
    client = connect(url)
    try:
        async with client.pipeline(transaction=True) as pipe:
            pipe.get(keys.state)
            pipe.lrange(keys.rows, 0, -1)
            state, rows = await pipe.execute()
        return state, rows
    finally:
        await client.aclose()
