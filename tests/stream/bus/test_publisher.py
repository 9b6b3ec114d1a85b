"""Publishing and receiving, against a real Redis."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
from pathlib import Path

import pytest
import redis as sync_redis

from stream.bus.connection import BusError, check, check_publishing, claim, connect, public, release
from stream.bus.keys import RETENTION_S, Keys
from stream.bus.publisher import DIRECTORY_REFRESH_S, HEARTBEAT_TTL_S, Bus
from stream.bus.subscriber import subscribe
from stream.events import Base, parse
from tests.support.events import ended, notice
from tests.support.redis_servers import private_server


@pytest.fixture
def session() -> str:
    return f"test-{secrets.token_hex(4)}"


async def collect(url: str, session: str) -> list[Base]:
    return [event async for event in subscribe(url, session)]


async def test_stream_and_channel_carry_the_same_and_expire(redis_url: str, session: str) -> None:
    keys, client = Keys(session), sync_redis.Redis.from_url(redis_url, decode_responses=True)
    channel = client.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(keys.channel)
    channel.get_message(timeout=1)
    bus = Bus(redis_url, keys)
    await bus.register("2026-01-01T00:00:00Z")
    events = [notice(session, 0), ended(session)]
    for event in events:
        bus.publish(event)
    assert await bus.aclose()
    stored = client.xrange(keys.events)
    assert [fields["id"] for _, fields in stored] == [event.id for event in events]
    assert [parse(fields["event"]) for _, fields in stored] == events
    heard = [channel.get_message(timeout=1)["data"] for _ in events]
    assert heard == [fields["event"] for _, fields in stored]
    assert 0 < client.ttl(keys.events) <= RETENTION_S
    assert client.hget(keys.directory, session) == "2026-01-01T00:00:00Z"
    assert keys.events == f"undertone:{{{session}}}:events"


async def test_the_directory_forgets_what_has_expired(redis_url: str, session: str) -> None:
    client = sync_redis.Redis.from_url(redis_url, decode_responses=True)
    keys = Keys(session)
    client.hset(keys.directory, "long-gone", "2020")
    bus = Bus(redis_url, keys)
    await bus.register("now")
    await bus.aclose()
    assert not client.hexists(keys.directory, "long-gone")


async def test_history_and_live_join_without_gap_or_duplicate(redis_url: str, session: str) -> None:
    """Subscribers come at any moment while a publisher races through 2,000 events."""
    bus = Bus(redis_url, Keys(session))
    bus.publish(notice(session, 0))

    async def race() -> None:
        for n in range(1, 2000):
            bus.publish(notice(session, n))
            if n % 20 == 0:
                await asyncio.sleep(0.001)
        bus.publish(ended(session))
        assert await bus.aclose()

    async def late(delay: float) -> list[Base]:
        await asyncio.sleep(delay)
        return await collect(redis_url, session)

    _, *received = await asyncio.gather(race(), *(late(delay) for delay in (0.0, 0.02, 0.1, 0.3, 1.5)))
    expected = [f"{session}:notice:{n}" for n in range(2000)] + [f"{session}:ended"]
    for events in received:
        assert [event.id for event in events] == expected


@pytest.mark.integration
async def test_an_absent_redis_stalls_nobody_and_loses_nothing(session: str, tmp_path: Path) -> None:
    """Events wait while Redis is stopped, and come out in order when it goes on."""
    with private_server() as url:
        pid = sync_redis.Redis.from_url(url).info("server")["process_id"]
        bus = Bus(url, Keys(session))
        bus.publish(notice(session, 0))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGSTOP)
        try:
            started = asyncio.get_running_loop().time()
            for n in range(1, 200):
                bus.publish(notice(session, n))
            assert asyncio.get_running_loop().time() - started < 1
            assert not await asyncio.wait_for(asyncio.shield(_drained(bus, 0.3)), 5)
        finally:
            os.kill(pid, signal.SIGCONT)
        bus.publish(ended(session))
        received = asyncio.create_task(collect(url, session))
        assert await bus.aclose()
        ids = [event.id for event in await asyncio.wait_for(received, 20)]
        assert ids == [f"{session}:notice:{n}" for n in range(200)] + [f"{session}:ended"]


async def _drained(bus: Bus, timeout: float) -> bool:
    try:
        await asyncio.wait_for(bus._outbox.join(), timeout)
    except TimeoutError:
        return False
    return True


async def test_a_full_outbox_gives_up_the_oldest_and_counts(session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.bus.publisher.MAX_OUTBOX", 10)
    bus = Bus("redis://127.0.0.1:1/0", Keys(session))
    for n in range(25):
        bus.publish(notice(session, n))
    assert bus.dropped_events == 15
    assert not await bus.aclose(timeout=0.1)


async def test_a_subscriber_survives_a_lost_connection(redis_url: str, session: str) -> None:
    bus = Bus(redis_url, Keys(session))
    received = asyncio.create_task(collect(redis_url, session))
    bus.publish(notice(session, 0))
    await asyncio.sleep(0.3)
    admin = sync_redis.Redis.from_url(redis_url)
    for client in admin.client_list():
        if "S" not in client["flags"] and client["cmd"].startswith("subscribe"):
            admin.client_kill(client["addr"])
    admin.client_kill_filter(_type="pubsub")
    bus.publish(notice(session, 1))
    bus.publish(ended(session))
    assert await bus.aclose()
    ids = [event.id for event in await asyncio.wait_for(received, 20)]
    assert ids == [f"{session}:notice:0", f"{session}:notice:1", f"{session}:ended"]


@pytest.mark.integration
async def test_refusals_are_one_clear_line() -> None:
    with pytest.raises(BusError, match="no Redis answers at redis://127.0.0.1:1/0"):
        await check("redis://127.0.0.1:1/0")
    with pytest.raises(BusError, match="Redis address"):
        await check("http://localhost")
    with private_server("--requirepass", "right") as url:
        with pytest.raises(BusError, match="refuses the user name or password"):
            await check(url)
        with pytest.raises(BusError, match="refuses") as refusal:
            await check(url.replace("//", "//:wrong@"))
        assert "wrong" not in str(refusal.value)
        await check(url.replace("//", "//:right@"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@host:6379/0", "redis://…@host:6379/0"),
        ("redis://:p@ss@host/0", "redis://…@host/0"),
        ("rediss://host:1/2?password=secret&ssl_cert_reqs=none", "rediss://host:1/2?…"),
        ("redis://secret@[::1]:6379", "redis://…@[::1]:6379"),
        ("unix://:secret@/run/a/socket?db=1", "unix://…@/run/a/socket?…"),
        ("redis+sentinel://me:secret@one:1,two:2/ours/0", "redis+sentinel://…@one:1,two:2/ours/0"),
    ],
)
def test_passwords_stay_out_of_messages(url: str, shown: str) -> None:
    assert public(url) == shown and connect(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s@cret/w#rd@host", "redis://:secret/w@host:6379", "redis://:secret#w@host", "redis://:secret?w@host",
        "redis://:s@cret?w@host", "redis://:secret", "redis://:12?secret@host", "redis://host/0#secret",
        "redis://host/secret", "unix://secret/run/socket",
        "secret", "http://:secret@host", "redis+sentinel://:secret@host/ours", "redis://[secret", "redis://host:secret",
        "redis+sentinel://me:s/ecret@host:1/ours", "redis://host?password=s@cret", "rediss://host?password=12#secret",
    ],
)  # fmt: skip
async def test_an_address_that_is_not_clear_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(BusError, match="Redis address") as refusal:
        await check(url)
    assert not re.search("cret|host", str(refusal.value).replace("the host comes", "")), str(refusal.value)


@pytest.mark.parametrize("options", ["secret=secret", "db=secret", "db=1&password=secret&host2=secret"])
async def test_options_that_there_are_not_are_refused_and_not_shown(options: str) -> None:
    with pytest.raises(BusError, match=r"Redis address redis://host/0\?…: ") as refusal:
        await check(f"redis://host/0?{options}")
    assert "secret" not in str(refusal.value)


@pytest.mark.integration
@pytest.mark.parametrize("renamed", ["hello", "multi", "publish", "exec"])
async def test_a_password_is_in_no_refusal(renamed: str) -> None:
    """A server repeats the arguments of a command that it does not know."""
    with private_server("--requirepass", "right", "--rename-command", renamed, "") as url:
        with pytest.raises(BusError) as refusal:
            await check(url.replace("//", "//default:right@"))
            await check_publishing(url.replace("//", "//default:right@"), Keys("x"))
        assert "right" not in str(refusal.value) and f"'{renamed}'" in str(refusal.value).lower()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("user", "refusal"),
    [
        ({"channels": []}, "PUBLISH: .*channel"),
        ({"commands": ["+@all", "-multi"]}, "'multi' command"),
        ({"commands": ["+@all", "-expire"]}, "EXPIRE: "),
        ({"commands": ["+@all", "-hset"]}, "HSET: "),
        ({"keys": ["undertone:{*"]}, "no permissions"),
        ({"keys": ["undertone:sessions"]}, "no permissions"),
        ({}, None),
    ],
)
async def test_what_redis_refuses_is_asked_before_the_start(
    redis_url: str, session: str, user: dict[str, list[str]], refusal: str | None
) -> None:
    admin = sync_redis.Redis.from_url(redis_url)
    allowed = {"keys": ["*"], "channels": ["*"], "commands": ["+@all"]} | user
    admin.acl_setuser(session, enabled=True, passwords=["+right"], reset_channels=True, **allowed)
    url = redis_url.replace("//", f"//{session}:right@")
    try:
        if refusal is None:
            await check_publishing(url, Keys(session))
        else:
            with pytest.raises(BusError, match=f"refuses what a session publishes: .*{refusal}") as refused:
                await check_publishing(url, Keys(session))
            assert "right" not in str(refused.value)
    finally:
        admin.acl_deluser(session)
    assert not [*admin.scan_iter(f"undertone:{{{session}}}*")] and not admin.hexists("undertone:sessions", session)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["multi", "publish", "exec", "xadd"])
async def test_renamed_commands_are_told_before_the_start(name: str, session: str) -> None:
    with private_server("--rename-command", name, "") as url:
        with pytest.raises(BusError, match=f"refuses what a session publishes: .*unknown command '{name.upper()}'"):
            await check_publishing(url, Keys(session))
        assert sync_redis.Redis.from_url(url).dbsize() == 0


@pytest.mark.parametrize("name", ["", "a b", "x}{", "a:b", "-x", "y" * 65, "a*", "ü"])
def test_session_names_cannot_forge_keys(name: str) -> None:
    with pytest.raises(ValueError, match="session"):
        Keys(name)


async def test_an_id_is_claimed_once(redis_url: str, session: str) -> None:
    keys = Keys(session)
    assert await claim(redis_url, keys)
    assert not await claim(redis_url, keys), "it is about to start elsewhere"
    await release(redis_url, keys)
    assert await claim(redis_url, keys), "it did not start there"


async def test_a_killed_session_is_forgotten_as_others_are(redis_url: str) -> None:
    """Events go after the time that the session asked for, and no name stays in the directory for ever."""
    keys, client = Keys("killed", f"kept-{secrets.token_hex(3)}"), sync_redis.Redis.from_url(redis_url)
    bus = Bus(redis_url, keys, retention_s=2)
    await bus.register("2026-01-01T00:00:00Z")
    await bus.beat("{}")
    bus.publish(notice("killed", 0))
    await bus.flush()
    assert 0 < client.ttl(keys.events) <= 2 and 0 < client.ttl(keys.alive) <= HEARTBEAT_TTL_S
    assert 0 < client.ttl(keys.directory) <= 2 + 2 * DIRECTORY_REFRESH_S
    await asyncio.sleep(1.2)
    bus.publish(notice("killed", 1))  # each event puts the end off
    await bus.flush()
    await asyncio.sleep(1.2)
    assert client.exists(keys.events)
    async with asyncio.timeout(5):
        while client.exists(keys.events):
            await asyncio.sleep(0.1)
    longer = Bus(redis_url, Keys("longer", keys.prefix))
    await longer.register("2026-01-01T00:00:00Z")
    assert client.ttl(keys.directory) > RETENTION_S
    again = Bus(redis_url, Keys("again", keys.prefix), retention_s=2)
    await again.register("2026-01-01T00:00:00Z")
    assert client.ttl(keys.directory) > RETENTION_S  # the longest counts
    for each in (bus, longer, again):
        await each.aclose()
