"""The wire, field for field: what clients get of one session of each kind is what tests/golden has.

If a test here fails because the wire is meant to change: `python -m tests.golden`, and read the difference.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.golden import GOLDEN, sessions
from tests.golden.events import HEARD, JUDGED, Json, certain, differences, kinds, read, strange
from tests.golden.sessions import Run, Servers, stored
from tests.support.gateways import gateways


@pytest.fixture(scope="module")
def servers(redis_url: str, ray_address: str) -> Servers:
    return Servers(redis_url, ray_address)


@pytest.fixture(scope="module")
def subscribed(servers: Servers) -> Iterator[tuple[Run, list[str]]]:
    """A recording, and what somebody who subscribed to its channel got. (It also loads the models for the others.)"""
    with redis.Redis.from_url(servers.redis, decode_responses=True) as client, client.pubsub() as channel:
        channel.subscribe("undertone:{wire-file}")
        run = sessions.file(servers)
        published: list[str] = []
        while not published or '"type":"session.ended"' not in published[-1]:
            message = channel.get_message(timeout=30)
            assert message is not None, "the channel is silent"
            if message["type"] == "message":
                published.append(message["data"])
        yield run, published


@pytest.fixture(scope="module")
def live(servers: Servers, subscribed: tuple[Run, list[str]]) -> Iterator[Future[Run]]:
    """A live stream, which takes its time: while others are played."""
    with ThreadPoolExecutor() as beside:
        yield beside.submit(sessions.live, servers)


def golden(kind: str) -> list[Json]:
    return read(GOLDEN / f"{kind}.jsonl")


def assert_certain(events: list[Json], kind: str, least: set[str], loose: Collection[str] = ()) -> None:
    """What is certain is as in the golden file, the rest looks like the examples there, and `least` of it is there."""
    known = golden(kind)
    assert differences(certain(events), certain(known), loose) == []
    assert strange(events, known) == []
    assert least <= kinds(events)


def test_a_recording(subscribed: tuple[Run, list[str]]) -> None:
    assert differences(subscribed[0].events, golden("file")) == []


def test_stream_channel_and_client_have_the_same_payloads(subscribed: tuple[Run, list[str]], servers: Servers) -> None:
    """Character for character, and beside it in the Stream id and type."""
    run, published = subscribed
    entries = [fields for _, fields in stored(servers.redis, "undertone:{wire-file}:events")]
    assert [fields["event"] for fields in entries] == published == run.lines
    assert [set(fields) for fields in entries] == [{"id", "type", "event"}] * len(entries)
    assert [(fields["id"], fields["type"]) for fields in entries] == [(e["id"], e["type"]) for e in run.events]


def test_a_recording_without_words(servers: Servers, live: Future[Run]) -> None:
    run = sessions.redacted(servers)
    assert differences(run.events, golden("redacted")) == []


def test_a_recording_served_over_a_websocket(servers: Servers, live: Future[Run], tmp_path: Path) -> None:
    options = ["--redis", servers.redis, "--ray-address", servers.ray, *sessions.media(tmp_path / "media")]
    with gateways(tmp_path, 1, *options) as (gateway,):
        run = sessions.served(gateway)
    assert differences(run.events, golden("served")) == []


def test_a_live_stream(live: Future[Run]) -> None:
    """Which utterances there are, and which fields; not what is made of a sound that an encoder has been over."""
    assert_certain(live.result().events, "live", {"interval"}, JUDGED | HEARD)


def test_a_session_that_is_killed_and_resumed_and_its_keys(servers: Servers, subscribed: tuple[Run, list[str]]) -> None:
    """Each utterance as in a session that was not, words while somebody talks, and what it has in Redis until its end
    and after."""
    run, keys = sessions.resumed(servers)
    assert_certain(run.events, "resumed", {"utterance.partial", "degraded"})
    assert keys == json.loads((GOLDEN / "keys.json").read_text())
