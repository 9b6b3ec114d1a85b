"""Forgetting a session: a real Redis and a real recording, with a second session beside it that stays whole."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
import redis as sync_redis

from stream.bus.alerts import AlertPublisher
from stream.bus.connection import BusError, claim
from stream.bus.directory import Load
from stream.bus.forget import CannotForget, Traces, check_erasing, find, forget, older_than, rewrite_log
from stream.bus.keys import Keys, token_sessions_key
from stream.bus.publisher import Bus
from stream.bus.spool import spool_path
from stream.bus.subscriber import consume, consume_all, subscribe
from stream.bus.tasks import cancelled
from stream.bus.webhook import Webhook
from stream.events import Alert, Event, SessionStarted
from stream.sources.file import FileSource
from stream.sources.recording import Recorder
from tests.support.buses import ids
from tests.support.events import ended, notice
from tests.support.paths import DEMO
from tests.support.redis_servers import private_server

ALIVE = Load(position=0, seconds=0, in_flight=0, lag=0).model_dump_json()


def started(session: str, **changes: object) -> SessionStarted:
    values = {
        "id": f"{session}:started", "session": session, "time": "2026-01-01T00:00:00Z", "sources": ["test"],
        "channels": "mixed", "speakers": "cluster", "encoders": {}, "checkpoint": "meld", "emotions": ["joy"],
        "consent": None, "redacted": False,
    }  # fmt: skip
    return SessionStarted.model_validate(values | changes)


def alert(session: str, number: int) -> Alert:
    return Alert(
        id=f"{session}:{number}:alert:joyful", session=session, rule="joyful", speaker="Ann", emotion="joy",
        audio_start=0, audio_end=1, utterances=[number], probability=0.9,
    )  # fmt: skip


async def leave_traces(url: str, keys: Keys, recordings: Path, spool: Path) -> None:
    """All that a session can leave anywhere."""
    session, prefix = keys.session, keys.prefix
    assert await claim(url, keys)
    bus = Bus(url, keys)
    await bus.register("2026-01-01T00:00:00Z")
    await bus.beat(ALIVE)
    for event in (started(session), notice(session, 0), notice(session, 1), ended(session)):
        bus.publish(event)
    assert await bus.aclose()
    delivered = consume(url, session, "team", "who died", prefix)  # an event that its group waits for
    await anext(delivered)
    await delivered.aclose()
    publisher = AlertPublisher(url, prefix, Webhook("http://127.0.0.1:9/x", "secret", lambda _: None))
    assert await publisher.publish(alert(session, 0)) and await publisher.publish(alert(session, 1))
    await publisher.aclose()
    with sync_redis.Redis.from_url(url) as client:
        client.set(f"{prefix}:{{{session}}}:state", "of a later version")
        client.rpush(f"{prefix}:{{{session}}}:rows", "1", "2")
        client.sadd(token_sessions_key(prefix, "desk"), session, "another")
    recorder = Recorder(FileSource(DEMO), recordings / session, {}, {"transcript": DEMO.with_suffix(".stm")})
    for number, _ in enumerate(recorder):
        if number == 10:
            break
    recorder.event(ended(session))
    waiting = spool_path(session, prefix)
    assert waiting.is_relative_to(spool)
    waiting.parent.mkdir(parents=True, exist_ok=True)
    waiting.write_text("what waits")
    waiting.with_name(f"{waiting.name}-wal").write_text("and more")


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


async def test_all_of_a_session_goes_and_nothing_else(redis_url: str, tmp_path: Path, spool: Path) -> None:
    prefix = f"forget-{secrets.token_hex(3)}"
    keys, other = Keys("call-1", prefix), Keys("call-10", prefix)
    for each in (keys, other, Keys("call-1", prefix.replace("-", "x"))):
        await leave_traces(redis_url, each, tmp_path / each.prefix[6], spool)
    folder = tmp_path / prefix[6]
    before = await find(redis_url, other, [folder])
    done = await forget(redis_url, keys, [folder])
    assert not done.left and not await find(redis_url, keys, [folder])
    ours = {f"{prefix}:{{call-1}}:{name}" for name in ("events", "alive", "state", "rows")}
    assert ours <= set(done.removed.keys) and len(done.removed.keys) == len(ours) + 4  # two alerts, two claims
    assert {name: len(members) for name, members in done.removed.entries.items()} == {
        f"{prefix}:sessions": 1,
        f"{prefix}:alerts": 2,
        f"{prefix}:token:desk:sessions": 1,
    }
    assert {path.name for path in done.removed.files} >= {
        "sound.mkv", "events.jsonl", "session.json", "transcript.stm", "call-1",
    }  # fmt: skip
    assert sum(path.is_relative_to(spool) for path in done.removed.files) == 2
    assert not (folder / "call-1").exists()
    assert await find(redis_url, other, [folder]) == before  # the one whose name begins alike is whole
    assert len((await find(redis_url, Keys("call-1", prefix.replace("-", "x")))).keys) == 8
    with sync_redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert not [key for key in client.scan_iter("*") if key.startswith(prefix) and "call-1}" in key]
        assert client.smembers(token_sessions_key(prefix, "desk")) == {"another", "call-10"}
        assert [fields["id"] for _, fields in client.xrange(f"{prefix}:alerts")] == [
            f"call-10:{n}:alert:joyful" for n in range(2)
        ]
    assert not (await forget(redis_url, keys, [folder])).removed


async def test_a_forgotten_id_can_be_used_anew(redis_url: str, tmp_path: Path, spool: Path) -> None:
    """Also by those who followed all sessions meanwhile."""
    prefix = f"anew-{secrets.token_hex(3)}"
    keys, seen = Keys("standup", prefix), []

    async def follow() -> None:
        async with aclosing(consume_all(redis_url, "metrics", "one", prefix)) as events:
            async for event in events:
                seen.append(event.id)  # noqa: PERF401 - it never ends

    following = asyncio.create_task(follow())
    for _ in range(2):
        seen.clear()
        await leave_traces(redis_url, keys, tmp_path, spool)
        assert ids([e async for e in subscribe(redis_url, "standup", prefix)])[-1] == "ended"
        async with asyncio.timeout(15):
            while "standup:ended" not in seen:
                await asyncio.sleep(0.1)
        assert seen == ["standup:started", "standup:notice:0", "standup:notice:1", "standup:ended"]
        assert not (await forget(redis_url, keys, [tmp_path])).left
        await asyncio.sleep(2.5)  # the follower looks every second
    await cancelled(following)


async def test_who_follows_a_killed_session_hears_the_next_of_that_id(redis_url: str) -> None:
    """Event ids are the same again, and are no duplicates; who shares its events in a group is let go."""
    keys = Keys(f"killed-{secrets.token_hex(3)}")

    async def live(moment: str, end: bool) -> None:
        bus = Bus(redis_url, keys)
        await bus.register(moment)
        for event in (started(keys.session, time=moment), notice(keys.session, 0)):
            bus.publish(event)
        if end:
            bus.publish(ended(keys.session))
        assert await bus.aclose()

    async def collect(events: AsyncIterator[Event]) -> list[str]:
        return ids([event async for event in events])

    await live("2026-01-01T00:00:00Z", end=False)
    following = asyncio.create_task(collect(subscribe(redis_url, keys.session)))
    sharing = asyncio.create_task(collect(consume(redis_url, keys.session, "team", "me")))
    await asyncio.sleep(1.5)
    assert not (await forget(redis_url, keys)).left
    assert await asyncio.wait_for(sharing, 10) == ["started", "notice:0"]
    await live("2026-01-01T01:00:00Z", end=True)
    assert await asyncio.wait_for(following, 15) == ["started", "notice:0", "started", "notice:0", "ended"]


async def test_what_lives_or_is_recorded_who_knows_where_is_refused(redis_url: str, tmp_path: Path) -> None:
    keys = Keys(f"live-{secrets.token_hex(3)}")
    assert await claim(redis_url, keys)
    with pytest.raises(CannotForget, match="stop it first"):
        await forget(redis_url, keys)
    bus = Bus(redis_url, keys)
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(started(keys.session, recorded=True))
    await bus.beat(ALIVE)
    await bus.flush()
    with pytest.raises(CannotForget, match="stop it first"):
        await forget(redis_url, keys, [tmp_path])
    await bus._client.delete(keys.alive)  # killed
    await bus.aclose()
    with pytest.raises(CannotForget, match="--record"):
        await forget(redis_url, keys)
    assert (await forget(redis_url, keys, [tmp_path])).removed.keys == [keys.events]


async def test_what_cannot_be_removed_is_told(tmp_path: Path, spool: Path) -> None:
    """A file that no recording writes is not ours to remove; without a Redis, files alone are looked at."""
    keys = Keys("kept", "files")
    recorder = Recorder(FileSource(DEMO), tmp_path / "kept", {}, {})
    recorder.event(ended("kept"))
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("not a recording")
    done = await forget(None, keys, [tmp_path])
    assert done.left.files == [tmp_path / "kept"]
    assert (tmp_path / "kept" / "notes.txt").exists()
    assert not (await forget(None, Keys("etc", "files"), [tmp_path])).removed
    assert (tmp_path / "etc" / "passwd").exists()


async def test_age_counts_from_the_last_event_or_file(redis_url: str, tmp_path: Path, spool: Path) -> None:
    prefix = f"age-{secrets.token_hex(3)}"
    now = time.time()
    for name in ("old", "new", "old-but-active"):
        Recorder(FileSource(DEMO), tmp_path / name, {}, {}).event(ended(name))
    for name in ("old", "old-but-active"):
        for path in (tmp_path / name).iterdir():
            os.utime(path, (now - 90_000, now - 90_000))
    bus = Bus(redis_url, Keys("old-but-active", prefix))
    await bus.register("2020-01-01T00:00:00Z")
    bus.publish(ended("old-but-active"))
    assert await bus.aclose()
    (tmp_path / "not a session").mkdir()
    (tmp_path / "not a session" / "session.json").write_text("{}")
    assert await older_than(redis_url, prefix, [tmp_path], now - 86_400) == ["old"]
    assert await older_than(redis_url, prefix, [tmp_path], now + 60) == ["new", "old", "old-but-active"]
    assert await older_than(None, prefix, [tmp_path], now - 86_400) == ["old", "old-but-active"]


@pytest.mark.integration
async def test_the_append_only_file_is_written_anew(tmp_path: Path) -> None:
    with private_server("--appendonly", "yes", "--dir", str(tmp_path)) as url:
        keys = Keys("private")
        bus = Bus(url, keys)
        await bus.register("2026-01-01T00:00:00Z")
        bus.publish(started("private", consent="xylophone"))
        assert await bus.aclose()
        await asyncio.sleep(1.2)  # it is written every second

        def on_disk() -> bool:
            found = b""
            for path in tmp_path.rglob("*"):
                with suppress(OSError):  # a folder, or gone meanwhile
                    found += path.read_bytes()
            return b"xylophone" in found

        assert on_disk()
        assert not (await forget(url, keys)).left
        assert await rewrite_log(url) == 1
        async with asyncio.timeout(20):
            while on_disk():
                await asyncio.sleep(0.1)


def test_traces_are_told_line_by_line() -> None:
    traces = Traces(keys=["k"], entries={"u:alerts": ["1-0", "2-0"]}, files=[Path("/x")])
    assert traces and traces.lines() == ["k", "u:alerts 1-0", "u:alerts 2-0", "/x"]
    assert not Traces()


@pytest.mark.parametrize("command", ["unlink", "hdel", "xdel", "scan", "set"])
async def test_who_may_not_erase_hears_so_before_anything_is_erased(redis_url: str, command: str) -> None:
    admin, name, prefix = sync_redis.Redis.from_url(redis_url), secrets.token_hex(4), f"refuse-{secrets.token_hex(3)}"
    admin.acl_setuser(name, enabled=True, passwords=["+right"], keys=["*"], commands=["+@all", f"-{command}"])
    await check_erasing(redis_url, prefix)
    with pytest.raises(BusError, match=f"lets us erase no sessions: .*'{command}'") as refused:
        await check_erasing(redis_url.replace("//", f"//{name}:right@"), prefix)
    assert "right" not in str(refused.value) and not [*admin.scan_iter(f"{prefix}*")]
    admin.acl_deluser(name)
