"""Receiving, alone and in groups, against a real Redis."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import redis as sync_redis
from redis.exceptions import AuthenticationError

import stream
from stream.bus.alert_rules import AlertMonitor, Rule
from stream.bus.directory import overview
from stream.bus.keys import Keys
from stream.bus.subscriber import consume_all, history
from stream.clock import VirtualClock
from stream.events import Event
from tests.support.buses import ids, publish
from tests.support.events import ended, label
from tests.support.gateways import free_port
from tests.support.redis_servers import private_server
from workers.cli.top import look_once


@pytest.fixture
def session() -> str:
    return f"client-{secrets.token_hex(4)}"


async def test_goes_on_after_an_event_id(redis_url: str, session: str) -> None:
    await publish(redis_url, session, 1200)
    rest = [event async for event in stream.subscribe(redis_url, session, after=f"{session}:notice:1197")]
    assert ids(rest) == ["notice:1198", "notice:1199", "ended"]
    early = [event async for event in stream.subscribe(redis_url, session, after=f"{session}:notice:3")]
    assert len(early) == 1197
    unknown = [event async for event in stream.subscribe(redis_url, session, after="gone")]
    assert len(unknown) == 1201


async def test_an_event_sent_twice_comes_once(redis_url: str, session: str) -> None:
    """A publisher that does not hear Redis's answer sends again."""
    await publish(redis_url, session, 3, end=False)
    await publish(redis_url, session, 5)
    assert ids([event async for event in stream.subscribe(redis_url, session)]) == [
        *(f"notice:{n}" for n in range(5)), "ended",
    ]  # fmt: skip


def test_without_an_event_loop(redis_url: str, session: str) -> None:
    asyncio.run(publish(redis_url, session, 2))
    assert ids(list(stream.subscribe_sync(redis_url, session))) == ["notice:0", "notice:1", "ended"]


@pytest.mark.integration
async def test_a_wrong_password_is_said_at_once() -> None:
    with private_server("--requirepass", "right") as url, pytest.raises(AuthenticationError):
        await anext(stream.subscribe(url, "any"))


@pytest.mark.integration
async def test_a_restarted_redis_is_found_again(session: str) -> None:
    with private_server() as url:
        events = stream.subscribe(url, session, clock=VirtualClock())
        await publish(url, session, 2, end=False)
        assert ids([await anext(events), await anext(events)]) == ["notice:0", "notice:1"]
        sync_redis.Redis.from_url(url).client_kill_filter(_type="normal", skipme=True)
        await publish(url, session, 4)
        assert ids([event async for event in events]) == ["notice:2", "notice:3", "ended"]


def readers(url: str, session: str, clock: VirtualClock, wait: float | None = 30.0) -> list[AsyncGenerator[Event]]:
    return [
        stream.subscribe(url, session, wait=wait, clock=clock),
        stream.consume(url, session, "team", "me", wait=wait, clock=clock),
    ]


async def test_a_mistyped_session_is_not_waited_for_for_ever(redis_url: str, session: str) -> None:
    clock = VirtualClock()
    for number, events in enumerate(readers(redis_url, session, clock), 1):
        with pytest.raises(stream.SessionNotFound, match=f"no session '{session}' in the Redis at .* within 30 s"):
            await asyncio.wait_for(anext(events), 20)
        assert 30.0 * number <= clock.now() < 30.0 * number + 1


def test_a_mistyped_session_ends_a_program_without_an_event_loop(redis_url: str, session: str) -> None:
    with pytest.raises(stream.SessionNotFound):
        next(stream.subscribe_sync(redis_url, session, wait=0))


async def test_a_redis_that_is_not_there_is_logged_once_and_said(
    session: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, clock = f"redis://someone:secret@127.0.0.1:{free_port()}/0", VirtualClock()
    for events in readers(url, session, clock):
        caplog.clear()
        with pytest.raises(stream.BusError, match="no Redis answers at redis://…@127.0.0.1") as raised:
            await asyncio.wait_for(anext(events), 20)
        assert not isinstance(raised.value, stream.SessionNotFound)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "asking again" in caplog.text and "secret" not in caplog.text + str(raised.value)


@pytest.mark.parametrize("way", ["subscribe", "consume", "follow"])
async def test_who_waits_for_ever_says_so(way: str, session: str, caplog: pytest.LogCaptureFixture) -> None:
    url, clock = f"redis://127.0.0.1:{free_port()}/0", VirtualClock()
    events = [*readers(url, session, clock, None), stream.follow(url, clock=clock)]
    waiting = asyncio.create_task(anext(events[["subscribe", "consume", "follow"].index(way)]))
    async with asyncio.timeout(20):
        while clock.now() < 600:
            await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()
    assert 2 <= len(caplog.records) <= clock.now() / 60 + 1 and "and 5 times more" in caplog.records[1].getMessage()


async def test_a_session_that_begins_in_time_is_read(redis_url: str, session: str) -> None:
    coming = [asyncio.create_task(anext(events)) for events in readers(redis_url, session, VirtualClock(), 1e6)]
    await asyncio.sleep(0.05)
    await publish(redis_url, session, 1)
    assert [ids([await event]) for event in coming] == [["notice:0"]] * 2


async def test_a_group_shares_the_work(redis_url: str, session: str) -> None:
    """Three consumers while a publisher races: every event to exactly one of them, and all of them end."""

    async def work(name: str) -> list[Event]:
        taken = []
        async for event in stream.consume(redis_url, session, "team", name):
            taken.append(event)
            await asyncio.sleep(0)
        return taken

    await publish(redis_url, session, 50, end=False)
    shares = asyncio.gather(*(work(f"consumer-{n}") for n in range(3)))
    await publish(redis_url, session, 300)
    taken = [event.id for share in await asyncio.wait_for(shares, 30) for event in share]
    assert len(taken) >= 301  # those of both publishers, which Redis holds twice
    assert len(set(taken)) == 301


async def test_what_a_consumer_had_not_done_comes_again(
    redis_url: str, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(redis_url, session, 3)
    first = stream.consume(redis_url, session, "team", "mortal")
    assert ids([await anext(first)]) == ["notice:0"]
    await first.aclose()  # dies before it is done with it
    again = stream.consume(redis_url, session, "team", "mortal")
    assert ids([await anext(again)]) == ["notice:0"]
    await again.aclose()
    monkeypatch.setattr("stream.bus.subscriber.CLAIM_IDLE_S", 0.05)
    await asyncio.sleep(0.1)
    heir = [event async for event in stream.consume(redis_url, session, "team", "heir")]
    assert sorted(ids(heir)) == ["ended", "notice:0", "notice:1", "notice:2"]


def spoilt(session: str) -> list[dict[str, str]]:
    """Entries that are no events, beginning with a label whose emotion is not among its probabilities."""
    odd = label(session, 0, emotion="anger").model_dump(by_alias=True)
    lost = ended(session).model_dump(by_alias=True) | {"counts": {"lost_audio_ms": -1}}
    other = ended(f"{session}-other").model_dump(by_alias=True)
    made = [{"id": each["id"], "type": each["type"], "event": json.dumps(each)} for each in (odd, lost, other)]
    return [*made, {"event": "{"}, {"x": "y"}]


@pytest.mark.integration
async def test_one_bad_event_ends_no_consumer(session: str) -> None:
    """Each way to read goes on behind it, and at the next start as well."""
    with private_server() as url:
        await publish(url, session, 1, end=False)
        for fields in spoilt(session):
            entry: Any = fields
            sync_redis.Redis.from_url(url).xadd(Keys(session).events, entry)
        await publish(url, session, 2)
        expected = ["notice:0", "notice:1", "ended"]
        rules = AlertMonitor([Rule(name="angry", emotion="anger")])
        for start in range(2):
            assert ids([event async for event in stream.subscribe(url, session)]) == expected
            group = f"team-{start}"
            assert sorted(set(ids([event async for event in stream.consume(url, session, group, "me")]))) == sorted(
                expected
            )
            assert ids(await history(url, session)) == expected
            for events in (stream.follow(url), consume_all(url, f"metrics-{start}", "one")):
                told = [await asyncio.wait_for(anext(events), 5)]
                while told[-1].type != "session.ended":
                    told.append(await asyncio.wait_for(anext(events), 5))
                await events.aclose()
                assert list(dict.fromkeys(ids(told))) == expected
                assert not [alert for event in told for alert in rules.alerts_for(event)]
            assert (await overview(url))[0].state == "ended"
            assert not (await look_once(url, "undertone")).loads
        sync_redis.Redis.from_url(url).set(Keys(session).alive, "no heartbeat")
        assert (await overview(url))[0].state == "ended"


@pytest.mark.integration
async def test_all_sessions_also_those_to_come(session: str) -> None:
    with private_server() as url:
        await publish(url, f"{session}-a", 2)
        events, shared = stream.follow(url), consume_all(url, "metrics", "one")
        seen = [await asyncio.wait_for(anext(events), 5) for _ in range(3)]
        counted = [await asyncio.wait_for(anext(shared), 5) for _ in range(3)]
        await publish(url, f"{session}-b", 2)
        seen += [await asyncio.wait_for(anext(events), 5) for _ in range(3)]
        counted += [await asyncio.wait_for(anext(shared), 5) for _ in range(3)]
        for got in (seen, counted):
            assert ids(got) == ["notice:0", "notice:1", "ended"] * 2
            assert [event.session[-1] for event in got] == ["a"] * 3 + ["b"] * 3
        await events.aclose()
        await shared.aclose()
