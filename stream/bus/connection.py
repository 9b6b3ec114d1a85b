"""Connections to Redis, and short queries: reachability, existence of a session, its saved state."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, RedisError, ResponseError
from redis.retry import Retry

from stream.bus.cluster import Client
from stream.bus.keys import PREFIX, SESSION_ID, Keys, alert_marker, alerts_stream
from stream.clock import Clock
from stream.errors import StreamError
from stream.repeats import Repeats

log = logging.getLogger(__name__)

ESCAPE = "in a user or password, write @ / ? # as %40 %2F %3F %23"
FULL = "its memory is full (maxmemory): `undertone forget` makes room, as does a shorter --keep in time"
READ_BLOCK_S = 10.0  # seconds that a read blocks; without an answer long after that, the connection is lost
FIND_POLL_S = 0.25  # seconds between looks for a session that has not begun
CLAIM_TTL_S = 60  # seconds that a session id stays reserved until the session starts
SENTINELS = re.compile(
    r"redis(?P<tls>s)?\+sentinel://((?P<username>[^:@/]*):(?P<password>[^@/]*)@)?"
    r"(?P<hosts>[^/@]+:\d+)/(?P<service>[^/]+)(/(?P<db>\d+))?"
)


class BusError(StreamError):
    """Redis is unreachable or refuses us."""


class SessionNotFound(BusError):
    """Redis has no events of the session, and none came within the time that its reader waits."""

    exit_code, http_status = 2, 404


class Outages:
    """Logs failures of a Redis that is asked again and again: the first of a minute, and how many more there were."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url, self._repeats = url, Repeats(clock)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Log a failure, and raise it again."""
        try:
            yield
        except (RedisError, OSError) as error:
            if (more := self._repeats.more("failed")) is not None:
                log.warning("Redis at %s: %s; asking again%s", public(self._url), reason(error), more)
            raise


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
    if fault := unclear(url):
        raise BusError(f"Redis address {public(url)}: {fault}")
    try:
        found = SENTINELS.fullmatch(url)
        if found is None:
            client = cast(Client, Client.from_url(url, **options))
            client.connection_pool.make_connection()  # raises for options that there are not
            return client
        hosts = [host.rpartition(":") for host in found["hosts"].split(",")]
        sentinel = Sentinel(
            [(name.strip("[]"), int(port)) for name, _, port in hosts],
            sentinel_kwargs={**options, "ssl": bool(found["tls"])},
        )
        options |= {name: unquote(found[name]) for name in ("username", "password") if found[name]}
        leader: Client = sentinel.master_for(
            found["service"], Client, ssl=bool(found["tls"]), db=int(found["db"] or 0), **options
        )
        leader.sentinels = sentinel.sentinels
        return leader
    except TypeError:
        raise BusError(f"Redis address {public(url)}: after ? stand options that there are not") from None
    except ValueError as error:
        raise BusError(f"Redis address {public(url)}: {error}") from None


async def connections(url: str, clock: Clock) -> AsyncGenerator[Client]:
    """One client after another, with back-off between them; a client that worked for a minute resets the back-off."""
    pause = 1.0
    while True:
        client = connect(url, timeout=1.5 * READ_BLOCK_S)
        started = clock.now()
        try:
            yield client
        finally:
            await client.aclose()
        pause = 1.0 if clock.now() - started > 60 else pause
        await clock.sleep(pause)
        pause = min(60.0, 2 * pause)


@contextlib.contextmanager
def retried() -> Iterator[None]:
    """Swallow a lost connection, so that the surrounding loop continues with the next one."""
    try:
        yield
    except (AuthenticationError, NoPermissionError):
        raise
    except (RedisError, OSError):
        pass


async def check(url: str) -> None:
    """Check that the server answers and accepts us; raises BusError with one line if not."""
    client = connect(url)
    try:
        await client.ping()
    except AuthenticationError:
        raise BusError(f"Redis at {public(url)} refuses the user name or password") from None
    except ResponseError as error:
        raise BusError(f"Redis at {public(url)}: {reason(error)}") from None
    except (RedisError, OSError) as error:
        raise BusError(f"no Redis answers at {public(url)} ({reason(error)})") from None
    finally:
        await client.aclose()


async def check_publishing(url: str, keys: Keys) -> None:
    """Check that the server would take what a session publishes. Nothing is written: it queues the commands of a
    transaction, refuses there what it would refuse, and discards them.

    Raises BusError with one line if not.
    """
    own: list[tuple[str | int, ...]] = [
        ("XADD", keys.events, "*", "id", ""), ("PUBLISH", keys.channel, ""), ("EXPIRE", keys.events, 1),
        ("SET", keys.state, "", "EX", 1), ("RPUSH", keys.rows, ""), ("LTRIM", keys.rows, -1, -1),
        ("DEL", keys.state, keys.rows), ("SET", keys.alive, "", "EX", 1),
    ]  # fmt: skip
    shared: list[tuple[str | int, ...]] = [
        ("HSET", keys.directory, keys.session, ""), ("HGETALL", keys.directory), ("EXPIRE", keys.directory, 1),
        ("TTL", keys.directory), ("HDEL", keys.directory, keys.session),
    ]  # fmt: skip
    await _check_transactions(url, {keys.events: own, keys.directory: shared}, "what a session publishes")


async def check_alerting(url: str, prefix: str = PREFIX) -> None:
    """Check that the server would take alerts, in the same way. Raises BusError with one line if not."""
    stream, mark = alerts_stream(prefix), alert_marker(prefix, "any")
    commands: list[tuple[str | int, ...]] = [
        ("GET", mark), ("XRANGE", stream, "-", "+", "COUNT", 1), ("SET", mark, "", "NX", "EX", 1),
        ("XADD", stream, "*", "id", ""), ("EXPIRE", stream, 1), ("PUBLISH", stream, ""),
    ]  # fmt: skip
    await _check_transactions(url, {stream: commands}, "alerts", mark)


async def _check_transactions(
    url: str, transactions: Mapping[str, Sequence[tuple[str | int, ...]]], of: str, watched: str | None = None
) -> None:
    """Have transactions queued and discarded; each is given with a key that says where a Redis Cluster has its keys.

    of: what they write, for the message; watched: a key that they watch. Raises BusError.
    """
    client = connect(url)
    try:
        for key, commands in transactions.items():
            await client.exists(key)  # the client follows where a Redis Cluster has it
            connection = await client.connection_pool.get_connection()
            try:
                if watched is not None:
                    await connection.send_command("WATCH", watched)
                    await connection.read_response()
                # Alone: where there are no transactions, the commands would be carried out.
                await connection.send_command("MULTI")
                await connection.read_response()
                together = [*commands, ("DISCARD",), ("MULTI",), ("EXEC",)]
                await connection.send_packed_command(connection.pack_commands(together))
                answers = [await _answer(connection) for _ in together]
            finally:
                await client.connection_pool.release(connection)
            for command, answer in zip(together, answers, strict=True):
                if isinstance(answer, ResponseError):
                    raise ResponseError(f"{command[0]}: {reason(answer)}")
    except ResponseError as error:
        raise BusError(f"Redis at {public(url)} refuses {of}: {reason(error)}") from None
    except (RedisError, OSError) as error:
        raise BusError(f"no Redis answers at {public(url)} ({reason(error)})") from None
    finally:
        await client.aclose()


async def _answer(connection: Any) -> Any:
    """The next answer on a connection, also one that is an error."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def exists(url: str, keys: Keys) -> bool:
    """True if Redis holds any event of the session."""
    client = connect(url)
    try:
        return bool(await client.exists(keys.events))
    finally:
        await client.aclose()


async def wait_for_session(url: str, keys: Keys, wait: float, outages: Outages, clock: Clock) -> None:
    """Wait until Redis has an event of the session, for at most `wait` seconds.

    Raises SessionNotFound then, BusError if Redis does not answer, AuthenticationError or NoPermissionError at once.
    """
    client, until = connect(url), clock.now() + wait
    try:
        while True:
            failure: Exception | None = None
            try:
                with outages.noted():
                    if await client.exists(keys.events):
                        return
            except (AuthenticationError, NoPermissionError):
                raise
            except (RedisError, OSError) as error:
                failure = error
            if (remaining := until - clock.now()) <= 0:
                break
            await clock.sleep(min(FIND_POLL_S if failure is None else 1.0, remaining))
    finally:
        await client.aclose()
    if failure is not None:
        raise BusError(f"no Redis answers at {public(url)} ({reason(failure)})")
    raise SessionNotFound(
        f"no session {keys.session!r} in the Redis at {public(url)}, and none began within {wait:g} s"
    )


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


async def listed(client: Client, prefix: str = PREFIX, only: Iterable[str] | None = None) -> dict[str, str]:
    """The directory, or those of its sessions that are among `only`: start time (ISO 8601) by session id; entries that
    are not valid session ids are ignored."""
    directory = Keys("any", prefix).directory
    if only is not None:
        names = [name for name in dict.fromkeys(only) if SESSION_ID.fullmatch(name)]
        starts = await client.run_each([(directory, ("HGET", directory, name)) for name in names]) if names else []
        for answer in starts:
            if isinstance(answer, RedisError):
                raise answer
        return {name: str(start) for name, start in zip(names, starts, strict=True) if start is not None}
    entries = await client.hgetall(directory)
    return {str(name): str(started) for name, started in entries.items() if SESSION_ID.fullmatch(str(name))}


def public(url: str) -> str:
    """The address without what may be secret, for messages: no user, password and options; of one that is not clear,
    the scheme alone."""
    if unclear(url) is not None:
        known = re.match(r"[a-z+]{1,20}://", url)
        return (known[0] if known else "") + "…"
    address, _, options = url.partition("?")
    scheme, _, rest = address.partition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}://{'…' if login else ''}{at}{place}{'?…' if options else ''}"


def unclear(url: str) -> str | None:
    """The way in which an address may be read otherwise than it is meant; None if there is none.

    A password with an unescaped / ? or # ends where redis-py takes the path, options or fragment to begin: the rest
    would be a host's name, and stand in messages.
    """
    if SENTINELS.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return ESCAPE
    if parts.scheme not in ("redis", "rediss", "unix"):
        return "it begins with redis://, rediss://, unix:// or redis+sentinel://"
    if parts.fragment or "#" in url:
        return ESCAPE
    if parts.scheme == "unix":
        return ESCAPE if parts.netloc.rpartition("@")[2] else None
    if "@" in parts.path + parts.query:
        return ESCAPE
    return None if re.fullmatch(r"/?\d*/?", parts.path) else f"after the host comes the number of a database; {ESCAPE}"


def reason(error: Exception) -> str:
    """Redis's own words, without the arguments that it repeats: those of a login have the password."""
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM "):
        return FULL
    return str(error).partition(", with args beginning with")[0]


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
