"""Events that a leader had accepted and no replica had when it went: a real pair with a real Sentinel."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stream.bus import cluster
from stream.bus.keys import Keys
from stream.bus.publisher import BATCH, Bus
from stream.bus.subscriber import history, subscribe
from stream.clock import VirtualClock
from tests.support.events import ended, notice
from tests.support.gateways import free_port
from tests.support.redis_servers import Server, server
from tests.support.secure_redis import tool

pytestmark = pytest.mark.integration


class Divide:
    """Stands before a leader. Once it is `shut`, only our own programs reach the leader: they begin with HELLO."""

    def __init__(self, port: int) -> None:
        self._target, self.port = port, free_port()
        self.shut = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def aclose(self) -> None:
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.read(4096)
            ours = b"HELLO" in first
            upstream, there = await asyncio.open_connection("127.0.0.1", self._target)
            there.write(first)
            await asyncio.gather(self._pump(reader, there, ours), self._pump(upstream, writer, ours))
        except OSError:
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, ours: bool) -> None:
        while data := await source.read(1 << 16):
            while self.shut and not ours:
                await asyncio.sleep(0.05)
            sink.write(data)
            await sink.drain()
        sink.close()


@dataclass
class Pair:
    leader: Server
    replica: Server
    divide: Divide
    url: str


@contextmanager
def sentinel(folder: Path, leader: int) -> Iterator[str]:
    """A Sentinel that gives a leader up after half a second; its URL."""
    config, port = folder / "sentinel.conf", free_port()
    config.write_text(
        f"port {port}\nsentinel monitor ours 127.0.0.1 {leader} 1\n"
        "sentinel down-after-milliseconds ours 500\nsentinel failover-timeout ours 3000\n"
    )
    process = subprocess.Popen([tool("redis-server"), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        yield f"redis+sentinel://127.0.0.1:{port}/ours/0"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncGenerator[Pair]:
    for name in ("a", "b", "s"):
        (tmp_path / name).mkdir()
    with server(tmp_path / "a", "--repl-diskless-sync-delay", "0") as leader:
        divide = Divide(leader.port)
        await divide.start()
        with (
            server(tmp_path / "b", "--replicaof", f"127.0.0.1 {divide.port}") as replica,
            sentinel(tmp_path / "s", divide.port) as url,
        ):
            while await asyncio.to_thread(lambda: replica.admin.info("replication")["master_link_status"] != "up"):
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)  # until the sentinel knows of the replica
            yield Pair(leader, replica, divide, url)
            replica.process.send_signal(signal.SIGCONT)
        await divide.aclose()


@pytest.fixture
def keys() -> Keys:
    return Keys(f"test-{secrets.token_hex(4)}")


def expected(keys: Keys, count: int) -> list[str]:
    return [*(f"{keys.session}:notice:{n}" for n in range(count)), f"{keys.session}:ended"]


def entries(at: Server, keys: Keys) -> list[str]:
    """Ids in the Stream, those that are there twice included."""
    found: Any = at.admin.xrange(keys.events)
    return [fields["id"] for _, fields in found]


async def test_a_leader_that_dies_before_it_copied(pair: Pair, keys: Keys) -> None:
    """Cut off, it accepts 40 events and dies; the replica, which then leads, gets them, each once."""
    bus = Bus(pair.url, keys, clock=VirtualClock())
    for n in range(10):
        bus.publish(notice(keys.session, n), state=f"state {n}", row=f"row {n}", rows=99)
    await bus.flush()
    pair.divide.shut = True
    for n in range(10, 50):
        bus.publish(notice(keys.session, n), state=f"state {n}", row=f"row {n}", rows=99)
        await asyncio.sleep(0.01)
    for _ in range(40):
        if len(await asyncio.to_thread(entries, pair.leader, keys)) >= 50:
            break
        await asyncio.sleep(0.05)  # accepted, though nobody has confirmed them
    pair.leader.kill()
    for n in range(50, 60):
        bus.publish(notice(keys.session, n), state=f"state {n}", row=f"row {n}", rows=99)
    bus.publish(ended(keys.session))
    assert await bus.aclose(timeout=60)
    assert await asyncio.to_thread(entries, pair.replica, keys) == expected(keys, 60)
    assert [event.id for event in await history(pair.url, keys.session)] == expected(keys, 60)
    assert bus.dropped_events == 0


async def test_a_leader_that_is_cut_off_and_goes_on_accepting(pair: Pair, keys: Keys) -> None:
    """Sentinel and replica do not see the leader any more; the publisher does, and follows them to the new one."""
    bus = Bus(pair.url, keys, clock=VirtualClock())
    for n in range(10):
        bus.publish(notice(keys.session, n))
    await bus.flush()
    pair.divide.shut = True
    for n in range(10, 100):
        bus.publish(notice(keys.session, n))
        await asyncio.sleep(0.03)
    assert len(await asyncio.to_thread(entries, pair.leader, keys)) > 10, "a leader cut off that accepts nothing"
    while (await asyncio.to_thread(pair.replica.admin.role))[0] != "master":
        await asyncio.sleep(0.1)
    bus.publish(ended(keys.session))
    assert await bus.aclose(timeout=60)
    assert await asyncio.to_thread(entries, pair.replica, keys) == expected(keys, 100)
    assert [event.id async for event in subscribe(pair.url, keys.session)] == expected(keys, 100)


async def test_a_batch_is_confirmed_at_once(pair: Pair, keys: Keys) -> None:
    bus = Bus(pair.url, keys, clock=VirtualClock())
    for n in range(10 * BATCH):
        bus.publish(notice(keys.session, n))
    bus.publish(ended(keys.session))
    assert await bus.aclose()
    stats = await asyncio.to_thread(pair.leader.admin.info, "commandstats")
    assert stats["cmdstat_wait"]["calls"] <= 12
    assert await asyncio.to_thread(entries, pair.replica, keys) == expected(keys, 10 * BATCH)


async def test_without_a_replica_nothing_is_waited_for(tmp_path: Path, keys: Keys) -> None:
    with server(tmp_path) as alone:
        bus = Bus(alone.url, keys)
        for n in range(100):
            bus.publish(notice(keys.session, n))
        bus.publish(ended(keys.session))
        assert await bus.aclose()
        stats = alone.admin.info("commandstats")
        assert "cmdstat_wait" not in stats and stats["cmdstat_role"]["calls"] == 1


async def test_a_replica_that_hangs_holds_nothing_up(pair: Pair, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go out as ever, and wait beside it in the spool until it has them."""
    monkeypatch.setattr(cluster, "REPLICA_PATIENCE_S", 0.1)
    bus = Bus(pair.leader.url, keys)
    bus.publish(notice(keys.session, 0))
    await bus.flush()
    pair.replica.process.send_signal(signal.SIGSTOP)
    for n in range(1, 40):
        bus.publish(notice(keys.session, n))
        await asyncio.sleep(0.02)
    bus.publish(ended(keys.session))
    while len(await asyncio.to_thread(entries, pair.leader, keys)) < 41 or bus.is_spooling:  # until it has the answers
        await asyncio.sleep(0.05)
    assert len(bus.spool) > 30
    pair.replica.process.send_signal(signal.SIGCONT)
    assert await bus.aclose()
    assert not bus.spool.path.exists()
    assert await asyncio.to_thread(entries, pair.leader, keys) == expected(keys, 40)


async def test_a_user_who_may_not_ask_publishes_as_ever(
    tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with server(tmp_path) as alone:
        alone.admin.acl_setuser("old", enabled=True, passwords=["+old"], categories=["+@all"], commands=["-role"],
                                keys=["*"], channels=["*"])  # fmt: skip
        bus = Bus(alone.url.replace("//", "//old:old@"), keys)
        bus.publish(ended(keys.session))
        assert await bus.aclose()
        assert "Redis refuses ROLE or WAIT" in caplog.text
