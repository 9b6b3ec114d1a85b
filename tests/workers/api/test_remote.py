"""A session at a gateway, for a program that has the sound: a gateway that is well, away, refuses, forgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from stream.events import Event, SessionEnded
from stream.sources.pushed import SAMPLE_RATES
from tests.support.events import ended, label
from tests.support.stub_gateway import StubGateway
from workers.api import remote
from workers.api.remote import GatewayError, GatewaySession
from workers.cluster import request
from workers.errors import UsageError

TOKEN = "t0ken"  # noqa: S105
LAST = b"\x07\x08" * 160
TONE = b"\x01\x02" * 160  # 10 ms


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(remote, "QUIET_S", 0.1)
    monkeypatch.setattr(remote, "GRACE_S", 0.2)
    monkeypatch.setattr(remote, "END_S", 0.1)


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    async with StubGateway().serving() as stub:
        yield stub


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        await asyncio.sleep(0.01)


def of(session: str, number: int, speaker: str) -> Event:
    return label(session, number, id=f"{session}:{number}:0", speaker=speaker)


async def test_sound_goes_to_its_track_and_events_come_back(gateway: StubGateway) -> None:
    """A track whose participant is quiet is sent silence; the end of the sound ends all tracks."""
    problems: list[str] = []
    session = GatewaySession(
        gateway.url, ["Ann", "Ben"], consent="both agreed", token=TOKEN, settings={"id": "call", "language": "en"},
        on_problem=problems.append,
    )  # fmt: skip
    async with session:
        await until(lambda: len(gateway.heard) == 0 and session.session)
        for _ in range(5):
            assert session.send("Ann", TONE)
        await until(lambda: TONE * 5 in gateway.heard["call", 0] and len(gateway.heard["call", 1]) > 4_000)
        assert not any(gateway.heard["call", 1])
        await gateway.publish(of("call", 0, "Ann"))
        first = await anext(session)
        assert first.type == "emotion" and first.speaker == "Ann"
        session.end()
        await until(lambda: sorted(gateway.closed) == [(0, 1000), (1, 1000)])
        assert session.send("Ann", TONE), "what comes after the end is nobody's fault"
        await gateway.publish(ended("call"))
        assert [event.type async for event in session] == ["session.ended"]
    (asked,) = gateway.requests
    assert asked["source"] == {"kind": "push", "tracks": [{"name": "Ann"}, {"name": "Ben"}]}
    assert asked["consent"] == "both agreed" and asked["language"] == "en"
    assert gateway.authorization == [f"Bearer {TOKEN}"] and not gateway.stopped and not problems


async def test_leaving_stops_the_session(gateway: StubGateway) -> None:
    async with GatewaySession(gateway.url, ["Ann"], consent="Ann agreed") as session:
        await until(lambda: session.session)
    assert gateway.stopped == [session.session]


async def test_places_are_given_to_who_comes_and_events_have_their_names(gateway: StubGateway) -> None:
    problems: list[str] = []
    session = GatewaySession(gateway.url, ["Ann", "a\nb"], places=1, consent="all agreed", on_problem=problems.append)
    async with session:
        assert session.send("Ben", TONE) and session.send("a\nb", TONE)
        assert not session.send("Cem", TONE) and not session.send("Cem", TONE)
        await until(lambda: session.session)
        names = [track["name"] for track in gateway.requests[0]["source"]["tracks"]]
        assert names == ["Ann", "place 2", "place 3"]
        assert session.session
        await gateway.publish(of(session.session, 0, "place 3"), of(session.session, 1, "place 2"))
        assert [(await anext(session)).speaker for _ in range(2)] == ["Ben", "a\nb"]
    assert problems == ["no place for 'Cem', who is not analysed: declare more places"]


async def test_one_microphone_for_all(gateway: StubGateway) -> None:
    async with GatewaySession(gateway.url, consent="all agreed") as session:
        assert session.send("Ann", TONE) and session.send("Ben", TONE)
        await until(lambda: session.session and TONE * 2 in gateway.heard[session.session, 0])
    assert gateway.requests[0]["source"]["tracks"] == [{}]


async def test_a_gateway_that_is_away_is_told_once_and_tried_again() -> None:
    """What waits for it is bounded."""
    problems: list[str] = []
    stub = StubGateway()
    session = GatewaySession(stub.url, ["Ann"], consent="Ann agreed", on_problem=problems.append)
    async with session:
        for _ in range(500):
            session.send("Ann", TONE)
        session.send("Ann", TONE * 300 + LAST)
        await asyncio.sleep(0.3)
        assert problems == [f"the gateway at {stub.url} does not answer; trying again"]
        async with stub.serving():
            await until(lambda: session.session and stub.heard[session.session, 0])
            await until(lambda: LAST in stub.heard[session.session or "", 0])
            sound = stub.heard[session.session, 0].partition(LAST)[0].lstrip(b"\0")
            assert len(sound) + len(LAST) == 2 * 16_000 * remote.MAX_WAITING_S
            await stub.drop()
            await until(lambda: len(stub.readers) == 2)
    assert len(set(problems)) == 1


@pytest.mark.parametrize("status", [401, 403, 409, 422])
async def test_a_refusal_is_told_and_not_tried_again(gateway: StubGateway, status: int) -> None:
    problems: list[str] = []
    gateway.refusal = (status, "not so\nhere")
    async with GatewaySession(gateway.url, ["Ann"], consent="Ann agreed", on_problem=problems.append) as session:
        with pytest.raises(GatewayError, match=r"the gateway refuses: not so\\nhere"):
            await anext(session)
        with pytest.raises(GatewayError):
            await anext(session)
    assert problems == ["the gateway refuses: not so\\nhere"]


async def test_a_gateway_without_room_is_tried_again(gateway: StubGateway) -> None:
    gateway.refusal = (429, "too many sessions")
    async with GatewaySession(gateway.url, ["Ann"], consent="Ann agreed") as session:
        await asyncio.sleep(0.1)
        gateway.refusal = None
        await until(lambda: session.session)


async def test_reading_goes_on_behind_the_last_event(gateway: StubGateway) -> None:
    async with GatewaySession(gateway.url, ["Ann"], consent="Ann agreed", settings={"id": "s"}) as session:
        await until(lambda: session.session)
        await gateway.publish(of("s", 0, "Ann"), of("s", 1, "Ann"))
        got = [(await anext(session)).id for _ in range(2)]
        await gateway.drop()
        await gateway.publish(of("s", 2, "Ann"), ended("s"))
        got += [event.id async for event in session]
        assert got == ["s:0:0", "s:1:0", "s:2:0", "s:ended"]
    assert gateway.readers[:2] == ["", "s:1:0"] and len(gateway.requests) == 1


async def test_a_track_that_is_refused_is_told_once(gateway: StubGateway) -> None:
    problems: list[str] = []
    gateway.track_refusal = "Ann: 8 connections of this track are waiting already"
    async with GatewaySession(gateway.url, ["Ann"], consent="Ann agreed", on_problem=problems.append) as session:
        await asyncio.sleep(0.3)
        gateway.track_refusal = None
        await until(lambda: session.session and gateway.heard[session.session, 0])
    assert problems == ["track 0: Ann: 8 connections of this track are waiting already; trying again"]


async def test_names_of_places_are_nobody_elses(gateway: StubGateway) -> None:
    async with GatewaySession(gateway.url, ["place 2"], places=1, consent="all agreed") as session:
        await until(lambda: session.session)
    assert gateway.requests[0]["source"]["tracks"] == [{"name": "place 2"}, {"name": "place 2'"}]


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_session_that_is_lost_is_followed_by_another(gateway: StubGateway, is_told: bool) -> None:
    """Its gateway was killed with all that it ran: the next one may tell its end, or know nothing of it."""
    problems: list[str] = []
    session = GatewaySession(
        gateway.url, ["Ann"], consent="Ann agreed", settings={"id": "s"}, on_problem=problems.append
    )
    async with session:
        await until(lambda: gateway.heard["s", 0])
        if is_told:
            end = ended("s")
            assert isinstance(end, SessionEnded)
            await gateway.publish(end.model_copy(update={"reason": "error: its process is gone"}))
            assert (await anext(session)).type == "session.ended"
        else:
            gateway.lose("s")
            await gateway.drop()
        await until(lambda: session.session == "s-2" and gateway.heard["s-2", 0])
        await gateway.publish(of("s-2", 0, "Ann"))
        assert (await anext(session)).session == "s-2"
    assert "the gateway has lost the session; another one is started" in problems


def test_what_is_wrong_is_told_at_once() -> None:
    good = {"url": "http://127.0.0.1:1", "consent": "all agreed"}
    for wrong, told in [
        ({"url": "127.0.0.1:8765"}, "url: that of a gateway"), ({"consent": " "}, "who agreed"),
        ({"places": 17}, "16 together at most"), ({"participants": ["a", "a"]}, "each name once"),
        ({"rate": 100}, "8000 to 96000 Hz"),
    ]:  # fmt: skip
        with pytest.raises(UsageError, match=told):
            GatewaySession(**(good | wrong))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not whole samples"):
        GatewaySession(**good).send("a", b"abc")


def test_its_limits_are_the_gateways() -> None:
    """Written twice, because importing them would bring Ray and FFmpeg."""
    assert request.MAX_TRACKS == remote.MAX_TRACKS and remote.RATES == SAMPLE_RATES
