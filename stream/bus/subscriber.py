"""Receiving events: history and live events as one sequence, across lost connections; alone or in a consumer group.

Events are read from the Stream by position (XREAD), which holds both history and live events, so nothing has to be
joined. Pub/Sub carries the same payloads for receivers that need no history.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import redis.asyncio
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from stream.bus.cluster import Client
from stream.bus.connection import READ_BLOCK_S, BusError, Outages, connect, connections, retried, wait_for_session
from stream.bus.keys import PREFIX, Keys
from stream.bus.multiplexed import (
    PAGE_EVENTS,
    Cursor,
    Share,
    Skipped,
    before,
    missed,
    of_all,
    pages,
)
from stream.clock import Clock, MonotonicClock
from stream.events import Event

POSITION = re.compile(r"\d{1,15}-\d{1,19}")
GROUP_BLOCK_S = 1.0  # seconds after which a consumer of a group looks whether the session is over
CLAIM_IDLE_S = 60.0  # seconds after which another consumer's unacknowledged event is claimed
WAIT_S = 30.0  # seconds that a reader waits for a session that has not begun, unless it says otherwise


async def subscribe(
    url: str,
    session: str,
    prefix: str = PREFIX,
    after: str | None = None,
    *,
    wait: float | None = WAIT_S,
    clock: Clock = MonotonicClock(),
) -> AsyncGenerator[Event]:
    """Yield every event of a session, from the first or from the one after the event id `after`, and stop after
    `session.ended`.

    wait: seconds to wait for a session that has not begun; None: for ever. Raises SessionNotFound after that, and
    BusError for a Redis that does not answer in this time.

    When the connection is lost, reconnects with back-off (1 … 60 s) and continues at the same position. If Redis no
    longer holds the event `after`, starts at the first. Where events were removed before they could be read, yields
    `events.missed` in their place. Raises AuthenticationError or NoPermissionError, which a retry cannot solve.
    """
    keys, skipped, outages = Keys(session, prefix), Skipped(clock), Outages(url, clock)
    cursor: Cursor | None = None if after else Cursor(keys, skipped)
    if wait is not None:
        await wait_for_session(url, keys, wait, outages, clock)
    try:
        async with contextlib.aclosing(connections(url, clock)) as clients:
            async for client in clients:
                with retried(), outages.noted():
                    while True:
                        if cursor is None:
                            cursor = await _cursor(client, keys, skipped, after or "")
                        for event in cursor.take(*await _read(client, cursor)):
                            yield event
                            if event.type == "session.ended":
                                return
    finally:
        skipped.close()


def subscribe_sync(
    url: str, session: str, prefix: str = PREFIX, after: str | None = None, *, wait: float | None = WAIT_S
) -> Iterator[Event]:
    """`subscribe` for programs without an event loop."""
    with asyncio.Runner() as runner:
        events = subscribe(url, session, prefix, after, wait=wait)
        while (event := runner.run(anext(events, None))) is not None:
            yield event


def follow(
    url: str, prefix: str = PREFIX, sessions: Sequence[str] | None = None, *, clock: Clock = MonotonicClock()
) -> AsyncGenerator[Event]:
    """Yield the events of all current and future sessions, for ever, or of these until each has ended; each session's
    events in order.

    One connection serves all of them (in a Redis Cluster one a node). A session that has ended is read once.
    """
    return of_all(url, prefix, Skipped(clock), clock, only=sessions)


async def consume(
    url: str,
    session: str,
    group: str,
    consumer: str,
    prefix: str = PREFIX,
    *,
    wait: float | None = WAIT_S,
    clock: Clock = MonotonicClock(),
) -> AsyncGenerator[Event]:
    """Yield a session's events to one consumer of `group`; each event goes to one consumer. Stops when all events of
    the session are acknowledged.

    The group is made if it is missing and this Redis user may make it; else raises BusError (`make_group`). An event is
    acknowledged (XACK) when the next one is requested. Events that a consumer had not acknowledged when it died are
    delivered again: to itself when it is back, else to another consumer after a minute. Delivery is at least once.
    Where events were removed before any consumer could read them, the one that reads on there gets `events.missed`, and
    so does who would have been given an event again that was removed. Waits for the session, and raises, as `subscribe`
    does.
    """
    keys, outages = Keys(session, prefix), Outages(url, clock)
    handled: str | None = None  # position of the last event handed over, whose acknowledgement may have failed
    joined = False
    skipped = Skipped(clock)
    cursor = Cursor(keys, skipped, shared=True)
    if wait is not None:
        await wait_for_session(url, keys, wait, outages, clock)
    async with contextlib.aclosing(connections(url, clock)) as clients:
        async for client in clients:
            with retried(), outages.noted():
                may_make_groups = await _made(client, keys, group)
                own = True
                while True:
                    try:
                        entries, info = await _share(client, cursor, Share(group, consumer), own)
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
                    for position, fields in entries:
                        if position != handled and not fields:  # removed before its consumer was done, or said so
                            yield missed(keys, position, 1 if own else None)
                        elif position != handled:
                            for event in cursor.take([(position, fields)], info):
                                yield event
                        handled = position
                        await client.xack(keys.events, group, position)
                    own = own and bool(entries)
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
    url: str,
    group: str,
    consumer: str,
    prefix: str = PREFIX,
    *,
    skipped: Callable[[], None] | None = None,
    clock: Clock = MonotonicClock(),
) -> AsyncGenerator[Event]:
    """A consumer's share of the events of all current and future sessions, for ever, over one connection.

    An event counts as acknowledged once it is read, so delivery is at most once. `skipped` is called for each entry
    that is not an event of this version.
    """
    return of_all(url, prefix, Skipped(clock, skipped), clock, Share(group, consumer))


async def history(url: str, session: str, prefix: str = PREFIX) -> list[Event]:
    """All events of a session so far, without duplicates, and `events.missed` where some were removed. Raises
    RedisError."""
    keys, client, skipped = Keys(session, prefix), connect(url), Skipped(MonotonicClock())
    cursor, name = Cursor(keys, skipped), keys.events
    events: dict[str, Event] = {}
    lower = "-"
    try:
        while True:
            page, info = await client.run_each(
                [(name, ("XRANGE", name, lower, "+", "COUNT", PAGE_EVENTS)), (name, ("XINFO STREAM", name))]
            )
            if isinstance(page, RedisError):
                raise page
            if not page:
                return list(events.values())
            for event in cursor.take(page, info if isinstance(info, dict) else None):
                events.setdefault(event.id, event)
            lower = f"({cursor.position}"
    finally:
        skipped.close()
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


async def _read(client: redis.asyncio.Redis, cursor: Cursor) -> tuple[list[Any], Any]:
    """Entries after the cursor, and the Stream's XINFO; none if none arrives within `READ_BLOCK_S` seconds."""
    name = cursor.keys.events
    block = round(1000 * READ_BLOCK_S)
    entries = pages(await client.xread({name: cursor.position}, count=PAGE_EVENTS, block=block)).get(name, [])
    if not entries:
        return [], None
    try:
        return entries, await client.xinfo_stream(name)
    except NoPermissionError:
        raise
    except ResponseError:  # erased since then
        return entries, None


async def _share(client: Client, cursor: Cursor, share: Share, own: bool) -> tuple[list[Any], Any]:
    """Entries for this consumer: its own unacknowledged ones (`own`), else those another left behind, else a new one;
    and, with a new one that was there already, the Stream's XINFO. Those that were removed since have no fields."""
    name = cursor.keys.events
    if own:
        return pages(await client.xreadgroup(*share, {name: "0"}, count=1)).get(name, []), None
    claimed: Any = await client.xautoclaim(name, *share, round(1000 * CLAIM_IDLE_S), "0", count=PAGE_EVENTS)
    removed = claimed[2][-1:] if len(claimed) > 2 else []  # all of them are one gap; since Redis 7
    if removed or claimed[1]:
        return [*((position, None) for position in removed), *claimed[1]], None
    groups, answer, info = await client.run_each(
        [
            (name, ("XINFO GROUPS", name)),
            (name, ("XREADGROUP", "GROUP", *share, "COUNT", 1, "STREAMS", name, ">")),
            (name, ("XINFO STREAM", name)),
        ]
    )
    for each in (groups, answer, info):
        if isinstance(each, RedisError):
            raise each
    cursor.join(next(each for each in groups if each["name"] == share.group))
    if entries := pages(answer).get(name):
        return entries, info
    block = round(1000 * GROUP_BLOCK_S)
    return pages(await client.xreadgroup(*share, {name: ">"}, count=1, block=block)).get(name, []), None


async def _cursor(client: redis.asyncio.Redis, keys: Keys, skipped: Skipped, after: str) -> Cursor:
    """The place behind the event with the id `after`; the beginning if it is not there."""
    noticed = f"{keys.session}:missed:"
    if after.startswith(noticed) and POSITION.fullmatch(after.removeprefix(noticed)):
        return Cursor(keys, skipped, before(after.removeprefix(noticed)))
    upper = "+"
    while True:
        page: Any = await client.xrevrange(keys.events, max=upper, count=PAGE_EVENTS)
        if not page:
            return Cursor(keys, skipped)
        for position, fields in page:
            if fields.get("id") == after:
                return Cursor(keys, skipped, str(position))
        upper = f"({page[-1][0]}"


async def _finished(client: redis.asyncio.Redis, keys: Keys, group: str) -> bool:
    """True if the session has ended and the group has acknowledged all of its events."""
    last: Any = await client.xrevrange(keys.events, count=1)
    if not last:
        return True  # expired
    (info,) = [info for info in await client.xinfo_groups(keys.events) if info["name"] == group]
    ended = last[0][1].get("type") == "session.ended"
    return bool(ended and info["pending"] == 0 and info["last-delivered-id"] == last[0][0])
