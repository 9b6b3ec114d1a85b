"""Receiving events: history and live as one sequence, over lost connections; alone or shared in a consumer group.

The Stream is both history and live: reading it by position (XREAD) leaves no seam to join. Pub/Sub carries the same
payloads for those who need no history.
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

from stream.bus.connection import connect, listed
from stream.bus.keys import PREFIX, Keys
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.events import Event, SessionStarted, parse_entry

log = logging.getLogger(__name__)

MAX_REMEMBERED_IDS = 1_000  # ids kept to recognise what a publisher sent twice because the first answer was lost
PAGE_EVENTS = 500
READ_BLOCK_S = 10.0  # seconds a read blocks; an answer that takes much longer means a connection that is gone
DIRECTORY_POLL_S = 1.0  # seconds between looks for new sessions
CLAIM_IDLE_S = 60.0  # seconds after which another consumer's unacknowledged event is taken over


async def subscribe(
    url: str, session: str, prefix: str = PREFIX, after: str | None = None, *, clock: Clock = MonotonicClock()
) -> AsyncGenerator[Event]:
    """Yield every event of a session, from its first or from the one after the event id `after`, and stop after
    `session.ended`.

    Reconnects (1 … 60 s) when the connection is lost and goes on where it was. An `after` that Redis no longer keeps
    means from the first. Raises AuthenticationError or NoPermissionError, which waiting cannot mend.
    """
    keys = Keys(session, prefix)
    seen: OrderedDict[str, None] = OrderedDict()
    begun: str | None = None
    position: str | None = None if after else "0"
    async with contextlib.aclosing(_connections(url, clock)) as connections:
        async for client in connections:
            with _retried():
                while True:
                    if position is None:
                        position = await _position(client, keys, after or "")
                    for at, event in await _read(client, keys, position):
                        position = at
                        if isinstance(event, SessionStarted) and event.time != begun:
                            seen.clear()  # of another that had this id, and was forgotten
                            begun = event.time
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
    """Yield the events of all sessions, those in the directory and those to come, each session's in order, for ever."""
    return _of_all(url, prefix, lambda session: subscribe(url, session, prefix, clock=clock), clock)


async def consume(
    url: str, session: str, group: str, consumer: str, prefix: str = PREFIX, *, clock: Clock = MonotonicClock()
) -> AsyncGenerator[Event]:
    """Yield a session's events to one of the consumers that share `group`, each event to one of them, and stop when
    all of them are done with the whole session.

    An event counts as done (XACK) when the next is asked for. What a consumer had not done when it died comes again:
    to itself when it is back, else to another after a minute. So: at least once. Raises as `subscribe`.
    """
    keys = Keys(session, prefix)
    done: str | None = None  # position of an event whose acknowledgement did not get through
    joined = False
    async with contextlib.aclosing(_connections(url, clock)) as connections:
        async for client in connections:
            with _retried():
                with contextlib.suppress(ResponseError):  # the group is there already
                    await client.xgroup_create(keys.events, group, id="0")
                own = True
                while True:
                    try:
                        entries = await _share(client, keys, group, consumer, own)
                    except ResponseError as error:
                        if joined and "NOGROUP" in str(error):
                            return  # the session was forgotten, or has expired
                        raise
                    joined = True
                    own = own and bool(entries)
                    for position, event in entries:
                        if event is not None and position != done:
                            yield event
                        done = position
                        await client.xack(keys.events, group, position)
                    if not entries and not own and await _finished(client, keys, group):
                        return


def consume_all(
    url: str, group: str, consumer: str, prefix: str = PREFIX, *, clock: Clock = MonotonicClock()
) -> AsyncGenerator[Event]:
    """`consume` for all sessions, those in the directory and those to come, for ever.

    An event counts as done when it has been handed over, not when the next is asked for: at most once.
    """
    return _of_all(url, prefix, lambda session: consume(url, session, group, consumer, prefix, clock=clock), clock)


async def _of_all(
    url: str, prefix: str, events_of: Callable[[str], AsyncGenerator[Event]], clock: Clock
) -> AsyncGenerator[Event]:
    """The events of a task for each session of the directory."""
    ready: asyncio.Queue[Event] = asyncio.Queue(PAGE_EVENTS)

    async def pump(session: str) -> None:
        async with contextlib.aclosing(events_of(session)) as events:
            async for event in events:
                await ready.put(event)

    async def look() -> None:
        pumping: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as pumps, contextlib.aclosing(_connections(url, clock)) as connections:
            async for client in connections:
                with _retried():
                    while True:
                        listed = await _sessions(client, prefix)
                        for session in [name for name, task in pumping.items() if task.done() and name not in listed]:
                            del pumping[session]  # forgotten, or expired: its id may be used anew
                        for session in sorted(listed - pumping.keys()):
                            pumping[session] = pumps.create_task(pump(session))
                        await clock.sleep(DIRECTORY_POLL_S)

    looking = asyncio.create_task(look())
    coming = asyncio.create_task(ready.get())
    try:
        while True:
            await asyncio.wait({coming, looking}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
            yield await coming
            coming = asyncio.create_task(ready.get())
    finally:
        await cancelled(looking)
        await cancelled(coming)


async def history(url: str, session: str, prefix: str = PREFIX) -> list[Event]:
    """A session's events so far."""
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


async def _sessions(client: redis.asyncio.Redis, prefix: str) -> set[str]:
    return set(await listed(client, prefix))


@contextlib.contextmanager
def _retried() -> Iterator[None]:
    """Losing Redis ends the block, not the loop over connections around it."""
    try:
        yield
    except (AuthenticationError, NoPermissionError):
        raise
    except (RedisError, OSError):
        pass


async def _connections(url: str, clock: Clock) -> AsyncGenerator[redis.asyncio.Redis]:
    """A client, and when that has failed another, with back-off; one that worked for a minute resets it."""
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
    """The events after `position`; waits for the next, and gives [] when none came for `READ_BLOCK_S` seconds."""
    return _entries(
        keys, await client.xread({keys.events: position}, count=PAGE_EVENTS, block=round(1000 * READ_BLOCK_S))
    )


async def _share(
    client: redis.asyncio.Redis, keys: Keys, group: str, consumer: str, own: bool
) -> list[tuple[str, Event | None]]:
    """What this consumer has not acknowledged (`own`); else what another left behind, or what is new."""
    if not own:
        idle = round(1000 * CLAIM_IDLE_S)
        claimed: Any = await client.xautoclaim(keys.events, group, consumer, idle, "0", count=PAGE_EVENTS)
        if claimed[1]:
            return [(position, _event(keys, position, fields)) for position, fields in claimed[1]]
    start = "0" if own else ">"
    wait = round(1000 * DIRECTORY_POLL_S)
    return _entries(keys, await client.xreadgroup(group, consumer, {keys.events: start}, count=1, block=wait))


def _entries(keys: Keys, answer: Any) -> list[tuple[str, Event | None]]:
    """Of XREAD's answer for one stream; None where an entry is no event of ours, which is passed over."""
    pages = answer.values() if isinstance(answer, dict) else [page for _, page in answer or []]
    found: list[tuple[str, Event | None]] = []
    for page in pages:
        for entry in page:
            # RESP3 nests once more than RESP2 does.
            for position, fields in entry if isinstance(entry, list) else [entry]:
                found.append((position, _event(keys, position, fields)))
    return found


def _event(keys: Keys, position: str, fields: Mapping[str, str]) -> Event | None:
    event = parse_entry(fields)
    if event is None:
        log.warning("%s: entry %s is no event of this version and is passed over", keys.events, position)
    return event


async def _position(client: redis.asyncio.Redis, keys: Keys, after: str) -> str:
    """Where in the Stream the event with this id stands; "0" when it is not there."""
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
    """Whether the session has ended and nobody in the group owes anything."""
    last: Any = await client.xrevrange(keys.events, count=1)
    if not last:
        return True  # expired
    (info,) = [info for info in await client.xinfo_groups(keys.events) if info["name"] == group]
    ended = last[0][1].get("type") == "session.ended"
    return bool(ended and info["pending"] == 0 and info["last-delivered-id"] == last[0][0])
