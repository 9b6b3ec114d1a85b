"""Erasing a session: find everything stored about it in Redis and on disk, remove it, and search again."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis.asyncio
from pydantic import BaseModel
from redis.exceptions import RedisError, ResponseError

from stream.bus.connection import BusError, connect, public, reason
from stream.bus.directory import overview
from stream.bus.keys import PREFIX, SESSION_ID, Keys, alert_marker, alerts_stream, token_sessions_key
from stream.bus.running import Home, home_of, life
from stream.bus.spool import request_path, spool_path
from stream.errors import StreamError
from stream.sources.recording import SETTINGS, recording_files, session_folders

REWRITE_S = 60.0  # for Redis to write its data anew
SCAN_COUNT = 1000  # keys or entries per page of a search
FORGOTTEN_TTL_S = 7 * 24 * 3600  # seconds for which a session that may live still can learn that it was forgotten
IsThere = Callable[[str, Home], Awaitable[bool | None]]
"""Asks whether a session that lives elsewhere is there; None: it cannot be asked from here."""


class CannotForget(StreamError):
    """The session cannot be erased now or with these arguments."""

    http_status = 409


class Traces(BaseModel):
    """Everything stored about a session."""

    keys: list[str] = []
    """Redis keys of the session itself, and the markers of its alerts."""
    entries: dict[str, list[str]] = {}
    """Members by shared Redis key: the directory, the Stream of alerts, the sets of the gateway's tokens."""
    files: list[Path] = []
    """Recordings, spools of events that waited for Redis, and what was sent to a gateway with a request."""

    def __bool__(self) -> bool:
        return bool(self.keys or self.entries or self.files)

    def lines(self) -> list[str]:
        """Human-readable lines, one for each key, entry and file."""
        shared = [f"{key} {member}" for key, members in self.entries.items() for member in members]
        return [*self.keys, *shared, *map(str, self.files)]


class Forgotten(BaseModel):
    """Result of an erasure: what was removed, and what a second search still found."""

    session: str
    removed: Traces
    left: Traces


async def forget(
    url: str | None,
    keys: Keys,
    recordings: Sequence[Path] = (),
    is_there: IsThere | None = None,
    gone: bool = False,
) -> Forgotten:
    """Remove everything about a session from the Redis at `url` (None: no Redis), from the folders `recordings` and
    from the spool of this machine.

    is_there: asks where a silent session lives; gone: the caller knows that it is gone where nobody can be asked. If
    it lives all the same, it ends itself at its next sign of life.

    Raises CannotForget, and RedisError. Whatever could not be removed is listed as left.
    """
    is_proved = url is None or await _is_over(url, keys, is_there, gone)
    if url is not None and not recordings and any(i.recorded for i in await overview(url, keys.prefix, [keys.session])):
        # Redis does not know the folder, and erasing its keys would erase the only hint that a recording exists.
        raise CannotForget(f"session {keys.session} was recorded: name the folder of its recording (--record DIR)")
    found = await find(url, keys, recordings)
    if url is not None:
        if not is_proved:  # first, so that nothing is written between
            await _mark_forgotten(url, keys)
        await _remove(url, keys, found)
    undeletable = remove_files(found.files)
    left = await find(url, keys, recordings)
    left.files = sorted({*left.files, *undeletable})
    return Forgotten(session=keys.session, removed=found, left=left)


async def is_marked(url: str, keys: Keys) -> bool:
    """True if the session was forgotten in the last days, while nothing proved its death."""
    client = connect(url)
    try:
        return bool(await client.exists(keys.forgotten))
    finally:
        await client.aclose()


async def check_erasing(url: str, prefix: str = PREFIX) -> None:
    """Check that the server lets us erase sessions, by erasing one that there is not. Raises BusError with one line if
    not."""
    keys = Keys(f"nobody-{secrets.token_hex(8)}", prefix)
    entries = {keys.directory: [keys.session], keys.running: [keys.session], alerts_stream(prefix): ["0-1"]}
    try:
        await _remove(url, keys, Traces(keys=[keys.events], entries=entries))
        client = connect(url)
        try:
            await client.scan(match=_literal(keys.channel) + "*", count=1)
            await client.set(keys.forgotten, "1", ex=1, xx=True)  # there is none: nothing is written
        finally:
            await client.aclose()
    except RedisError as error:
        raise BusError(f"Redis at {public(url)} lets us erase no sessions: {reason(error)}") from None


async def find(url: str | None, keys: Keys, recordings: Sequence[Path] = ()) -> Traces:
    """Search Redis and this machine's disks for everything stored about a session. Raises RedisError."""
    files = find_files(keys, recordings)
    if url is None:
        return Traces(files=files)
    client = connect(url)
    try:
        own: set[str] = set()
        sets: set[str] = set()
        for node in await client.masters():
            # By pattern and not by name, to find keys of other versions as well.
            for pattern in (
                _literal(keys.channel) + "*",
                _literal(alert_marker(keys.prefix, f"{keys.session}:")) + "*",
            ):
                own |= {str(key) async for key in node.scan_iter(pattern, count=SCAN_COUNT)}
            own.discard(keys.forgotten)  # it keeps nothing but the id, and goes by itself
            sets |= {
                str(key)
                async for key in node.scan_iter(token_sessions_key(_literal(keys.prefix), "*"), count=SCAN_COUNT)
            }
        entries: dict[str, list[str]] = {}
        for shared in (keys.directory, keys.running):
            if await client.hexists(shared, keys.session):
                entries[shared] = [keys.session]
        if alerts := await _alerts(client, keys):
            entries[alerts_stream(keys.prefix)] = alerts
        for key in sorted(sets):
            if await client.sismember(key, keys.session):
                entries[key] = [keys.session]
        return Traces(keys=sorted(own), entries=entries, files=files)
    finally:
        await client.aclose()


def find_files(keys: Keys, recordings: Sequence[Path] = ()) -> list[Path]:
    """Recordings of a session on this machine, its spool, and what was sent to a gateway with its request."""
    spool = spool_path(keys.session, keys.prefix)
    # SQLite has up to three files beside the database.
    spooled = [spool.with_name(spool.name + end) for end in ("", "-journal", "-wal", "-shm")]
    request = request_path(keys.session, keys.prefix)
    spooled += [spool.with_suffix(".broken"), request, request.with_suffix(".part")]
    folders = [part for folder in recordings for part in session_folders(folder / keys.session)]
    recorded = [path for folder in folders for path in recording_files(folder)]
    return [*recorded, *(path for path in spooled if path.exists())]


def remove_files(files: Sequence[Path]) -> list[Path]:
    """Remove files, and folders that are empty then; returns those that remain: protected ones, or folders that hold
    files of others."""
    for path in files:
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    return [path for path in files if path.exists()]


async def older_than(url: str | None, prefix: str, recordings: Sequence[Path], moment: float) -> list[str]:
    """Ids of the sessions without any event or recorded file younger than `moment` (seconds since 1970)."""
    newest: dict[str, float] = {}
    for folder in recordings:
        for settings in folder.glob(f"*/{SETTINGS}"):
            files = recording_files(settings.parent)[:-1]  # without the folder, whose time changes with other files
            if SESSION_ID.fullmatch(settings.parent.name):
                newest[settings.parent.name] = max(path.stat().st_mtime for path in files)
    if url is not None:
        client = connect(url)
        try:
            for session in map(str, await client.hkeys(Keys("any", prefix).directory)):
                last: Any = await client.xrevrange(Keys(session, prefix).events, count=1)
                last_event = int(last[0][0].partition("-")[0]) / 1000 if last else 0.0
                newest[session] = max(last_event, newest.get(session, 0.0))
        finally:
            await client.aclose()
    return sorted(session for session, last in newest.items() if last < moment)


async def rewrite_log(url: str) -> int:
    """Make every Redis server rewrite its append-only file, so that removed data leaves the disk.

    Returns the number of servers that have such a file. Raises RedisError, and TimeoutError where it takes longer than
    `REWRITE_S`.
    """
    client = connect(url)
    try:
        rewritten = 0
        async with asyncio.timeout(REWRITE_S):
            for node in await client.masters():
                if (await node.info("persistence"))["aof_enabled"]:
                    await _until_rewritten(node)  # by a rewrite that began before: it may have what was removed since
                    await node.bgrewriteaof()
                    if (await _until_rewritten(node))["aof_last_bgrewrite_status"] != "ok":
                        raise ResponseError("its append-only file could not be written anew; its log says why")
                    rewritten += 1
        return rewritten
    finally:
        await client.aclose()


async def _until_rewritten(node: redis.asyncio.Redis) -> dict[str, Any]:
    """Wait while a server writes its append-only file anew, or is about to; then INFO of its persistence."""
    while True:
        state: dict[str, Any] = await node.info("persistence")
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            return state
        await asyncio.sleep(0.05)


async def _is_over(url: str, keys: Keys, is_there: IsThere | None, gone: bool) -> bool:
    """True if it is proved that the session does not go on; False if that is but likely, or the caller says so.

    Raises CannotForget.
    """
    client = connect(url)
    try:
        state, home = await life(client, keys), await home_of(client, keys)
    finally:
        await client.aclose()
    if state == "live":
        raise CannotForget(f"session {keys.session} is live, or was until a moment ago: stop it first")
    if state == "ended" or home is None or home.is_gone:
        return True
    found = await is_there(keys.session, home) if is_there is not None else None
    if found:
        raise CannotForget(f"session {keys.session} gives no sign of life, but its process is there: stop it first")
    if found is None and not gone and state == "silent":  # where events have expired, there was no sign for a day
        asked = (
            "the gateway that started it" if home.node is not None else "undertone forget on the machine that it ran on"
        )
        raise CannotForget(
            f"session {keys.session} has not ended, and from here nobody can ask whether it lives: forget it with"
            f" {asked}, or, if its process is gone for certain, say so (--gone, ?gone=true)"
        )
    return found is False


async def _mark_forgotten(url: str, keys: Keys) -> None:
    client = connect(url)
    try:
        await client.set(keys.forgotten, "1", ex=FORGOTTEN_TTL_S)
    finally:
        await client.aclose()


async def _alerts(client: redis.asyncio.Redis, keys: Keys) -> list[str]:
    """Positions of the session's alerts in the Stream of all alerts."""
    found, lower = [], "-"
    while page := await client.xrange(alerts_stream(keys.prefix), min=lower, count=SCAN_COUNT):
        entries: Any = page
        # An alert's id begins with the session id, which contains no colon.
        found += [position for position, fields in entries if fields.get("id", "").partition(":")[0] == keys.session]
        lower = f"({entries[-1][0]}"
    return found


async def _remove(url: str, keys: Keys, traces: Traces) -> None:
    client = connect(url)
    try:
        for key in traces.keys:  # one by one: in a Redis Cluster they are on several nodes
            await client.unlink(key)
        for key, members in traces.entries.items():
            if key in (keys.directory, keys.running):
                await client.hdel(key, *members)
            elif key == alerts_stream(keys.prefix):
                await client.xdel(key, *members)
            else:
                await client.srem(key, *members)
    finally:
        await client.aclose()


def _literal(text: str) -> str:
    """The text with the special characters of Redis patterns escaped."""
    return re.sub(r"[*?\[\]\\^]", r"\\\g<0>", text)
