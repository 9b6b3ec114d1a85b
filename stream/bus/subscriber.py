"""Receiving events: history and live events as one sequence, across lost connections; alone or in a consumer group.

Events are read from the Stream by position (XREAD), which holds both history and live events, so nothing has to be
joined. Pub/Sub carries the same payloads for receivers that need no history.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

import redis.asyncio
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from stream.bus.connection import BusError, connect, listed
from stream.bus.keys import PREFIX, Keys
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.events import Event, SessionStarted, parse_entry

log = logging.getLogger(__name__)

MAX_REMEMBERED_IDS = 1_000  # ids by which events are recognized that a publisher sent twice
PAGE_EVENTS = 500  # events per read
READ_BLOCK_S = 10.0  # seconds that a read blocks; without an answer long after that, the connection is lost
DIRECTORY_POLL_S = 1.0  # seconds between searches for new sessions
CLAIM_IDLE_S = 60.0  # seconds after which another consumer's unacknowledged event is claimed


async def subscribe(
    url: str, session: str, prefix: str = PREFIX, after: str | None = None, *, clock: Clock = MonotonicClock()
) -> AsyncGenerator[Event]:
    """Yield every event of a session, from the first or from the one after the event id `after`, and stop after
    `session.ended`.

    When the connection is lost, reconnects with back-off (1 … 60 s) and continues at the same position. If Redis no
    longer holds the event `after`, starts at the first. Raises AuthenticationError or NoPermissionError, which a retry
    cannot solve.
    """
    keys = Keys(session, prefix)
    seen: OrderedDict[str, None] = OrderedDict()
    started_at: str | None = None
    position: str | None = None if after else "0"
    async with contextlib.aclosing(_connections(url, clock)) as connections:
        async for client in connections:
            with _retried():
                while True:
                    if position is None:
                        position = await _position(client, keys, after or "")
                    for entry_position, event in await _read(client, keys, position):
                        position = entry_position
                        if isinstance(event, SessionStarted) and event.time != started_at:
                            seen.clear()  # they belong to an earlier session of this id that was erased
                            started_at = event.time
                        if event is None or event.id in seen:
                            continue
                        seen[event.id] = None
                        if len(seen) > MAX_REMEMBERED_IDS:
                            seen.popitem(last=False)
                        yield event
                        if event.type == "session.ended":
                            return


def subscribe_sync(url: str, session: str, prefix: str = PREFIX, after: str | None = None) -> Iterator[Event]:
    """`subscribe` for programs without an event loop."""
    with asyncio.Runner() as runner:
        events = subscribe(url, session, prefix, after)
        while (event := runner.run(anext(events, None))) is not None:
            yield event


def follow(url: str, prefix: str = PREFIX, *, clock: Clock = MonotonicClock()) -> AsyncGenerator[Event]:
    """Yield the events of all current and future sessions, for ever, each session's events in order."""
    return _of_all(url, prefix, lambda session: subscribe(url, session, prefix, clock=clock), clock)


async def consume(
    url: str, session: str, group: str, consumer: str, prefix: str = PREFIX, *, clock: Clock = MonotonicClock()
) -> AsyncGenerator[Event]:
    """Yield a session's events to one consumer of `group`; each event goes to one consumer. Stops when all events of
    the session are acknowledged.

    The group is made if it is missing and this Redis user may make it; else raises BusError (`make_group`). An event is
    acknowledged (XACK) when the next one is requested. Events that a consumer had not acknowledged when it died are
    delivered again: to itself when it is back, else to another consumer after a minute. Delivery is at least once.
    Raises also the same exceptions as `subscribe`.
    """
    keys = Keys(session, prefix)
    handled: str | None = None  # position of the last event handed over, whose acknowledgement may have failed
    joined = False
    async with contextlib.aclosing(_connections(url, clock)) as connections:
        async for client in connections:
            with _retried():
                may_make_groups = await _made(client, keys, group)
                own = True
                while True:
                    try:
                        entries = await _share(client, keys, group, consumer, own)
                    except ResponseError as error:
                        if joined and "NOGROUP" in str(error):
                            return  # the session was erased, or has expired
                        if not may_make_groups and "NOGROUP" in str(error) and await client.exists(keys.events):
                            raise BusError(
                                f"session {session} has no group {group!r}, and this Redis user may not make it: as "
                                f"publisher or operator call stream.make_group, "
                                f"or XGROUP CREATE {keys.events} {group} 0"
                            ) from None
                        raise
                    joined = True
                    own = own and bool(entries)
                    for position, event in entries:
                        if event is not None and position != handled:
                            yield event
                        handled = position
                        await client.xack(keys.events, group, position)
                    if not entries and not own and await _finished(client, keys, group):
                        return


async def make_group(url: str, session: str, group: str, prefix: str = PREFIX) -> None:
    """Make a consumer group that begins at a session's first event, unless it is there.

    Raises BusError for a session without events, RedisError when Redis is away or refuses.
    """
    keys, client = Keys(session, prefix), connect(url)
    try:
        await client.xgroup_create(keys.events, group, id="0")
    except NoPermissionError:
        raise
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise BusError(f"no session {session!r} in this Redis") from None
    finally:
        await client.aclose()


def consume_all(
    url: str, group: str, consumer: str, prefix: str = PREFIX, *, clock: Clock = MonotonicClock()
) -> AsyncGenerator[Event]:
    """`consume` for all current and future sessions, for ever.

    An event is acknowledged as soon as it is handed over, so delivery is at most once.
    """
    return _of_all(url, prefix, lambda session: consume(url, session, group, consumer, prefix, clock=clock), clock)


async def _of_all(
    url: str, prefix: str, events_of: Callable[[str], AsyncGenerator[Event]], clock: Clock
) -> AsyncGenerator[Event]:
    """Merge the events of all sessions of the directory; each session has a task of its own."""
    ready: asyncio.Queue[Event] = asyncio.Queue(PAGE_EVENTS)

    async def pump(session: str) -> None:
        async with contextlib.aclosing(events_of(session)) as events:
            async for event in events:
                await ready.put(event)

    async def watch_directory() -> None:
        pumping: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as pumps, contextlib.aclosing(_connections(url, clock)) as connections:
            async for client in connections:
                with _retried():
                    while True:
                        sessions = (await listed(client, prefix)).keys()
                        for session in [name for name, task in pumping.items() if task.done() and name not in sessions]:
                            del pumping[session]  # erased or expired: its id may be used again
                        for session in sorted(sessions - pumping.keys()):
                            pumping[session] = pumps.create_task(pump(session))
                        await clock.sleep(DIRECTORY_POLL_S)

    watcher = asyncio.create_task(watch_directory())
    upcoming = asyncio.create_task(ready.get())
    try:
        while True:
            await asyncio.wait({upcoming, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if watcher.done():
                watcher.result()
            yield await upcoming
            upcoming = asyncio.create_task(ready.get())
    finally:
        await cancelled(watcher)
        await cancelled(upcoming)


async def history(url: str, session: str, prefix: str = PREFIX) -> list[Event]:
    """All events of a session so far, without duplicates. Raises RedisError."""
    keys, client = Keys(session, prefix), connect(url)
    events: dict[str, Event] = {}
    lower = "-"
    try:
        while True:
            page: Any = await client.xrange(keys.events, min=lower, count=PAGE_EVENTS)
            if not page:
                return list(events.values())
            for position, fields in page:
                event = _event(keys, position, fields)
                if event is not None:
                    events.setdefault(event.id, event)
                lower = f"({position}"
    finally:
        await client.aclose()


async def _made(client: redis.asyncio.Redis, keys: Keys, group: str) -> bool:
    """Make a group unless it is there or its session is not; False if this user may not make groups."""
    try:
        await client.xgroup_create(keys.events, group, id="0")
    except NoPermissionError:
        return False
    except ResponseError:
        pass
    return True


@contextlib.contextmanager
def _retried() -> Iterator[None]:
    """Swallow a lost connection, so that the surrounding loop continues with the next one."""
    try:
        yield
    except (AuthenticationError, NoPermissionError):
        raise
    except (RedisError, OSError):
        pass


async def _connections(url: str, clock: Clock) -> AsyncGenerator[redis.asyncio.Redis]:
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


async def _read(client: redis.asyncio.Redis, keys: Keys, position: str) -> list[tuple[str, Event | None]]:
    """Position and event of the entries after `position`; [] if none arrives within `READ_BLOCK_S` seconds."""
    return _entries(
        keys, await client.xread({keys.events: position}, count=PAGE_EVENTS, block=round(1000 * READ_BLOCK_S))
    )


async def _share(
    client: redis.asyncio.Redis, keys: Keys, group: str, consumer: str, own: bool
) -> list[tuple[str, Event | None]]:
    """Entries for this consumer: its own unacknowledged ones (`own`), else those another left behind, else new ones."""
    if not own:
        idle = round(1000 * CLAIM_IDLE_S)
        claimed: Any = await client.xautoclaim(keys.events, group, consumer, idle, "0", count=PAGE_EVENTS)
        if claimed[1]:
            return [(position, _event(keys, position, fields)) for position, fields in claimed[1]]
    start = "0" if own else ">"
    wait = round(1000 * DIRECTORY_POLL_S)
    return _entries(keys, await client.xreadgroup(group, consumer, {keys.events: start}, count=1, block=wait))


def _entries(keys: Keys, answer: Any) -> list[tuple[str, Event | None]]:
    """Position and event of the entries in XREAD's answer for one Stream; None in place of an unreadable event."""
    pages = answer.values() if isinstance(answer, dict) else [page for _, page in answer or []]
    found: list[tuple[str, Event | None]] = []
    for page in pages:
        for entry in page:
            # RESP3 nests one level deeper than RESP2.
            for position, fields in entry if isinstance(entry, list) else [entry]:
                found.append((position, _event(keys, position, fields)))
    return found


def _event(keys: Keys, position: str, fields: Mapping[str, str]) -> Event | None:
    event = parse_entry(fields, keys.session)
    if event is None:
        log.warning("%s: entry %s is not an event of this version and is skipped", keys.events, position)
    return event


async def _position(client: redis.asyncio.Redis, keys: Keys, after: str) -> str:
    """Position in the Stream of the event with the id `after`; "0" if it is not there."""
    upper = "+"
    while True:
        page: Any = await client.xrevrange(keys.events, max=upper, count=PAGE_EVENTS)
        if not page:
            return "0"
        for position, fields in page:
            if fields.get("id") == after:
                return str(position)
        upper = f"({page[-1][0]}"


async def _finished(client: redis.asyncio.Redis, keys: Keys, group: str) -> bool:
    """True if the session has ended and the group has acknowledged all of its events."""
    last: Any = await client.xrevrange(keys.events, count=1)
    if not last:
        return True  # expired
    (info,) = [info for info in await client.xinfo_groups(keys.events) if info["name"] == group]
    ended = last[0][1].get("type") == "session.ended"
    return bool(ended and info["pending"] == 0 and info["last-delivered-id"] == last[0][0])
