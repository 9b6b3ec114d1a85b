"""Events that wait on disk for a Redis that is away, refuses, or was lost. Real servers."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.spool import Entry, Spool, spool_path, waiting_spools
from stream.bus.subscriber import history
from stream.clock import VirtualClock
from stream.events import SessionEnded
from tests.support.events import ended, notice
from tests.support.gateways import free_port
from tests.support.redis_servers import Server, server
from tests.support.secure_redis import tool


@pytest.fixture
def keys() -> Keys:
    return Keys(f"test-{secrets.token_hex(4)}")


async def ids(server: Server, keys: Keys) -> list[str]:
    return [event.id for event in await history(server.url, keys.session)]


def test_first_in_first_out_and_gone_when_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.bus.spool.LOCK_WAIT_S", 0.1)
    spool = Spool(spool_path("one", "un.der:tone", tmp_path / "deep"))
    assert spool.first() is None
    assert not (tmp_path / "deep").exists()
    for n in range(3):
        spool.append(Entry([(f"id{n}", "notice", f"event {n}")], row=f"row {n}", rows=n))
    assert spool.path.stat().st_mode & 0o077 == 0, "nobody else reads what people say"
    assert list(waiting_spools(tmp_path / "deep")) == [("one", "un.der:tone", spool.path)]
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Spool(spool.path)
    spool.close()
    again = Spool(spool.path)
    for n in range(3):
        number, entry = again.first() or pytest.fail("too few")
        assert entry == Entry([[f"id{n}", "notice", f"event {n}"]], row=f"row {n}", rows=n)
        again.remove(number)
    assert again.first() is None
    assert not spool.path.exists()


def test_beyond_its_limit_the_oldest_are_given_up_and_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "one.db", limit=2000)
    for n in range(100):
        spool.append(Entry([(f"id{n}", "notice", "x" * 100)]))
    first = spool.first()
    assert first is not None
    left = 100 - spool.dropped_events
    assert first[1].events[0][0] == f"id{spool.dropped_events}"
    assert 5 < left < 15
    assert len(spool) == left


def test_a_disk_that_takes_nothing_costs_the_events_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "one.db")
    spool.append(Entry([("id", "notice", "event")]))
    assert spool.dropped_events == 1
    assert spool.first() is None


@pytest.mark.integration
def test_a_full_disk_costs_what_it_does_not_take(tmp_path: Path) -> None:
    """A process that may write no file beyond 100 kB: what fits waits, in order, and can be sent all the same."""
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom stream.bus.spool import Entry, Spool\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "for n in range(300): spool.append(Entry([(str(n), 'notice', 'x' * 1000)]))\n"
        "sent = []\n"
        "while first := spool.first():\n"
        "    sent.append(int(first[1].events[0][0]))\n    spool.remove(first[0])\n"
        "print(spool.dropped_events, sent == sorted(sent), len(sent), Path(sys.argv[1]).exists())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "one.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    given_up, ordered, sent, left = done.stdout.split()
    assert int(given_up) + int(sent) == 300
    assert int(sent) > 50
    assert (ordered, left) == ("True", "False")


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "one.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    spool = Spool(tmp_path / "one.db")
    assert spool.first() is None
    spool.append(Entry([("id", "notice", "event")]))
    assert len(spool) == 1
    assert (tmp_path / "one.broken").exists()


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.integration
async def test_a_redis_that_is_killed_and_comes_back(tmp_path: Path, keys: Keys, persistent: bool) -> None:
    """Nothing is lost that Redis keeps, nothing is out of order, and the directory knows the session again."""
    options = ("--appendonly", "yes", "--appendfsync", "always") if persistent else ()
    with server(tmp_path, *options) as redis:
        bus = Bus(redis.url, keys, clock=VirtualClock())
        await bus.register("now")
        for n in range(50):
            bus.publish(notice(keys.session, n))
        await bus.flush()
        redis.kill()
        for n in range(50, 150):
            bus.publish(notice(keys.session, n))
            await asyncio.sleep(0.01)
        assert bus.is_spooling
        assert spool_path(keys.session, keys.prefix).exists()
        redis.start()
        for n in range(150, 200):
            bus.publish(notice(keys.session, n))
        bus.publish(ended(keys.session))
        assert await bus.aclose()
        expected = [f"{keys.session}:notice:{n}" for n in range(0 if persistent else 50, 200)]
        assert await ids(redis, keys) == [*expected, f"{keys.session}:ended"]
        assert bus.dropped_events == 0
        assert not spool_path(keys.session, keys.prefix).exists()
        assert redis.admin.hget(keys.directory, keys.session) == "now"


@pytest.mark.integration
async def test_another_process_sends_what_the_first_left(tmp_path: Path, keys: Keys) -> None:
    with server(tmp_path) as redis:
        redis.kill()
        bus = Bus(redis.url, keys, clock=VirtualClock())
        for n in range(10):
            bus.publish(notice(keys.session, n), state=f"state {n}", row=f"row {n}", rows=4)
        assert not await bus.aclose(timeout=0.5)
        redis.start()
        later = Bus(redis.url, keys)
        later.publish(notice(keys.session, 10))
        assert await later.aclose()
        assert await ids(redis, keys) == [f"{keys.session}:notice:{n}" for n in range(11)]
        assert redis.admin.get(keys.state) == "state 9"
        assert redis.admin.lrange(keys.rows, 0, -1) == [f"row {n}" for n in range(6, 10)]


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0"), ("requirepass", "changed", "")],
    ids=["full", "no replica", "password changed"],
)
@pytest.mark.integration
async def test_a_redis_that_refuses(tmp_path: Path, keys: Keys, setting: str, bad: str, good: str) -> None:
    with server(tmp_path, "--maxmemory-policy", "noeviction") as redis:
        admin = redis.admin
        bus = Bus(redis.url, keys, clock=VirtualClock())
        bus.publish(notice(keys.session, 0))
        await bus.flush()
        admin.config_set(setting, bad)
        admin.client_kill_filter(_type="normal", skipme=True)  # who is in already may stay without the new password
        for n in range(1, 20):
            bus.publish(notice(keys.session, n))
        await asyncio.sleep(0.5)
        assert bus.is_spooling
        admin.config_set(setting, good)
        bus.publish(ended(keys.session))
        assert await bus.aclose()
        assert await ids(redis, keys) == [f"{keys.session}:notice:{n}" for n in range(20)] + [f"{keys.session}:ended"]


@pytest.mark.integration
async def test_a_replica_that_is_read_only_until_it_leads(tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with server(tmp_path / "a") as leader, server(tmp_path / "b", "--replicaof", f"127.0.0.1 {leader.port}") as replica:
        bus = Bus(replica.url, keys, clock=VirtualClock())
        bus.publish(notice(keys.session, 0))
        await asyncio.sleep(0.5)
        assert bus.is_spooling
        replica.admin.replicaof("NO", "ONE")
        bus.publish(ended(keys.session))
        assert await bus.aclose()
        assert await ids(replica, keys) == [f"{keys.session}:notice:0", f"{keys.session}:ended"]


@pytest.mark.integration
async def test_sentinels_name_another_leader(tmp_path: Path, keys: Keys) -> None:
    """The leader is killed; what was published before is with the new one, what was published meanwhile follows."""
    for name in ("a", "b", "s"):
        (tmp_path / name).mkdir()
    binary, port = tool("redis-server"), free_port()
    with (
        server(tmp_path / "a", "--repl-diskless-sync-delay", "0") as leader,
        server(tmp_path / "b", "--replicaof", f"127.0.0.1 {leader.port}") as replica,
    ):
        config = tmp_path / "s" / "sentinel.conf"
        config.write_text(
            f"port {port}\nsentinel monitor ours 127.0.0.1 {leader.port} 1\n"
            "sentinel down-after-milliseconds ours 500\nsentinel failover-timeout ours 2000\n"
        )
        sentinel = subprocess.Popen([binary, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            url = f"redis+sentinel://127.0.0.1:{port}/ours/0"
            while replica.admin.info("replication")["master_link_status"] != "up":
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)  # until the sentinel knows of the replica
            bus = Bus(url, keys, clock=VirtualClock())
            for n in range(10):
                bus.publish(notice(keys.session, n))
            await bus.flush()
            await asyncio.sleep(0.5)
            leader.kill()
            for n in range(10, 20):
                bus.publish(notice(keys.session, n))
                await asyncio.sleep(0.05)
            bus.publish(ended(keys.session))
            assert await bus.aclose(timeout=40)
            events = await history(url, keys.session)
            assert [e.id for e in events] == [f"{keys.session}:notice:{n}" for n in range(20)] + [
                f"{keys.session}:ended"
            ]
            assert isinstance(events[-1], SessionEnded)
            assert replica.admin.role()[0] == "master"
        finally:
            sentinel.kill()
            sentinel.wait()
