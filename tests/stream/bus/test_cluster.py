"""Publishing and receiving, against a real Redis Cluster of three masters."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis as sync_redis
from redis.crc import key_slot

import stream
from stream.bus.alerts import AlertPublisher
from stream.bus.connection import check, claim
from stream.bus.directory import overview
from stream.bus.forget import forget
from stream.bus.keys import PREFIX, Keys
from stream.bus.publisher import Bus
from stream.bus.server import server_binary
from stream.bus.subscriber import consume_all, history
from stream.events import Alert
from tests.support.buses import ids, publish
from tests.support.events import ended, notice

THIRDS = (0, 5461, 10923)  # where redis-cli cuts the 16,384 slots for three masters


class Cluster:
    """Three nodes on loopback."""

    def __init__(self, ports: list[int]) -> None:
        self.nodes = [sync_redis.Redis(port=port, decode_responses=True) for port in ports]
        self.urls = [f"redis://127.0.0.1:{port}/0" for port in ports]

    def owner(self, key: str) -> int:
        """The number of the node that has a key, asked of each."""
        (number,) = [n for n, node in enumerate(self.nodes) if _keeps(node, key)]
        return number

    def move(self, key: str, to: int) -> None:
        """Hand a key's slot over to another node, with all that is in it; for a moment it is neither's (ASK)."""
        slot, here, there = key_slot(key.encode()), self.nodes[self.owner(key)], self.nodes[to]
        source, target = (node.execute_command("CLUSTER MYID") for node in (here, there))
        there.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {source}")
        here.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {target}")
        host, port = there.get_connection_kwargs()["host"], there.get_connection_kwargs()["port"]
        for name in here.execute_command(f"CLUSTER GETKEYSINSLOT {slot} 100"):
            here.migrate(host, port, name, 0, 5000)
        time.sleep(0.2)
        for node in (there, here, *self.nodes):
            node.execute_command(f"CLUSTER SETSLOT {slot} NODE {target}")


def _keeps(node: sync_redis.Redis, key: str) -> bool:
    try:
        return bool(node.exists(key))
    except sync_redis.ResponseError:  # MOVED
        return False


def _free_port() -> int:
    """One whose cluster bus, 10,000 further, is free too."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    binary, cli = server_binary(), shutil.which("redis-cli")
    assert binary and cli, "deploy/install-system-packages.sh installs them"
    ports = [_free_port() for _ in range(3)]
    with ExitStack() as servers:
        for port in ports:
            folder = tmp_path_factory.mktemp(f"node-{port}")
            options = ["--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "", "--dir", str(folder)]
            command = [binary, "--port", str(port), *options]
            process = servers.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            servers.callback(process.terminate)
        made = Cluster(ports)
        _until(lambda: all(_answers(node) for node in made.nodes))
        addresses = [f"127.0.0.1:{port}" for port in ports]
        create = [cli, "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(create, check=True, timeout=30, stdout=subprocess.DEVNULL)
        _until(lambda: all(node.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for node in made.nodes))
        yield made


def _answers(node: sync_redis.Redis) -> bool:
    try:
        return bool(node.ping())
    except sync_redis.ConnectionError:
        return False


def _until(true) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sessions(count: int) -> list[str]:
    """Ids whose keys lie on each of the nodes in turn."""
    found: list[str] = []
    while len(found) < count:
        name = f"cluster-{secrets.token_hex(4)}"
        slot = key_slot(Keys(name).events.encode())
        if sum(slot >= first for first in THIRDS) - 1 == len(found) % 3:
            found.append(name)
    return found


async def test_a_session_lives_in_one_slot_and_sessions_on_all_nodes(cluster: Cluster) -> None:
    """Whichever node is named, each session is published, followed, shared and listed."""
    for n, session in enumerate(sessions(3)):
        keys, url = Keys(session), cluster.urls[(n + 1) % 3]
        received = asyncio.create_task(collect(url, session))
        await check(url)
        assert await claim(url, keys)
        bus = Bus(url, keys)
        await bus.register("2026-01-01T00:00:00Z")
        await bus.beat('{"position": 1, "seconds": 1, "in_flight": 0, "lag": 0}')
        for number in range(5):
            bus.publish(notice(session, number))
        bus.publish(ended(session))
        assert await bus.aclose()
        expected = [*(f"notice:{number}" for number in range(5)), "ended"]
        assert ids(await asyncio.wait_for(received, 10)) == expected
        assert ids(await history(url, session)) == expected
        shared = [event async for event in stream.consume(url, session, "team", "me")]
        assert ids(shared) == expected
        assert {cluster.owner(key) for key in (keys.events, keys.alive)} == {n}
        assert len({key_slot(key.encode()) for key in (keys.events, keys.alive, keys.channel)}) == 1
        assert [info.state for info in await overview(url, only=[session])] == ["ended"]
    everything = consume_all(cluster.urls[0], "metrics", "one")
    assert len({(await asyncio.wait_for(anext(everything), 5)).session for _ in range(18)}) == 3
    await everything.aclose()


async def test_a_session_is_forgotten_on_all_nodes(cluster: Cluster) -> None:
    """Its alerts and the directory lie elsewhere than its events do; each node may be named."""
    for n, session in enumerate(sessions(3)):
        keys, url = Keys(session), cluster.urls[(n + 1) % 3]
        bus = Bus(url, keys)
        await bus.register("2026-01-01T00:00:00Z")
        bus.publish(ended(session))
        assert await bus.aclose()
        publisher = AlertPublisher(url)
        found = Alert(
            id=f"{session}:0:alert:r", session=session, rule="r", speaker="A", emotion="joy", audio_start=0,
            audio_end=1, utterances=[0], probability=1,
        )  # fmt: skip
        assert await publisher.publish(found)
        await publisher.aclose()
        done = await forget(cluster.urls[n], keys)
        assert keys.events in done.removed.keys and len(done.removed.keys) == 2
        assert done.removed.entries.keys() == {keys.directory, f"{PREFIX}:alerts"}
        assert not done.left
        assert not [key for node in cluster.nodes for key in node.keys("*") if session in key]


async def collect(url: str, session: str) -> list[stream.Event]:
    return [event async for event in stream.subscribe(url, session)]


async def test_the_channel_is_heard_at_every_node(cluster: Cluster) -> None:
    (session,) = sessions(1)
    channels = [node.pubsub(ignore_subscribe_messages=True) for node in cluster.nodes]
    for channel in channels:
        channel.subscribe(Keys(session).channel)
        channel.get_message(timeout=1)
    await publish(cluster.urls[1], session, 1)
    stored = [event.wire() for event in await history(cluster.urls[2], session)]
    for channel in channels:
        assert [channel.get_message(timeout=2)["data"] for _ in stored] == stored
        channel.close()


async def test_a_slot_that_moves_takes_its_session_along(cluster: Cluster) -> None:
    (session,) = sessions(1)
    received = asyncio.create_task(collect(cluster.urls[1], session))
    bus = Bus(cluster.urls[2], Keys(session))
    bus.publish(notice(session, 0))
    await bus.flush()
    number = 0
    for to in (1, 2, 0):
        moving = asyncio.create_task(asyncio.to_thread(cluster.move, Keys(session).events, to))
        while not moving.done():
            number += 1
            bus.publish(notice(session, number))
            await asyncio.sleep(0.01)
        await moving
        await bus.flush()
    bus.publish(ended(session))
    assert await bus.aclose()
    assert ids(await asyncio.wait_for(received, 30)) == [*(f"notice:{n}" for n in range(number + 1)), "ended"]


async def test_an_alert_is_published_once_in_one_transaction(cluster: Cluster) -> None:
    alert = Alert(
        id="s:0:alert:angry", session="s", rule="angry", speaker="customer", emotion="anger",
        audio_start=0, audio_end=1, utterances=[0], probability=0.9,
    )  # fmt: skip
    publishers = [AlertPublisher(url) for url in cluster.urls]
    assert sum(await asyncio.gather(*(publisher.publish(alert) for publisher in publishers))) == 1
    marker = f"{PREFIX}:alert:{{{PREFIX}:alerts}}:{alert.id}"
    assert cluster.owner(f"{PREFIX}:alerts") == cluster.owner(marker)
    for publisher in publishers:
        await publisher.aclose()
