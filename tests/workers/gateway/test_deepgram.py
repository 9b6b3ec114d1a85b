"""Deepgram's streaming interface at a real gateway, with a session that is made up."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import websockets

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.errors import MediaError
from tests.support.events import ended, label, partial
from tests.support.gateway_here import Door, door
from workers.gateway import deepgram
from workers.gateway.access import Refused

PCM = "encoding=linear16&sample_rate=16000"


class MadeUp:
    """A session that begins at once, keeps what it is sent, publishes what it is told to, and ends with its tracks."""

    def __init__(self, redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.id = f"made-{secrets.token_hex(4)}"
        self.options: Any = None
        self.tracks: list[bytearray] = []
        self.formats: list[tuple[str, int]] = []
        self.is_final: bool | None = None
        self.fails_with: Exception | None = None
        self.ready = asyncio.Event()
        self.ready.set()
        self._bus = Bus(redis, Keys(self.id))
        monkeypatch.setattr(deepgram, "begin", self._begin)
        monkeypatch.setattr(deepgram, "find_session", lambda session: self)

    def __getattr__(self, name: str) -> Any:
        called = object.__getattribute__(self, f"_{name}")
        return SimpleNamespace(remote=lambda *arguments: asyncio.ensure_future(called(*arguments)))

    async def publish(self, *events: Any) -> None:
        await self._bus.register("2026-01-01T00:00:00Z")
        for event in events:
            self._bus.publish(event)

    async def _begin(self, state: Any, options: Any, source: Any, token: Any) -> Any:
        self.options = options
        self.tracks = [bytearray() for _ in source.tracks]
        await self.ready.wait()
        if isinstance(self.fails_with, Refused):
            raise self.fails_with
        return SimpleNamespace(id=self.id)

    async def _attach(self, track: int, connection: str, format: str, rate: int) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.formats.append((format, rate))

    async def _push(self, track: int, connection: str, piece: bytes) -> None:
        self.tracks[track] += piece

    async def _watch(self, track: int, connection: str) -> None:
        await asyncio.Event().wait()

    async def _began(self, track: int) -> float:
        return 0.25

    async def _detach(self, track: int, connection: str, over: bool) -> None:
        if over and self.is_final is None:
            self.is_final = over
            await self.publish(ended(self.id))
            assert await self._bus.aclose()


def client(gateway: Door, query: str = PCM, **options: Any) -> websockets.connect:
    """A connection, with the token as Deepgram's libraries send it."""
    secret = gateway.client.headers["Authorization"].removeprefix("Bearer ")
    address = str(gateway.client.base_url).replace("http", "ws", 1).rstrip("/")
    headers = {"Authorization": f"Token {secret}"} | options.pop("headers", {})
    return websockets.connect(f"{address}/v1/listen?{query}", additional_headers=headers, **options)


async def refused(gateway: Door, query: str = PCM, **options: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with client(gateway, query, **options):
            pass
    response = refusal.value.response
    said = json.loads(response.body or b"")
    assert response.headers["dg-request-id"] == said["request_id"] and "\n" not in said["err_msg"]
    return response.status_code, said


async def rest(socket: websockets.ClientConnection) -> list[dict[str, Any]]:
    messages = []
    with suppress(websockets.ConnectionClosed):
        while True:
            messages.append(json.loads(await asyncio.wait_for(socket.recv(), 20)))
    return messages


async def test_a_conversation(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = MadeUp(redis_url, monkeypatch)
    async with door(redis_url, scopes=["ingest"]) as gateway:
        query = f"{PCM}&model=nova-3&interim_results=true&consent=both+agreed&language=en-US&undertone=true"
        async with client(gateway, query) as socket:
            await socket.send(b"\1\0" * 8000)
            for text in ('{"type": "KeepAlive"}', "no JSON", "[]", '{"type": "Configure"}', '{"type": "Finalize"}'):
                await socket.send(text)
            await socket.send(b"\2\0" * 8000)
            told = [json.loads(await socket.recv()) for _ in range(3)]
            assert [each["type"] for each in told] == ["Error", "Error", "ConfigureFailure"]
            assert told[0]["variant"] == "SchemaError" and told[0]["message"] == "no JSON"
            later = label(session.id, 0, revision=1, trigger="context")
            await session.publish(partial(session.id, 0, "Hi", ""), label(session.id, 0), later)
            said = [json.loads(await socket.recv()) for _ in range(3)]
            assert [each["type"] for each in said] == ["Results", "Results", "undertone.Revision"]
            assert [each["is_final"] for each in said[:2]] == [False, True] and said[1]["from_finalize"]
            assert said[0]["start"] == 0.75 and said[1]["undertone"]["session"] == session.id
            await socket.send('{"type": "CloseStream"}')
            await socket.send(b"\3\0")  # too late
            (last,) = await rest(socket)
    assert socket.close_code == 1000 and last["type"] == "Metadata"
    assert last["duration"] == 1.0 and last["undertone"]["ignored"] == ["model"]
    assert bytes(session.tracks[0]) == b"\1\0" * 8000 + b"\2\0" * 8000 and session.formats == [("pcm", 16_000)]
    assert session.is_final and session.options.consent == "both agreed" and session.options.language == "en"
    assert session.options.interim is None


async def test_what_is_refused_has_a_status_and_a_line(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = MadeUp(redis_url, monkeypatch)
    async with door(redis_url, scopes=["ingest"]) as gateway:
        status, said = await refused(gateway)
        assert status == 400 and "add ?consent=" in said["err_msg"] and "X-Undertone-Consent" in said["err_msg"]
        status, said = await refused(gateway, f"{PCM}&consent=yes", headers={"Authorization": "Token ut_other"})
        assert (status, said["err_code"], said["err_msg"]) == (401, "INVALID_AUTH", "this token is not known")
        status, said = await refused(gateway, f"{PCM}&consent=yes", headers={"Authorization": "Basic eHg="})
        assert (status, said["err_msg"]) == (401, "a valid bearer token is needed")
        status, said = await refused(gateway, "encoding=mp3&consent=yes")
        assert (status, said["err_code"]) == (400, "INVALID_QUERY_PARAMETER")
        status, said = await refused(gateway, f"{PCM}&consent=no")
        assert status == 400 and said["err_msg"].startswith("consent: ")
        session.fails_with = Refused(429, "at most 4 sessions at once", 10)
        status, said = await refused(gateway, f"{PCM}&consent=yes")
        assert (status, said["err_msg"]) == (429, "at most 4 sessions at once")
    async with door(redis_url, scopes=["read"]) as gateway:
        status, said = await refused(gateway, f"{PCM}&consent=yes")
        assert status == 403 and said["err_msg"].endswith("lacks the scope ingest")
        assert gateway.state.open_connections.total() == 0


async def test_consent_is_stated_by_the_header_or_for_the_token(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limits, headers, consent in (
        ({"consent": "signed at the desk"}, {}, "signed at the desk"),
        ({"consent": "signed at the desk"}, {"X-Undertone-Consent": "both said yes"}, "both said yes"),
        ({}, {"X-Undertone-Consent": "both said yes"}, "both said yes"),
    ):
        session = MadeUp(redis_url, monkeypatch)
        async with door(redis_url, scopes=["ingest"], **limits) as gateway, client(gateway, headers=headers) as socket:
            await socket.send(b"")  # as older programs end a stream
            assert (await rest(socket))[-1]["type"] == "Metadata"
        assert session.options.consent == consent and session.options.interim == 0


async def test_a_browser_sends_its_token_as_a_subprotocol(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MadeUp(redis_url, monkeypatch)
    async with door(redis_url, scopes=["ingest"]) as gateway:
        secret = gateway.client.headers["Authorization"].removeprefix("Bearer ")
        address = str(gateway.client.base_url).replace("http", "ws", 1).rstrip("/")
        url = f"{address}/v1/listen?{PCM}&consent=yes"
        async with websockets.connect(url, subprotocols=["token", secret]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "token"
            await socket.send('{"type": "CloseStream"}')
            assert (await rest(socket))[-1]["type"] == "Metadata"
        with pytest.raises(websockets.InvalidStatus) as refusal:
            async with websockets.connect(url, origin="https://example.org"):  # type: ignore[arg-type]
                pass
        assert refusal.value.response.status_code == 403


async def test_a_client_that_leaves_ends_its_session(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = MadeUp(redis_url, monkeypatch)
    async with door(redis_url, scopes=["ingest"]) as gateway:
        async with client(gateway, f"{PCM}&consent=yes") as socket:
            await socket.send(b"\1\0" * 8000)
            await asyncio.sleep(0.2)
            socket.transport.abort()
        async with asyncio.timeout(10):
            while session.is_final is None or gateway.state.ingest_tasks:
                await asyncio.sleep(0.02)
        assert session.is_final and len(session.tracks[0]) == 16_000
        assert gateway.state.open_connections.total() == 0


async def test_each_channel_is_a_track(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = MadeUp(redis_url, monkeypatch)
    query = f"{PCM}&channels=2&multichannel=true&consent=yes"
    async with door(redis_url, scopes=["ingest"]) as gateway, client(gateway, query) as socket:
        await socket.send(b"\1\0\2\0" * 50_000 + b"\1")
        await socket.send(b"\0\2\0")
        await socket.send('{"type": "CloseStream"}')
        (last,) = await rest(socket)
    assert [bytes(track) for track in session.tracks] == [b"\1\0" * 50_001, b"\2\0" * 50_001]
    assert last["channels"] == 2 and last["duration"] == pytest.approx(3.125, abs=0.001)


async def test_a_session_that_starts_slowly_is_waited_for(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is accepted before client libraries give up; sound waits, and a refusal is a message."""
    monkeypatch.setattr(deepgram, "HANDSHAKE_S", 0.05)
    session = MadeUp(redis_url, monkeypatch)
    async with door(redis_url, scopes=["ingest"]) as gateway:
        session.ready.clear()
        async with client(gateway, f"{PCM}&consent=yes") as socket:
            await socket.send(b"\1\0" * 8000)
            await socket.send('{"type": "CloseStream"}')
            session.ready.set()
            assert [each["type"] for each in await rest(socket)] == ["Metadata"]
        assert len(session.tracks[0]) == 16_000
        session.ready.clear()
        session.fails_with = Refused(429, "at most 4 sessions at once", 10)
        async with client(gateway, f"{PCM}&consent=yes") as socket:
            session.ready.set()
            (told,) = await rest(socket)
        assert (told["type"], told["description"]) == ("Error", "at most 4 sessions at once")
        assert (socket.close_code, socket.close_reason) == (1013, "at most 4 sessions at once")


async def test_sound_that_cannot_be_read_is_told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = MadeUp(redis_url, monkeypatch)
    session.fails_with = MediaError("speaker: this is Ogg and no WebM: send WebM or PCM")
    async with door(redis_url, scopes=["ingest"]) as gateway, client(gateway, "consent=yes") as socket:
        told = await rest(socket)
    assert [each["type"] for each in told] == ["Error", "Metadata"] and told[0]["variant"] == "MediaError"
    assert socket.close_code == 1008 and session.is_final


async def test_no_message_of_text_ends_a_connection(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = MadeUp(redis_url, monkeypatch)
    bad = (
        "",
        "x",
        "[" * 50_000,
        "1" * 5000,
        "NaN",
        '"CloseStream"',
        '{"type": ["CloseStream"]}',
        '{"type": "\\ud800"}',
    )
    async with door(redis_url, scopes=["ingest"]) as gateway, client(gateway, f"{PCM}&consent=yes") as socket:
        for text in bad:
            await socket.send(text)
            told = json.loads(await asyncio.wait_for(socket.recv(), 10))
            assert (told["type"], told["variant"], told["message"]) == ("Error", "SchemaError", text[:200])
        await socket.send(b"\1\0" * 800)
        await socket.send('{"type": "CloseStream"}')
        assert [each["type"] for each in await rest(socket)] == ["Metadata"]
    assert len(session.tracks[0]) == 1600
