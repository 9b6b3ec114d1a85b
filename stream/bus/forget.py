"""Forgetting a session: what Redis and disks keep of it is found, removed, and looked for again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis.asyncio
from pydantic import BaseModel

from stream.bus.alerts import alerts_stream, marker
from stream.bus.connection import connect
from stream.bus.directory import overview, owned
from stream.bus.keys import SESSION_ID, Keys
from stream.bus.spool import spool_path
from stream.errors import StreamError
from stream.sources.recording import SETTINGS, files_of, parts_of

SCAN_COUNT = 1000


class CannotForget(StreamError):
    """The session cannot be forgotten now, or not from here."""

    http_status = 409


class Traces(BaseModel):
    """What is kept of a session."""

    keys: list[str] = []
    """Of Redis: the session's own, and the markers of its alerts."""
    entries: dict[str, list[str]] = {}
    """Of keys that sessions share: the directory, the Stream of alerts, the sets of the gateway's tokens."""
    files: list[Path] = []
    """Recordings, and events that waited for Redis."""

    def __bool__(self) -> bool:
        return bool(self.keys or self.entries or self.files)

    def lines(self) -> list[str]:
        """For people, one line each."""
        shared = [f"{key} {member}" for key, members in self.entries.items() for member in members]
        return [*self.keys, *shared, *map(str, self.files)]


class Forgotten(BaseModel):
    """What was removed of a session, and what a second search still found."""

    session: str
    removed: Traces
    left: Traces


async def forget(url: str | None, keys: Keys, recordings: Sequence[Path] = ()) -> Forgotten:
    """Remove all that the Redis at `url` (None: there is none), the folders of `recordings` and the spool of this
    machine keep of a session.

    Raises CannotForget, and RedisError. What cannot be removed is found again, and so told.
    """
    if url is not None and await _lives(url, keys):
        raise CannotForget(f"session {keys.session} is live, or was until a moment ago: stop it first")
    if url is not None and not recordings and any(i.recorded for i in await overview(url, keys.prefix, [keys.session])):
        # Redis does not know where it lies: that there is one shall not be forgotten before it is.
        raise CannotForget(f"session {keys.session} was recorded: name the folder of its recording (--record DIR)")
    found = await find(url, keys, recordings)
    if url is not None:
        await _remove(url, keys, found)
    files_left = remove_files(found.files)
    left = await find(url, keys, recordings)
    left.files = sorted({*left.files, *files_left})
    return Forgotten(session=keys.session, removed=found, left=left)


async def find(url: str | None, keys: Keys, recordings: Sequence[Path] = ()) -> Traces:
    """What is kept of a session."""
    files = find_files(keys, recordings)
    if url is None:
        return Traces(files=files)
    client = connect(url)
    try:
        own: set[str] = set()
        sets: set[str] = set()
        for node in await client.masters():
            # Not the keys that we know of: also those of other versions.
            for pattern in (_literal(keys.channel) + "*", _literal(marker(keys.prefix, f"{keys.session}:")) + "*"):
                own |= {str(key) async for key in node.scan_iter(pattern, count=SCAN_COUNT)}
            sets |= {str(key) async for key in node.scan_iter(owned(_literal(keys.prefix), "*"), count=SCAN_COUNT)}
        entries: dict[str, list[str]] = {}
        if await client.hexists(keys.directory, keys.session):
            entries[keys.directory] = [keys.session]
        if alerts := await _alerts(client, keys):
            entries[alerts_stream(keys.prefix)] = alerts
        for key in sorted(sets):
            if await client.sismember(key, keys.session):
                entries[key] = [keys.session]
        return Traces(keys=sorted(own), entries=entries, files=files)
    finally:
        await client.aclose()


def find_files(keys: Keys, recordings: Sequence[Path] = ()) -> list[Path]:
    """What disks of this machine keep of a session."""
    waiting = spool_path(keys.session, keys.prefix)
    # SQLite has up to three files beside its own.
    spooled = [waiting.with_name(waiting.name + end) for end in ("", "-journal", "-wal", "-shm")]
    spooled.append(waiting.with_suffix(".broken"))
    folders = [part for folder in recordings for part in parts_of(folder / keys.session)]
    recorded = [path for folder in folders for path in files_of(folder)]
    return [*recorded, *(path for path in spooled if path.exists())]


def remove_files(files: Sequence[Path]) -> list[Path]:
    """Remove files, and folders that are empty then; returns what stays: refused, or with files that are not ours."""
    for path in files:
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    return [path for path in files if path.exists()]


async def older_than(url: str | None, prefix: str, recordings: Sequence[Path], moment: float) -> list[str]:
    """Ids of the sessions of which nothing is younger than `moment` (seconds since 1970), in Redis or recorded."""
    newest: dict[str, float] = {}
    for folder in recordings:
        for settings in folder.glob(f"*/{SETTINGS}"):
            files = files_of(settings.parent)[:-1]  # not the folder, whose time others change
            if SESSION_ID.fullmatch(settings.parent.name):
                newest[settings.parent.name] = max(path.stat().st_mtime for path in files)
    if url is not None:
        client = connect(url)
        try:
            for session in map(str, await client.hkeys(Keys("any", prefix).directory)):
                last: Any = await client.xrevrange(Keys(session, prefix).events, count=1)
                heard = int(last[0][0].partition("-")[0]) / 1000 if last else 0.0
                newest[session] = max(heard, newest.get(session, 0.0))
        finally:
            await client.aclose()
    return sorted(session for session, last in newest.items() if last < moment)


async def rewrite_log(url: str) -> int:
    """Have every Redis server write its append-only file anew, without what was removed; returns how many have one.

    Raises RedisError, among others when it is being written already.
    """
    client = connect(url)
    try:
        rewriting = 0
        for node in await client.masters():
            if (await node.info("persistence"))["aof_enabled"]:
                await node.bgrewriteaof()
                rewriting += 1
        return rewriting
    finally:
        await client.aclose()


async def _lives(url: str, keys: Keys) -> bool:
    """Whether it gives signs of life, or is about to start, and has not ended."""
    client = connect(url)
    try:
        last: Any = await client.xrevrange(keys.events, count=1)
        ended = bool(last) and last[0][1].get("type") == "session.ended"
        return not ended and bool(await client.exists(keys.alive))
    finally:
        await client.aclose()


async def _alerts(client: redis.asyncio.Redis, keys: Keys) -> list[str]:
    """Positions of the session's alerts in the Stream of all."""
    found, lower = [], "-"
    while page := await client.xrange(alerts_stream(keys.prefix), min=lower, count=SCAN_COUNT):
        entries: Any = page
        # An alert's id begins with its session's, in which there is no colon.
        found += [position for position, fields in entries if fields.get("id", "").partition(":")[0] == keys.session]
        lower = f"({entries[-1][0]}"
    return found


async def _remove(url: str, keys: Keys, traces: Traces) -> None:
    client = connect(url)
    try:
        for key in traces.keys:  # one by one: in a Redis Cluster they lie on several nodes
            await client.unlink(key)
        for key, members in traces.entries.items():
            if key == keys.directory:
                await client.hdel(key, *members)
            elif key == alerts_stream(keys.prefix):
                await client.xdel(key, *members)
            else:
                await client.srem(key, *members)
    finally:
        await client.aclose()


def _literal(text: str) -> str:
    """As it stands in a pattern of Redis."""
    return re.sub(r"[*?\[\]\\^]", r"\\\g<0>", text)
