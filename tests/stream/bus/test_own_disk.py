"""What the user's own Redis leaves on the disk, and for how long."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from stream.bus import own_server, server
from stream.bus.connection import BusError, check_publishing
from stream.bus.forget import forget, rewrite_log
from stream.bus.keys import Keys
from stream.bus.own_server import (
    data_folder,
    running,
    stop,
)
from stream.bus.own_server import own_server as start
from stream.bus.publisher import Bus
from tests.support.conversations import started
from tests.support.events import ended
from tests.support.redis_servers import client, until

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("home")]


def pid(url: str) -> int:
    return int(client(url).info("server")["process_id"])


async def test_what_is_forgotten_is_in_no_file() -> None:
    url, keys = start(), Keys("private")
    bus = Bus(url, keys)
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(started(id="private:started", session="private", consent="xylophone"), ended("private"))
    assert await bus.aclose()
    await asyncio.to_thread(until, on_disk)
    assert not (await forget(url, keys)).left
    assert await rewrite_log(url) == 1
    assert not on_disk()


def on_disk(word: bytes = b"xylophone") -> bool:
    """True if any file of the user's folders has the word: base and increments of the log, and what is temporary."""
    for path in data_folder().rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and word in path.read_bytes():
                return True
    return False


def keeper() -> int | None:
    """Process id of the one that stands beside the server of this test."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_one = own_server.KEEPER.encode() in (folder / "cmdline").read_bytes().split(b"\0")
            if is_one and f"XDG_DATA_HOME={os.environ['XDG_DATA_HOME']}".encode() in (folder / "environ").read_bytes():
                return int(folder.name)
    return None


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_server, "REWRITE_PAUSE_S", 0.1)


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("where", ["in the increments", "in the base"])
def test_what_has_expired_leaves_the_disk_without_a_command(where: str) -> None:
    with client(start()) as connected:
        until(lambda: keeper() is not None)
        connected.xadd("undertone:{a}:events", {"event": "xylophone"})
        connected.set("kept", "marimba")
        until(on_disk)
        if where == "in the base":
            connected.bgrewriteaof()
            until(lambda: any(b"xylophone" in path.read_bytes() for path in data_folder().rglob("*.base.*")))
        connected.pexpire("undertone:{a}:events", 200)
        until(lambda: not on_disk())
        until(lambda: on_disk(b"marimba"))


@pytest.mark.usefixtures("no_pause")
def test_what_expired_while_the_server_was_down_leaves_the_disk() -> None:
    with client(start()) as connected:
        connected.set("word", "xylophone", px=1000)
    stop()
    assert on_disk()
    time.sleep(1)
    start()
    until(lambda: not on_disk())


@pytest.mark.usefixtures("no_pause")
def test_a_keeper_that_was_killed_comes_back_with_the_next_command() -> None:
    with client(start()) as connected:
        until(lambda: keeper() is not None)
        os.kill(keeper() or 0, signal.SIGKILL)
        until(lambda: keeper() is None)
        connected.set("word", "xylophone", px=100)
        until(on_disk)
        start()
        until(lambda: not on_disk())


def test_the_keeper_ends_with_the_server() -> None:
    for end in (stop, lambda: os.kill(pid(running() or ""), signal.SIGKILL)):
        start()
        until(lambda: keeper() is not None)
        end()
        until(lambda: keeper() is None)


def test_a_rewriting_that_was_killed_leaves_nothing_behind() -> None:
    start()
    stop()
    (data_folder() / "temp-rewriteaof-bg-4711.aof").write_bytes(b"xylophone")
    start()
    assert not on_disk()


@pytest.mark.usefixtures("no_pause")
def test_its_file_is_bounded() -> None:
    """A session's state is written over and over."""
    with client(start()) as connected:
        for _ in range(60):
            connected.set("undertone:{a}:state", "x" * 1_000_000)
        until(lambda: log_bytes() < 20 << 20)


def log_bytes() -> int:
    """Size of base and increments of the log; a file that a rewrite has just removed counts nothing."""
    size = 0
    for path in data_folder().rglob("*.aof"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def test_one_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_MEMORY", "3mb")
    with client(url := start()) as connected:
        for size in (100_000, 10_000, 1_000, 100):
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                for n in range(1_000):
                    connected.set(f"{size}:{n}", "x" * size)
    with pytest.raises(BusError, match="its memory is full.*undertone forget"):
        asyncio.run(check_publishing(url, Keys("a")))
