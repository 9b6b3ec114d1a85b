"""Reading the Streams of many sessions over one connection: each to its end, and no further.

A Redis Cluster has no command on keys of several slots. There it is one connection a node, and nodes are asked again
and again.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    NoPermissionError,
    ResponseError,
)

from stream.bus.cluster import MAX_AT_ONCE, Client, batches
from stream.bus.connection import Outages, connections, listed, retried
from stream.bus.keys import Keys
from stream.clock import Clock
from stream.events import Event, EventsMissed, SessionEnded, SessionStarted, parse_entry
from stream.repeats import Repeats

log = logging.getLogger(__name__)

MAX_REMEMBERED_IDS = 1_000  # ids by which events are recognized that a publisher sent twice
PAGE_EVENTS = 500  # events per read
DIRECTORY_POLL_S = 1.0  # seconds between searches for new sessions
GROUP_POLL_S = 10.0  # seconds between searches for ends that another consumer of the group has received
STALL_S = 5.0  # seconds between two turns after which any Stream may have been trimmed before it was read
ABSENT_POLL_S = 60.0  # seconds, at most, between searches for the Stream of a listed session
CLUSTER_POLL_S = 0.1  # seconds between reads of a Redis Cluster
MAX_WAITED_FOR = 256  # Streams that one blocking read waits for: the busiest; others are read once in a poll
MAX_NUMBER = (1 << 64) - 1  # of the entries of a millisecond

Entry = tuple[str, Mapping[str, str]]


def pages(answer: Any) -> dict[str, list[Entry]]:
    """Entries by Stream, from the answer of XREAD or XREADGROUP."""
    found: dict[str, list[Entry]] = {}
    for name, page in answer.items() if isinstance(answer, dict) else answer or []:
        # RESP3 nests one level deeper than RESP2.
        found[name] = [each for entry in page for each in (entry if isinstance(entry, list) else [entry])]
    return found


class Skipped:
    """Logs entries that are not events: the first of a minute, and how many more there were."""

    def __init__(self, clock: Clock, tell: Callable[[], None] | None = None) -> None:
        """tell: called for each."""
        self._repeats, self._tell = Repeats(clock), tell
        self.count = 0

    def parsed(self, keys: Keys, position: str, fields: Mapping[str, str] | None) -> Event | None:
        """The event of an entry; None for what is none, or was removed."""
        event = parse_entry(fields or {}, keys.session)
        if event is None:
            self.count += 1
            if self._tell is not None:
                self._tell()
            if (more := self._repeats.more("skipped")) is not None:
                log.warning(
                    "%s: entry %s is not an event of this version and is skipped%s", keys.events, position, more
                )
        return event

    def close(self) -> None:
        """Log the number of those that were not logged."""
        if more := self._repeats.rest("skipped"):
            log.warning("entries that are not events of this version were skipped%s", more)


class Cursor:
    """A reader's place in the Stream of one session: drops what was sent twice, and notices what was removed unread."""

    def __init__(self, keys: Keys, skipped: Skipped, position: str = "0", shared: bool = False) -> None:
        """shared: others of a group read the same Stream."""
        self.keys, self.position = keys, position
        self.may_be_behind = True
        """Entries may have been removed that the group has not read: it is asked how far it is (`join`)."""
        self._skipped, self._shared = skipped, shared
        self._index = 0 if position == "0" else None  # of the next entry, among all that were ever added
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._started_at: str | None = None

    def join(self, group: Mapping[str, Any]) -> None:
        """Take the place of the group in the Stream; group: what XINFO GROUPS says right before a read."""
        last, read = group["last-delivered-id"], group.get("entries-read")
        if last == "0-0":
            self.position, self._index = "0", 0
        elif last != self.position:
            self.position, self._index = last, read
        elif read is not None:  # before 7.2.6, Redis does not count what the group has missed: we may know better
            self._index = max(read, self._index or 0)

    def take(self, entries: Sequence[Entry], info: Mapping[str, Any] | None) -> Iterator[Event]:
        """The events of the entries that were read after `position`; info: the Stream's XINFO since then, if known."""
        if entries and info is not None and (count := self._missed(entries, info)) != 0:
            yield missed(self.keys, entries[0][0], count)
        elif info is None and self._index is not None:
            self._index += len(entries)  # the Stream was there no more, or was on its way to another node
        for position, fields in entries:
            self.position = position
            event = self._skipped.parsed(self.keys, position, fields)
            if isinstance(event, SessionStarted) and event.time != self._started_at:
                self._seen.clear()  # they belong to an earlier session of this id that was erased
                self._started_at = event.time
            if event is None or event.id in self._seen:
                continue
            self._seen[event.id] = None
            if len(self._seen) > MAX_REMEMBERED_IDS:
                self._seen.popitem(last=False)
            yield event

    def _missed(self, entries: Sequence[Entry], info: Mapping[str, Any]) -> int | None:
        """Number of entries that were removed before these; None: at least one, perhaps."""
        first, last = entries[0][0], entries[-1][0]
        oldest = (info.get("first-entry") or [first])[0]
        if "entries-added" not in info:  # before Redis 7
            was_behind = self.position != "0" and oldest == first and order(first) > order(self.position)
            return None if was_behind and entries[0][1].get("type") != "session.started" else 0
        expected = None if self._index is None else self._index + len(entries)
        is_at_gap = order(self.position) < order(first) <= order(oldest)
        if last == info["last-generated-id"]:
            self._index = info["entries-added"]
        elif first == oldest:
            self._index = info["entries-added"] - info["length"] + len(entries)
        else:  # known again with a later page
            self._index = expected
        if self._shared and not is_at_gap:
            return 0  # what lies between has been given to others: who is given the oldest entry tells the gap
        is_trimmed_since = order(first) < order(oldest) and last != info["last-generated-id"]
        if self._shared and (expected is None or is_trimmed_since):
            return None
        return 0 if self._index is None or expected is None else max(0, self._index - expected)


def missed(keys: Keys, position: str, count: int | None) -> EventsMissed:
    """The event that tells of a gap before the entry at `position`."""
    return EventsMissed(id=f"{keys.session}:missed:{position}", session=keys.session, count=count)


def order(position: str) -> tuple[int, int]:
    """A position in a Stream, comparable."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


def before(position: str) -> str:
    """The position right before another one."""
    milliseconds, number = order(position)
    if number:
        return f"{milliseconds}-{number - 1}"
    return f"{milliseconds - 1}-{MAX_NUMBER}" if milliseconds else "0"


class Share(NamedTuple):
    """One consumer of a group."""

    group: str
    consumer: str


async def of_all(
    url: str, prefix: str, skipped: Skipped, clock: Clock, share: Share | None = None, only: Sequence[str] | None = None
) -> AsyncGenerator[Event]:
    """The events of all sessions of the directory, or this consumer's share of them, for ever; or those of the sessions
    `only`, until each has ended."""
    reading, outages = _All(prefix, skipped, clock, share, only), Outages(url, clock)
    try:
        async with contextlib.aclosing(connections(url, clock)) as clients:
            async for client in clients:
                with retried(), outages.noted():
                    while not reading.is_over:
                        for cursor, entries, info in await reading.turn(client):
                            for event in cursor.take(entries, info):
                                if isinstance(event, SessionEnded):
                                    reading.finish(cursor.keys.session)
                                yield event
                    return
    finally:
        skipped.close()


class _All:
    """Places in the Streams of all sessions that have not been read to their end."""

    def __init__(
        self, prefix: str, skipped: Skipped, clock: Clock, share: Share | None, only: Sequence[str] | None
    ) -> None:
        self._prefix, self._clock, self._share = prefix, clock, share
        self._only = None if only is None else dict.fromkeys(only, "")
        self._skipped = skipped
        self._started: dict[str, str] = {}  # the directory: start by session
        self._live: OrderedDict[str, Cursor] = OrderedDict()  # the busiest last
        self._ended: OrderedDict[str, Cursor] = OrderedDict()  # whose history is not read to its end
        self._done: dict[str, str] = {}  # start by session, of those that have been read to their end
        self._absent: dict[str, tuple[float, float]] = {}  # when to look for the Stream again, and the pause after that
        self._look_at = self._ask_group_at = -1.0
        self._is_cluster = False
        self._client: Client | None = None
        self._read_at = -math.inf

    @property
    def is_over(self) -> bool:
        """True if all sessions that are wanted have been read to their end."""
        return self._only is not None and self._only.keys() <= self._done.keys()

    def finish(self, session: str) -> None:
        """Read no further in a session that has ended."""
        self._live.pop(session, None)
        self._ended.pop(session, None)
        self._done[session] = self._started.get(session, "")

    async def turn(self, client: Client) -> list[tuple[Cursor, list[Entry], Mapping[str, Any] | None]]:
        """Read once in every Stream that may have something new; waits for a moment when there is nothing."""
        if client is not self._client or self._clock.now() - self._read_at > STALL_S:
            for cursor in (*self._live.values(), *self._ended.values()):
                cursor.may_be_behind = True
        self._client = client
        if is_due := self._clock.now() >= self._look_at:
            await self._look(client)
            self._look_at = self._clock.now() + DIRECTORY_POLL_S
        live = list(self._live)
        wait_s = 0.0 if self._ended else min(DIRECTORY_POLL_S, max(0.001, self._look_at - self._clock.now()))
        if not live and not self._ended:
            await self._clock.sleep(wait_s)
            return []
        read = await self._read(client, live[-MAX_WAITED_FOR:], wait_s) if live else []
        if not read and wait_s:
            self._look_at = -1.0
        for cursor, _, _ in read:
            self._live.move_to_end(cursor.keys.session)
        for others in batches(live[:-MAX_WAITED_FOR] if is_due else [], MAX_AT_ONCE):
            read += await self._read(client, others, 0)
        if ended := list(islice(self._ended, MAX_AT_ONCE)):
            came = await self._read(client, ended, 0)
            for session in set(ended) - {cursor.keys.session for cursor, _, _ in came}:
                if session in self._ended:
                    self.finish(session)
            read += came
        self._read_at = self._clock.now()
        return read

    async def _look(self, client: Client) -> None:
        """Find sessions that are new, and drop those that are gone."""
        self._started = await listed(client, self._prefix) if self._only is None else self._only
        for known in (self._live, self._ended, self._absent):
            for session in [name for name in known if name not in self._started]:
                del known[session]  # erased or expired
        self._done = {name: start for name, start in self._done.items() if self._started.get(name) == start}
        now = self._clock.now()
        new = [
            session
            for session in sorted(self._started, key=lambda name: self._started[name], reverse=True)
            if session not in self._live and session not in self._ended and session not in self._done
            and self._absent.get(session, (now, 0))[0] <= now
        ]  # fmt: skip
        for session, tail in (await self._tails(client, new)).items():
            cursor = Cursor(Keys(session, self._prefix), self._skipped, shared=self._share is not None)
            if isinstance(tail, SessionEnded):
                self._ended[session] = cursor
            else:
                self._live[session] = cursor
                self._live.move_to_end(session, last=False)
        if self._share is not None and now >= self._ask_group_at:
            self._ask_group_at = now + GROUP_POLL_S
            for session, tail in (await self._tails(client, list(self._live))).items():
                if isinstance(tail, SessionEnded):
                    self._ended[session] = self._live.pop(session)

    async def _tails(self, client: Client, sessions: list[str]) -> dict[str, Event | None]:
        """The last event of each session that has a Stream, and the group's share in it; the others are looked for
        later."""
        found: dict[str, Event | None] = {}
        for some in batches(sessions, MAX_AT_ONCE):
            names = {session: Keys(session, self._prefix).events for session in some}
            tails = await client.run_each([(key, ("XREVRANGE", key, "+", "-", "COUNT", 1)) for key in names.values()])
            made: list[Any] = [None] * len(some)
            if self._share is not None:
                group = self._share.group
                made = await client.run_each([(key, ("XGROUP CREATE", key, group, "0")) for key in names.values()])
            for session, tail, group_made in zip(some, tails, made, strict=True):
                _raise_refusal(tail, group_made)
                if isinstance(tail, ResponseError) or not tail or _fails(group_made):
                    self._live.pop(session, None)
                    self._ended.pop(session, None)
                    pause = min(ABSENT_POLL_S, 2 * self._absent.get(session, (0, DIRECTORY_POLL_S / 2))[1])
                    self._absent[session] = (self._clock.now() + pause, pause)
                else:
                    self._absent.pop(session, None)
                    found[session] = parse_entry(tail[0][1], session)
        return found

    async def _read(
        self, client: Client, sessions: list[str], wait_s: float
    ) -> list[tuple[Cursor, list[Entry], Mapping[str, Any] | None]]:
        """New entries of these sessions, with their Streams' XINFO where something can have been removed unread."""
        known = [self._live.get(name) or self._ended.get(name) for name in sessions]
        cursors = {cursor.keys.events: cursor for cursor in known if cursor is not None}
        if not cursors:
            return []
        asked = set() if self._share is None else await self._join(client, cursors, self._share.group)
        try:
            found = await self._entries(client, cursors, wait_s)
        except (NoPermissionError, AuthenticationError):
            raise
        except ResponseError:  # one of them was erased, or its group; all the others fail with it
            await self._tails(client, sessions)
            return []
        if self._share is None:
            asked = {n for n in found if cursors[n].position == "0" or cursors[n].keys.session in self._live}
        infos = await self._infos(client, "XINFO STREAM", [name for name in found if name in asked])
        return [
            (cursors[name], entries, info if isinstance(info := infos.get(name), dict) else None)
            for name, entries in found.items()
        ]

    async def _join(self, client: Client, cursors: Mapping[str, Cursor], group: str) -> set[str]:
        """Ask how far the group is in the Streams that may have been trimmed before it read them; returns their
        names."""
        behind = [name for name, cursor in cursors.items() if cursor.may_be_behind]
        for name, groups in (await self._infos(client, "XINFO GROUPS", behind)).items():
            for each in groups if isinstance(groups, list) else ():
                if each["name"] == group:
                    cursors[name].join(each)
                    cursors[name].may_be_behind = False
        return set(behind)

    @staticmethod
    async def _infos(client: Client, command: str, names: list[str]) -> dict[str, Any]:
        answers = await client.run_each([(name, (command, name)) for name in names]) if names else []
        return dict(zip(names, answers, strict=True))

    async def _entries(self, client: Client, cursors: Mapping[str, Cursor], wait_s: float) -> dict[str, list[Entry]]:
        streams: Any = {name: ">" if self._share else cursor.position for name, cursor in cursors.items()}
        count = max(1, PAGE_EVENTS // len(streams))
        found = await self._pages(client, streams, count, wait_s)
        for name, entries in found.items():  # one that has ended is not trimmed any more
            cursors[name].may_be_behind = len(entries) >= count and cursors[name].keys.session in self._live
        return found

    async def _pages(self, client: Client, streams: Any, count: int, wait_s: float) -> dict[str, list[Entry]]:
        block = max(1, round(1000 * wait_s)) if wait_s else None
        if not self._is_cluster:
            try:
                if self._share is None:
                    return pages(await client.xread(streams, count, block))
                return pages(await client.xreadgroup(*self._share, streams, count, block, noack=True))
            except ClusterCrossSlotError:
                self._is_cluster = True
        head = ("XREAD",) if self._share is None else ("XREADGROUP", "GROUP", *self._share, "NOACK")
        commands = [(name, (*head, "COUNT", count, "STREAMS", name, start)) for name, start in streams.items()]
        found: dict[str, list[Entry]] = {}
        for answer in await client.run_each(commands):
            if isinstance(answer, ResponseError):
                raise answer
            found |= pages(answer)
        if not found and wait_s:
            await self._clock.sleep(min(wait_s, CLUSTER_POLL_S))
        return found


def _raise_refusal(*answers: Any) -> None:
    for answer in answers:
        if isinstance(answer, NoPermissionError | AuthenticationError):
            raise answer


def _fails(made: Any) -> bool:
    """True if a group was not made, and not for being there already."""
    return isinstance(made, ResponseError) and "BUSYGROUP" not in str(made)
