"""The listener in a LiveKit room, at a gateway that is a stub.

Tracks, streams and frames are LiveKit's own, with its native library; the room is made up.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from tests.support.agents import importing
from tests.support.events import ended, label
from tests.support.rooms import MadeUpRoom, Person, Publication
from tests.support.stub_gateway import StubGateway
from workers.api import remote
from workers.api.remote import GatewayError

with importing("livekit"):
    from livekit import rtc
    from undertone.livekit import ATTRIBUTE, TOPIC, listen


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(remote, "QUIET_S", 0.1)
    monkeypatch.setattr(remote, "END_S", 0.1)


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    async with StubGateway().serving() as stub:
        yield stub


async def loud(gateway: StubGateway, session: str, track: int, level: int) -> None:
    """Wait until a track has had samples of about that level."""
    deadline = asyncio.get_running_loop().time() + 10
    while asyncio.get_running_loop().time() < deadline:
        samples = np.frombuffer(
            bytes(gateway.heard[session, track][: len(gateway.heard[session, track]) // 2 * 2]), "<i2"
        )
        if len(samples) and 0.8 * level < np.abs(samples.astype(int)).max() < 1.2 * level:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"track {track}: nothing of {level}")


async def test_each_participant_has_a_track_and_the_room_is_told(gateway: StubGateway) -> None:
    """Who is there when it begins has a track by name; who comes later takes a place, and the event says who it is."""
    ann, ben, bot = Person("ann"), Person("ben"), Person("bot", kind=rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)
    ann.publications.append(Publication("screen", source=rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO))
    room = MadeUpRoom(ann, bot)
    room.subscribe(ann, ann.publications[0])
    events = listen(
        room, gateway.url, consent="all agreed", places=3, publish=("data", "attributes"), settings={"id": "room"}
    )  # type: ignore[arg-type]

    async def talk() -> None:
        while not gateway.requests:
            await asyncio.sleep(0.01)
        room.come(ben)
        await asyncio.gather(
            ann.publications[0].speak(8_000), ann.publications[1].speak(20_000), ben.publications[0].speak(4_000),
            loud(gateway, "room", 0, 8_000), loud(gateway, "room", 1, 4_000),
        )  # fmt: skip
        await gateway.publish(label("room", 0, speaker="ann"), label("room", 1, speaker="place 2"))
        await asyncio.sleep(0.2)
        room.is_left = True
        await gateway.publish(label("room", 2, speaker="ann"))
        await asyncio.sleep(0.2)
        room.emit("disconnected", 0)
        while len(gateway.closed) < 3:
            await asyncio.sleep(0.01)
        await gateway.publish(ended("room"))

    talking = asyncio.create_task(talk())
    async with aclosing(events):
        told = [(event.type, getattr(event, "speaker", None)) async for event in events]
    await talking
    assert told == [("emotion", "ann"), ("emotion", "ben"), ("emotion", "ann"), ("session.ended", None)]
    assert gateway.requests[0]["source"]["tracks"] == [{"name": "ann"}, {"name": "place 2"}, {"name": "place 3"}]
    assert [(topic, json.loads(payload)["speaker"]) for topic, payload in room.packets] == [
        (TOPIC, "ann"),
        (TOPIC, "ben"),
    ]
    assert room.attributes == {ATTRIBUTE + "ann": "joy", ATTRIBUTE + "ben": "joy"}
    assert not bot.publications[0].subscribed and not ann.publications[1].subscribed


async def test_leaving_the_loop_stops_the_session(gateway: StubGateway) -> None:
    """A participant who comes back with another microphone goes on where the first was."""
    ann = Person("ann")
    room = MadeUpRoom()
    events = listen(room, gateway.url, consent="all agreed", places=1, settings={"id": "room"})  # type: ignore[arg-type]
    first = asyncio.ensure_future(anext(events))
    while not gateway.requests:
        await asyncio.sleep(0.01)
    room.come(ann)
    await asyncio.gather(ann.publications[0].speak(3_000), loud(gateway, "room", 0, 3_000))
    room.emit("track_unsubscribed", ann.publications[0].track, ann.publications[0], ann)
    again = Publication("other")
    room.come(Person("ann", [again]))
    await asyncio.gather(again.speak(12_000), loud(gateway, "room", 0, 12_000))
    await gateway.publish(label("room", 0, speaker="place 1"))
    assert (await first).speaker == "ann"
    await events.aclose()
    assert gateway.stopped == ["room"] and not any(room._events.values())


async def test_a_refusal_ends_it(gateway: StubGateway) -> None:
    gateway.refusal = (403, "token desk lacks the scope ingest")
    with pytest.raises(GatewayError, match="lacks the scope ingest"):
        async for _ in listen(MadeUpRoom(), gateway.url, consent="all agreed"):  # type: ignore[arg-type]
            pass


def test_without_livekit_a_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "undertone.livekit")
    monkeypatch.setitem(sys.modules, "livekit", None)
    with pytest.raises(ImportError, match=r"^undertone\.livekit needs LiveKit .*: pip install livekit$"):
        importlib.import_module("undertone.livekit")
