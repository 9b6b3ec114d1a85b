from __future__ import annotations

import io
import json
import secrets
from collections.abc import Sequence

import pytest
import redis
from rich.console import Console

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.events import Base, Degraded, Emotion, Lag, Latency, SessionEnded, UtteranceFailed
from tests.support.events import EMOTION
from workers.cli.top import Overview, SessionLoad, look_once, total


def label(session: str, utterance: int, encode: float = 0.1, **changes: object) -> Emotion:
    update = {
        "id": f"{session}:{utterance}:{changes.get('revision', 0)}",
        "session": session,
        "utterance": utterance,
        "audio_end": 2.0 + utterance,
        "latency": Latency(vad=0.5, queue=0, asr=0, encode=encode, graph=0, publish=0),
    }
    return EMOTION.model_copy(update=update | changes)


def rest(session: str) -> list[Base]:
    return [
        UtteranceFailed(
            id=f"{session}:9:failed", session=session, utterance=9, speaker=None, audio_start=1, audio_end=9, reason="x"
        ),
        Lag(id=f"{session}:lag:1", session=session, audio_time=10, seconds=3),
        Lag(id=f"{session}:lag:2", session=session, audio_time=30.5, seconds=2),
        Degraded(id=f"{session}:degraded:1", session=session, audio_time=30, reason="x"),
    ]


def ended(session: str) -> SessionEnded:
    return SessionEnded(
        id=f"{session}:ended", session=session, reason="x", duration=60, utterances=2, failed=0, counts={}
    )


def load_of(events: Sequence[Base]) -> SessionLoad:
    load = SessionLoad(events[0].session)
    for event in events:
        load.event(event)
    return load


def test_a_session_is_summarised() -> None:
    interim = label("s", 3, trigger="interval", latency=None)
    final = label("s", 0, revision=1, final=True, trigger="context", latency=None)
    load = load_of([label("s", 0, 1.0), label("s", 1, 2.0), label("s", 2, 3.0), interim, final, *rest("s")])
    assert load.figures() == {
        "session": "s",
        "media": 30.5,
        "utterances": 4,
        "failed": 1,
        "degraded": 1,
        "worst_lag": 3.0,
        "latency": {"p50": 2.5, "p95": 3.4},
        "slowest_stage": {"stage": "encode", "p50": 2.0, "p95": 2.9},
    }
    assert not load.ended and load_of([ended("s")]).ended
    assert load_of([ended("s")]).figures()["latency"] is None


def test_latencies_are_of_the_last_minute() -> None:
    load = load_of([label("s", n, 9.0 if n < 40 else 0.1) for n in range(100)])
    assert load.figures()["latency"] == {"p50": 0.6, "p95": 0.6}
    assert load.figures()["slowest_stage"]["stage"] == "vad"
    both = total([load, load_of([label("t", 0, 9.0), *rest("t")])]).figures()
    assert (both["utterances"], both["failed"], both["worst_lag"], both["latency"]["p50"]) == (102, 1, 3.0, 0.6)


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


async def publish(url: str, prefix: str, started: str, events: Sequence[Base]) -> None:
    bus = Bus(url, Keys(events[0].session, prefix))
    await bus.register(started)
    for event in events:
        bus.publish(event)
    assert await bus.aclose()


async def test_live_sessions_are_followed_until_they_end(redis_url: str, prefix: str) -> None:
    await publish(redis_url, prefix, "2026-01-01", [label("over", 0), ended("over")])
    await publish(redis_url, prefix, "2026-01-02", [label("old", 0)])
    await publish(redis_url, prefix, "2026-01-03", [label("new", n) for n in range(1200)])
    overview = Overview(redis_url, prefix)
    await overview.refresh()
    assert [(load.session, load.utterances) for load in overview.loads.values()] == [("old", 1), ("new", 1200)]
    assert all(0 <= age < 20 for age in overview.ages.values())
    await publish(redis_url, prefix, "2026-01-02", [label("old", 1), *rest("old")])
    await publish(redis_url, prefix, "2026-01-03", [ended("new")])
    await overview.refresh()
    assert [(load.session, load.utterances) for load in overview.loads.values()] == [("old", 3)]
    redis.Redis.from_url(redis_url).hdel(Keys("old", prefix).directory, "old")
    await overview.refresh()
    assert overview.loads == {} and json.loads(overview.as_json())["sessions"] == []
    await overview.aclose()


async def test_table_and_json_say_the_same(redis_url: str, prefix: str) -> None:
    await publish(redis_url, prefix, "2026-01-01", [label("one", 0, 1.0), *rest("one")])
    await publish(redis_url, prefix, "2026-01-02", [label("two", 0, 3.0)])
    overview = await look_once(redis_url, prefix)
    screen = io.StringIO()
    Console(file=screen, width=140).print(overview.table())
    lines = screen.getvalue().splitlines()
    assert " ".join(lines[0].split()) == (
        "session age media utterances failed p50 p95 slowest stage worst lag degraded"
    )
    assert "two" in lines[1] and "3.50 s" in lines[1] and "encode 3.00 3.00" in lines[1], "the newest first"
    assert "one" in lines[2] and "0:30.5" in lines[2] and "3.0 s" in lines[2]
    assert "2 live" in lines[3]
    said = json.loads(overview.as_json())
    assert [load["session"] for load in said["sessions"]] == ["one", "two"]
    assert said["total"]["utterances"] == 3 and said["sessions"][1]["latency"]["p50"] == 3.5
    assert overview.table(rows=1).row_count == 1
