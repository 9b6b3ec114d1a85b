"""Event streams of the gateway, as server-sent events and WebSockets: a real server and Redis, without Ray."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fastapi import routing
from redis import Redis

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import history
from stream.events import Degraded, Lag
from tests.support.gateway_here import door, finished


async def test_connections_of_a_token_are_limited(redis_url: str) -> None:
    await finished(redis_url, "over")
    async with door(redis_url, connections=2) as one:
        assert await one.closed("/sessions/over/events") == (1000, "")
        assert "session.ended" in (await one.client.get("/sessions/over/events")).text
        assert one.state.open_connections["desk"] == 0
        token = one.state.access.authenticate(one.client.headers["Authorization"].removeprefix("Bearer "))
        with one.state.connected(token), one.state.connected(token):
            reason = "token desk: at most 2 connections at once, and as many are open"
            assert await one.closed("/sessions/over/events") == (1008, reason)
            answer = await one.client.get("/sessions/over/events")
            assert (answer.status_code, answer.json()["detail"]) == (429, reason)
        assert await one.closed("/sessions/over/events") == (1000, "")


async def test_events_as_a_browser_reads_them(redis_url: str) -> None:
    """Id, type and JSON of each event; a refusal comes as JSON before the stream begins."""
    await finished(redis_url, "been")
    async with door(redis_url) as one:
        answer = await one.client.get("/sessions/been/events")
        (ended,) = await history(redis_url, "been")
        lines = {f"id: {ended.id}", "event: session.ended", f"data: {ended.wire()}"}
        assert set(answer.text.removesuffix("\n\n").splitlines()) == lines and answer.text.endswith("\n\n")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        missing = await one.client.get("/sessions/absent/events")
        assert (missing.status_code, missing.json()) == (404, {"detail": "no session 'absent'"})


def readers(redis: str) -> int:
    """Connections to Redis that wait for events."""
    return sum(client["cmd"] == "xread" for client in Redis.from_url(redis).client_list())


async def test_a_quiet_event_stream_lives_until_its_client_or_the_gateway_goes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.2)
    bus = Bus(redis_url, Keys("quiet"))
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(Lag(id="quiet:1", session="quiet", audio_time=1, seconds=2))
    await bus.flush()
    async with door(redis_url) as one:
        async with one.client.stream("GET", "/sessions/quiet/events") as response:
            lines = response.aiter_lines()
            assert "id: quiet:1" in [await anext(lines) for _ in range(3)]
            comments = [await anext(lines) for _ in range(6)]
            assert {line[:1] for line in comments} == {"", ":"} and one.state.open_connections["desk"] == 1
        for _ in range(600):
            if not one.state.open_connections["desk"] and not readers(redis_url):
                break
            await asyncio.sleep(0.05)
        assert not one.state.open_connections["desk"] and not readers(redis_url), "the client has gone"
        async with one.client.stream("GET", "/sessions/quiet/events") as response:
            lines = response.aiter_lines()
            await anext(lines)
            one.state.draining.set()
            rest = [line async for line in lines]
        assert not readers(redis_url)
        assert "id: quiet:1" in rest and not any("session.ended" in line for line in rest)
    await bus.aclose()


class Stack(logging.Handler):
    """Gathers what is logged with a stack."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.WARNING:
            self.found.append(self.format(record))


@pytest.mark.parametrize("kind", ["stream", "socket"])
@pytest.mark.parametrize("leaving", ["closes", "vanishes", "stalls until the gateway ends"])
async def test_twenty_readers_that_leave_are_no_errors(redis_url: str, kind: str, leaving: str) -> None:
    bus = Bus(redis_url, Keys("long"))
    await bus.register("2026-01-01T00:00:00Z")
    for n in range(3000):  # more than lies between two sockets
        bus.publish(Degraded(id=f"long:{n}", session="long", audio_time=1, reason="x" * 1000))
        if n % 500 == 0:
            await bus.flush()
    assert await bus.aclose()
    stack, logger = Stack(), logging.getLogger("uvicorn.error")
    logger.addHandler(stack)
    request = "GET /sessions/long/events HTTP/1.1\r\nHost: localhost\r\n"
    if kind == "socket":
        request += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    writers = []
    try:
        async with door(redis_url) as one:
            request += f"Authorization: {one.client.headers['Authorization']}\r\n\r\n"
            for _ in range(20):
                address = one.client.base_url
                reader, writer = await asyncio.open_connection(address.host, address.port, limit=1000)
                writer.write(request.encode())
                await reader.readline()
                writers.append(writer)
            if leaving == "closes":
                for writer in writers:
                    writer.close()
            if leaving == "vanishes":
                for writer in writers:
                    writer.transport.abort()
            if not leaving.startswith("stalls"):
                for _ in range(200):
                    if not one.state.open_connections["desk"]:
                        break
                    await asyncio.sleep(0.05)
                assert not one.state.open_connections["desk"]
    finally:
        logger.removeHandler(stack)
        for writer in writers:
            writer.close()
    assert not [line for line in stack.found if "Traceback" in line or "ASGI" in line], stack.found[0][:2000]
