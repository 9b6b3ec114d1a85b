"""Thousands of sessions over one connection, and what was removed before it was read. Real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis

import stream
from stream.bus.directory import overview
from stream.bus.keys import PREFIX, Keys
from stream.bus.multiplexed import Cursor, Skipped
from stream.bus.publisher import Bus
from stream.bus.subscriber import consume_all, history
from stream.clock import MonotonicClock
from stream.events import Event, EventsMissed
from tests.support.buses import ids, publish
from tests.support.events import ended, label, notice
from tests.support.redis_servers import server
from workers.cli.top import look_once

ENDED = 3_000
pytestmark = pytest.mark.integration


def entry(event: Any) -> Any:
    return {"id": event.id, "type": event.type, "event": event.wire()}


def fill(admin: sync_redis.Redis, count: int) -> None:
    """Sessions that have ended, each with an entry that is no event and with events."""
    for start in range(0, count, 500):
        pipe = admin.pipeline(transaction=False)
        for number in range(start, start + 500):
            session = f"old-{number}"
            pipe.xadd(Keys(session).events, {"event": json.dumps(label(session, 0).model_dump() | {"emotion": "no"})})
            for event in (*(notice(session, n) for n in range(5)), ended(session)):
                pipe.xadd(Keys(session).events, entry(event))
            pipe.hset(f"{PREFIX}:sessions", session, "2026-01-01T00:00:00Z")
        pipe.execute()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with server(tmp_path_factory.mktemp("crowded")) as running:
        fill(running.admin, ENDED)
        yield running


def clients(admin: sync_redis.Redis) -> int:
    """Connections but the one that asks."""
    return len(admin.client_list()) - 1


@pytest.mark.parametrize("way", ["follow", "consume_all"])
async def test_thousands_of_ended_sessions_take_one_connection(
    crowded: Any, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them are told, and the session that goes on is not behind them."""
    session, admin = f"live-{way}", crowded.admin
    await publish(crowded.url, session, 2, end=False)
    before = clients(admin)
    events: AsyncGenerator[Event] = (
        stream.follow(crowded.url) if way == "follow" else consume_all(crowded.url, "metrics", "one")
    )
    started, told, most, live_after = time.monotonic(), 0, 0, 0.0
    seen: set[str] = set()
    while told < ENDED * 6 or not live_after:
        event = await asyncio.wait_for(anext(events), 30)
        told += event.session.startswith("old-")
        if event.session.startswith(("old-", session)):
            seen.add(event.id)
        if event.session == session and not live_after:
            live_after = time.monotonic() - started
        if told % 2_000 == 0:
            most = max(most, clients(admin) - before)
    assert len(seen) == ENDED * 6 + 2
    assert most <= 1
    assert live_after / (time.monotonic() - started) < 0.5
    later = Bus(crowded.url, Keys(session))
    later.publish(notice(session, 2))
    assert (await asyncio.wait_for(anext(events), 5)).id == f"{session}:notice:2"
    assert await later.aclose()
    await events.aclose()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) <= 2, lines[:5]
    assert lines[-1].endswith(f" … and {ENDED - 1} times more")


async def test_named_sessions_are_read_to_their_ends_over_one_connection(crowded: Any) -> None:
    """Whether they are in the directory or not, also one that ends while it is followed; no others are told."""
    admin = crowded.admin
    names = [f"old-{number}" for number in range(0, ENDED, 10)]
    await publish(crowded.url, "goes-on-a-while", 2, end=False)
    admin.hdel(f"{PREFIX}:sessions", "old-0")
    before, most, told = clients(admin), 0, []
    async for event in stream.follow(crowded.url, PREFIX, [*names, "goes-on-a-while"]):
        told.append(event)
        if len(told) % 100 == 0:
            most = max(most, clients(admin) - before)
        if len(told) == len(names) * 6 + 2:
            await publish(crowded.url, "goes-on-a-while", 3)
    assert {event.session for event in told} == {*names, "goes-on-a-while"}
    assert len({event.id for event in told}) == len(told) == len(names) * 6 + 4
    assert most == 1


async def test_the_directory_and_the_load_of_thousands_are_asked_for_at_once(crowded: Any) -> None:
    admin = crowded.admin
    await publish(crowded.url, "goes-on", 1, end=False)
    commands = admin.info("stats")["total_reads_processed"]
    assert {info.state for info in await overview(crowded.url)} == {"ended", "lost"}
    assert "goes-on" in (await look_once(crowded.url, PREFIX)).loads
    assert [info.id for info in await overview(crowded.url, only=["goes-on", "unknown", "?"])] == ["goes-on"]
    packets = admin.info("stats")["total_reads_processed"] - commands
    assert packets < ENDED / 4  # 16 kB each


async def test_a_session_of_an_erased_one_s_name_is_read_anew(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        events = stream.follow(running.url)
        for time_ in ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"):
            bus = Bus(running.url, Keys("one"))
            await bus.register(time_)
            bus.publish(notice("one", 0))
            bus.publish(ended("one"))
            assert await bus.aclose()
            assert ids([await asyncio.wait_for(anext(events), 5) for _ in range(2)]) == ["notice:0", "ended"]
            running.admin.delete(Keys("one").events, f"{PREFIX}:sessions")
            await asyncio.sleep(0.1)
        await events.aclose()


async def test_a_key_of_another_kind_costs_its_session_alone(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        running.admin.set(Keys("odd").events, "text")
        running.admin.hset(f"{PREFIX}:sessions", mapping={"odd": "2027", "expired": "2027", "taken": "2026"})
        await publish(running.url, "good", 1, end=False)
        await publish(running.url, "taken", 1, end=False)
        followed, shared = stream.follow(running.url), consume_all(running.url, "metrics", "one")
        for events in (followed, shared):
            came = [(await asyncio.wait_for(anext(events), 5)).session for _ in range(2)]
            assert sorted(came) == ["good", "taken"]
        running.admin.set(Keys("taken").events, "text")
        running.admin.xgroup_destroy(Keys("good").events, "metrics")
        await publish(running.url, "good", 2)
        for events in (followed, shared):
            assert (await asyncio.wait_for(anext(events), 5)).session == "good"
            await events.aclose()


async def test_the_end_that_another_consumer_received_ends_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.bus.multiplexed.GROUP_POLL_S", 0.0)
    with server(tmp_path) as running:
        await publish(running.url, "one", 1, end=False)
        events = consume_all(running.url, "metrics", "me")
        assert ids([await asyncio.wait_for(anext(events), 5)]) == ["notice:0"]
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0.2)
        pipe = running.admin.pipeline()
        pipe.xadd(Keys("one").events, entry(ended("one")))
        pipe.xreadgroup("metrics", "other", {Keys("one").events: ">"})
        pipe.execute()
        await asyncio.sleep(2.5)
        calls = running.admin.info("commandstats")["cmdstat_xreadgroup"]["calls"]
        await asyncio.sleep(1.5)
        assert running.admin.info("commandstats")["cmdstat_xreadgroup"]["calls"] == calls
        waiting.cancel()
        await asyncio.wait({waiting})
        await events.aclose()


def trim(admin: sync_redis.Redis, session: str, leave: int) -> None:
    admin.xtrim(Keys(session).events, maxlen=leave, approximate=False)


@pytest.mark.parametrize("way", ["subscribe", "follow", "consume", "consume_all"])
async def test_what_was_removed_unread_is_told(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.bus.multiplexed.STALL_S", 0.0)  # else it would be a slow consumer
    with server(tmp_path) as running:
        await publish(running.url, "long", 4, end=False)
        trim(running.admin, "long", 2)
        events: AsyncGenerator[Event] = {
            "subscribe": stream.subscribe(running.url, "long"),
            "follow": stream.follow(running.url),
            "consume": stream.consume(running.url, "long", "team", "me"),
            "consume_all": consume_all(running.url, "metrics", "me"),
        }[way]
        told = [await asyncio.wait_for(anext(events), 5) for _ in range(3)]
        assert isinstance(told[0], EventsMissed) and told[0].count == 2
        assert ids(told[1:]) == ["notice:2", "notice:3"]
        bus = Bus(running.url, Keys("long"))
        for number in range(4, 1_300):
            bus.publish(notice("long", number))
        await bus.flush()
        trim(running.admin, "long", 1_000)
        bus.publish(ended("long"))
        assert await bus.aclose()
        rest = []
        while not rest or rest[-1].type != "session.ended":
            rest.append(await asyncio.wait_for(anext(events), 5))
        missed = [event for event in rest if isinstance(event, EventsMissed)]
        assert [event.count for event in missed] == [296]
        assert ids([event for event in rest if event not in missed]) == [
            *(f"notice:{number}" for number in range(300, 1_300)), "ended",
        ]  # fmt: skip
        await events.aclose()


@pytest.mark.parametrize("way", ["consume", "consume_all"])
async def test_one_of_a_group_tells_what_was_removed_unread(tmp_path: Path, way: str) -> None:
    """Also a consumer that comes later than the gap; what others of the group have read is not missed."""
    with server(tmp_path) as running:
        await publish(running.url, "long", 10, end=False)

        def consumer(name: str) -> AsyncGenerator[Event]:
            return (
                stream.consume(running.url, "long", "team", name)
                if way == "consume"
                else consume_all(running.url, "team", name)
            )

        first = consumer("first")
        taken = [await anext(first)]
        running.admin.xreadgroup("team", "other", {Keys("long").events: ">"}, count=3, noack=True)
        read = running.admin.xinfo_groups(Keys("long").events)[0]["entries-read"]
        await first.aclose()
        for pending in running.admin.xpending_range(Keys("long").events, "team", "-", "+", 1):
            running.admin.xack(Keys("long").events, "team", pending["message_id"])
        await publish(running.url, "long", 20)
        total = running.admin.xlen(Keys("long").events)
        trim(running.admin, "long", 5)
        told: list[Event] = []
        names = [consumer("second"), consumer("third")]
        for each in names:
            for _ in range(6):
                with contextlib.suppress(TimeoutError, StopAsyncIteration):
                    told.append(await asyncio.wait_for(anext(each), 1))
            await each.aclose()
        (gap,) = [event for event in told if isinstance(event, EventsMissed)]
        assert gap.count == total - 5 - read
        assert ids(taken) == ["notice:0"] and ids(told)[-1] == "ended"


async def test_a_group_that_has_read_all_of_a_trimmed_stream_missed_nothing(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        await publish(running.url, "long", 6, end=False)
        events = stream.consume(running.url, "long", "team", "me")
        told = [await anext(events) for _ in range(6)]
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0.2)
        trim(running.admin, "long", 0)
        bus = Bus(running.url, Keys("long"))
        for number in range(6, 9):
            bus.publish(notice("long", number))
        bus.publish(ended("long"))
        assert await bus.aclose()
        told += [await waiting, *[event async for event in events]]
        assert ids(told) == [*(f"notice:{number}" for number in range(9)), "ended"]


async def test_what_was_given_to_a_consumer_and_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can be given it again: neither itself, when it is back, nor its heir."""
    monkeypatch.setattr("stream.bus.subscriber.CLAIM_IDLE_S", 0.01)
    with server(tmp_path) as running:
        for session, heir in (("own", "mortal"), ("other", "heir")):
            await publish(running.url, session, 4)
            mortal = stream.consume(running.url, session, "team", "mortal")
            assert ids([await anext(mortal)]) == ["notice:0"]
            await mortal.aclose()
            trim(running.admin, session, 3)
            await asyncio.sleep(0.1)
            told = [event async for event in stream.consume(running.url, session, "team", heir)]
            # Who is given it by claim cannot know that the other is not at it still.
            counts = [event.count for event in told if isinstance(event, EventsMissed)]
            assert counts == [1 if heir == "mortal" else None, 1]
            assert ids(told)[-3:] == ["notice:2", "notice:3", "ended"]


async def test_a_history_tells_what_was_removed(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        await publish(running.url, "long", 6)
        assert not [event for event in await history(running.url, "long") if isinstance(event, EventsMissed)]
        trim(running.admin, "long", 4)
        told = await history(running.url, "long")
        assert isinstance(told[0], EventsMissed) and told[0].count == 3
        assert ids(told[1:]) == ["notice:3", "notice:4", "notice:5", "ended"]
        assert await history(running.url, "unknown") == []


def test_a_page_without_its_streams_state_is_no_gap() -> None:
    """As while a cluster moves it: XREAD has answered, XINFO has not."""
    cursor = Cursor(Keys("s"), Skipped(MonotonicClock()))
    read = [(f"{n + 1}-0", {"event": notice("s", n).wire()}) for n in range(4)]
    events = []
    for number, (position, _) in enumerate(read):
        info = {"entries-added": number + 1, "last-generated-id": position, "first-entry": read[0]}
        events += cursor.take([read[number]], None if number in (1, 2) else info)
    assert ids(events) == [f"notice:{n}" for n in range(4)]


async def test_who_continues_after_a_removed_event_is_told(tmp_path: Path) -> None:
    """And behind what it was told the reading continues as behind an event."""
    with server(tmp_path) as running:
        await publish(running.url, "long", 5)
        await publish(running.url, "whole", 2)
        trim(running.admin, "long", 3)
        told = [event async for event in stream.subscribe(running.url, "long", after="long:notice:0")]
        assert isinstance(told[0], EventsMissed) and told[0].count == 3
        assert ids(told[1:]) == ["notice:3", "notice:4", "ended"]
        again = [event async for event in stream.subscribe(running.url, "long", after=told[0].id)]
        assert again == told[1:]
        for after in ("long:missed:0-0", "long:missed:x", "long:missed:999-0"):
            assert ids([event async for event in stream.subscribe(running.url, "long", after=after)])[-1] == "ended"
        after_known = [event async for event in stream.subscribe(running.url, "long", after="long:notice:3")]
        assert ids(after_known) == ["notice:4", "ended"]
        unknown = [event async for event in stream.subscribe(running.url, "whole", after="whole:gone")]
        assert ids(unknown) == ["notice:0", "notice:1", "ended"]
