"""Summaries over REST: a real server and Redis, without Ray."""

from __future__ import annotations

import pytest

from stream.bus import recent as reading
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.recent import recent
from stream.events import Event, SessionEnded
from tests.support.conversations import conversation, emotion, heard, started
from tests.support.gateway_here import door, finished
from workers.gateway import sessions
from workers.gateway.exporting import Exporter


async def published(redis: str, session: str, events: list[Event]) -> None:
    bus = Bus(redis, Keys(session))
    await bus.register("2026-01-01T00:00:00Z")
    for event in events:
        bus.publish(event.model_copy(update={"session": session}))
    assert await bus.aclose()


def long(utterances: int, session_ends: bool = True) -> list[Event]:
    """An utterance every ten seconds."""
    found: list[Event] = [started()]
    for number in range(utterances):
        words = heard(number, "Anna", 10 * number, 10 * number + 5, "well")
        found += [words, emotion(words, 0.1, 0.9, 0.0)]
    end = SessionEnded(
        id="s:ended", session="s", reason="end of source", duration=10 * utterances, utterances=1, failed=0, counts={}
    )
    return [*found, end] if session_ends else found


async def test_a_session_is_summarized_whole_or_its_last_seconds(redis_url: str) -> None:
    await published(redis_url, "talk", conversation())
    async with door(redis_url, scopes=("read",)) as one:
        whole = (await one.client.get("/sessions/talk/summary")).json()
        assert (whole["session"], whole["utterances"], whole["end"]) == ("talk", 7, 20)
        assert [each["name"] for each in whole["speakers"]] == ["Anna", "Ben", "unknown"]
        last = (await one.client.get("/sessions/talk/summary", params={"last": 10})).json()
        assert (last["start"], last["end"], last["utterances"]) == (10, 20, 2)
        assert last["hearing"]["asr"] == "faster-whisper base", "its first event is read as well"
        for wrong in ("0", "-1", "86401", "x"):
            answer = await one.client.get("/sessions/talk/summary", params={"last": wrong})
            assert answer.status_code == 422 and answer.json()["detail"].startswith("last: ")
        absent = await one.client.get("/sessions/absent/summary")
        assert absent.status_code == 404
    async with door(redis_url, scopes=("ingest",)) as one:
        assert (await one.client.get("/sessions/talk/summary")).status_code == 403


async def test_a_session_that_was_silent_has_one_too(redis_url: str) -> None:
    await finished(redis_url, "been")
    async with door(redis_url) as one:
        for last in ({}, {"last": 60}):
            answer = await one.client.get("/sessions/been/summary", params=last)
            assert answer.status_code == 200 and answer.json()["last"] is None and answer.json()["utterances"] == 0


async def test_an_ended_session_costs_once_and_a_forgotten_one_is_gone(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, plain = [], Exporter.summary

    async def counted(self: Exporter, redis: str, session: str, *given):
        made.append(session)
        return await plain(self, redis, session, *given)

    async def no_nodes(*given) -> list[tuple[list, list]]:
        return []

    monkeypatch.setattr(Exporter, "summary", counted)
    monkeypatch.setattr(sessions, "forget_on_nodes", no_nodes)
    await published(redis_url, "over", long(3))
    await published(redis_url, "open", long(3, session_ends=False))
    async with door(redis_url) as one:
        for _ in range(2):
            for session in ("over", "open"):
                assert (await one.client.get(f"/sessions/{session}/summary")).json()["utterances"] == 3
        assert made.count("over") == 1 and made.count("open") == 2
        assert len(one.state.summaries) == 1
        assert (await one.client.delete("/sessions/over/data")).status_code == 200
        assert len(one.state.summaries) == 0
        assert (await one.client.get("/sessions/over/summary")).status_code == 404
        await published(redis_url, "over", long(2))
        assert (await one.client.get("/sessions/over/summary")).json()["utterances"] == 2


async def test_the_last_seconds_are_read_from_the_end(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await published(redis_url, "long", long(1_500))
    events, covered = await recent(redis_url, Keys("long"), 100)
    assert covered == 100 and events[0].type == "session.started" and events[-1].type == "session.ended"
    assert len(events) <= 2 * reading.PAGE_EVENTS, "and no further"
    assert [event.id for event in events] == list(dict.fromkeys(event.id for event in events))
    monkeypatch.setattr(reading, "MAX_RECENT_EVENTS", 500)
    events, covered = await recent(redis_url, Keys("long"), 86_400)
    assert len(events) == 501 and 2_400 < covered < 2_600
    async with door(redis_url) as one:
        found = (await one.client.get("/sessions/long/summary", params={"last": 86_400})).json()
        assert 12_400 < found["start"] < 12_600, "it says what it covers"
