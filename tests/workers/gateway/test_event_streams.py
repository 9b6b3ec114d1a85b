"""Event streams of the gateway, as server-sent events and WebSockets: a real server and Redis, without Ray."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import websockets
from anyio import BrokenResourceError
from fastapi import routing
from redis import Redis

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import history
from stream.clock import MonotonicClock
from stream.events import Degraded, Lag
from tests.support.events import ended, label
from tests.support.gateway_here import Door, door, finished
from tests.support.redis_servers import private_server
from workers.gateway.metrics import Metrics
from workers.gateway.middleware import RequestRecorder


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


async def socket_ids(one: Door, path: str) -> list[str]:
    """Ids of what a WebSocket sends until it is closed."""
    address = str(one.client.base_url).replace("http", "ws", 1).rstrip("/") + path
    headers = {"Authorization": one.client.headers["Authorization"]}
    async with websockets.connect(address, additional_headers=headers) as socket:
        return [json.loads(message)["id"] async for message in socket]


async def stream_ids(one: Door, path: str, **headers: str) -> list[str]:
    """Ids of what an event stream sends until it ends."""
    text = (await one.client.get(path, headers=headers)).text
    return [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]


async def test_a_long_history_comes_in_few_messages_on_request(redis_url: str) -> None:
    """All events, in order, a line each; one that comes later at once; and the end is told as ever."""
    bus = Bus(redis_url, Keys("much"))
    await bus.register("2026-01-01T00:00:00Z")
    past = [f"much:{number}" for number in range(1500)]
    for number, name in enumerate(past):
        bus.publish(Lag(id=name, session="much", audio_time=number, seconds=2))
        if number % 200 == 0:
            await bus.flush()
    await bus.flush()
    async with door(redis_url) as one:
        address = str(one.client.base_url).replace("http", "ws", 1).rstrip("/") + "/sessions/much/events?lines=true"
        headers = {"Authorization": one.client.headers["Authorization"]}
        async with websockets.connect(address, additional_headers=headers) as socket:
            seen, messages = [], 0
            while len(seen) < len(past):
                seen += [json.loads(line)["id"] for line in str(await socket.recv()).split("\n")]
                messages += 1
            assert seen == past and messages < 100
            bus.publish(Lag(id="much:late", session="much", audio_time=1500, seconds=2))
            await bus.flush()
            assert json.loads(await asyncio.wait_for(socket.recv(), 10))["id"] == "much:late"
            one.state.draining.set()
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 10)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
    bus.publish(ended("much"))
    assert await bus.aclose()
    async with door(redis_url) as one:
        assert await one.closed("/sessions/much/events?lines=true&after=much:late") == (1000, "")


async def test_alerts_of_the_sessions_own_rules_come_behind_their_events(redis_url: str) -> None:
    """Only where they are asked for; a client goes on behind an alert as behind an event, whichever way it reads."""
    bus = Bus(redis_url, Keys("glad"))
    await bus.register("2026-01-01T00:00:00Z")
    said = [label("glad", 0), label("glad", 1, audio_start=3.0, audio_end=4.0), ended("glad")]
    for event in said:
        bus.publish(event)
    assert await bus.aclose()
    plain = ["glad:0:0", "glad:1:0", "glad:ended"]
    whole = ["glad:0:0", "glad:0:alert:glad", "glad:1:0", "glad:1:alert:glad", "glad:1:alert:twice", "glad:ended"]
    path = "/sessions/glad/events"
    async with door(redis_url) as one:
        assert await socket_ids(one, f"{path}?alerts=true") == plain, "without rules there are no alerts"
        rules = [
            {"name": "glad", "emotion": "joy", "cooldown": 0},
            {"name": "twice", "emotion": "joy", "utterances": 2, "above": 0.5},
            {"name": "never", "emotion": "no label of this session"},
        ]
        assert (await one.client.put("/sessions/glad/rules", json=rules)).status_code == 200
        assert await socket_ids(one, path) == await stream_ids(one, path) == plain
        assert await socket_ids(one, f"{path}?alerts=false") == plain
        assert await socket_ids(one, f"{path}?alerts=true") == whole == await stream_ids(one, f"{path}?alerts=true")
        for place, seen in enumerate(whole):
            rest = whole[place + 1 :]
            assert await socket_ids(one, f"{path}?alerts=true&after={seen}") == rest
            assert await stream_ids(one, f"{path}?alerts=true", **{"Last-Event-ID": seen}) == rest
        assert await socket_ids(one, f"{path}?alerts=true&after=glad:0:alert:old") == whole
        first = (await one.client.get(f"{path}?alerts=true&after=glad:0:0")).text.partition("\n\n")[0]
        assert {"id: glad:0:alert:glad", "event: alert"} < set(first.splitlines())
        assert (await one.client.get(f"{path}?alerts=perhaps")).status_code == 422


async def test_alerts_of_a_session_that_goes_on_come_as_they_happen(redis_url: str) -> None:
    """Also where what the client saw last is not there any more: then from the first, without waiting for anything."""
    bus = Bus(redis_url, Keys("going"))
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(label("going", 0))
    await bus.flush()
    path = "/sessions/going/events?alerts=true"
    async with door(redis_url) as one:
        rules = [{"name": "twice", "emotion": "joy", "utterances": 2}]
        assert (await one.client.put("/sessions/going/rules", json=rules)).status_code == 200
        for after in ("", "&after=going:0:0", "&after=going:0:alert:of-before"):
            async with one.client.stream("GET", path + after) as response:
                lines = response.aiter_lines()
                if not after.endswith(":0:0"):
                    assert await until_told(lines, "id: going:0:0")
                if not after:
                    bus.publish(label("going", 1, audio_start=3.0, audio_end=4.0))
                    await bus.flush()
                assert await until_told(lines, "id: going:1:0")
                assert await until_told(lines, "id: going:1:alert:twice")
        one.state.draining.set()
    await bus.aclose()


async def test_all_connections_of_a_gateway_are_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.gateway.state.MAX_CONNECTIONS", 2)
    bus = Bus(redis_url, Keys("crowd"))
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(Lag(id="crowd:1", session="crowd", audio_time=1, seconds=2))
    assert await bus.aclose()
    async with door(redis_url) as one:
        async with AsyncExitStack() as open_ones:
            held = []  # a reader that is forgotten hangs up
            for _ in range(2):
                stream = await open_ones.enter_async_context(one.client.stream("GET", "/sessions/crowd/events"))
                held.append(stream.aiter_lines())
                assert await until_told(held[-1], "id: crowd:1")
            refused = await one.client.get("/sessions/crowd/events")
            assert refused.status_code == 503, refused.text
            assert refused.headers["Retry-After"] == "10"
            told = "this gateway has 2 connections, and takes no more; try again"
            assert refused.json()["detail"] == told
            assert await one.closed("/sessions/crowd/events") == (1008, told)
        one.state.draining.set()


@pytest.mark.integration
async def test_metrics_count_what_was_skipped_and_ask_for_ended_sessions_once() -> None:
    with private_server() as redis:
        for session in ("one", "two"):
            await finished(redis, session)
        admin = Redis.from_url(redis, decode_responses=True)
        for fields in ({"event": "{"}, {"x": "y"}):
            admin.xadd(Keys("one").events, fields)
        await finished(redis, "one")  # or it would be lost
        async with door(redis) as one:
            for _ in range(200):
                told = (await one.client.get("/metrics")).text
                if 'undertone_events_total{type="session.ended"} 3.0' in told:
                    break
                await asyncio.sleep(0.05)
            assert 'undertone_events_skipped_total{reason="invalid"} 2.0' in told
            assert 'undertone_events_skipped_total{reason="removed"} 0.0' in told
            assert 'undertone_sessions{state="ended"} 2.0' in told
            asked = admin.info("commandstats")["cmdstat_ttl"]["calls"]
            assert 'undertone_sessions{state="ended"} 2.0' in (await one.client.get("/metrics")).text
            assert admin.info("commandstats")["cmdstat_ttl"]["calls"] == asked
            admin.hdel("undertone:sessions", "two")
            assert 'undertone_sessions{state="ended"} 1.0' in (await one.client.get("/metrics")).text


async def until_told(lines: AsyncIterator[str], wanted: str) -> bool:
    """Read to the end of the event that has this line; on a busy machine comments come before it."""
    async for line in lines:
        if line == wanted:
            return not await anext(lines)
    return False


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
            assert await until_told(lines, "id: quiet:1")
            comments = [await anext(lines) for _ in range(6)]
            assert {line[:1] for line in comments} == {"", ":"} and one.state.open_connections["desk"] == 1
        for _ in range(600):
            if not one.state.open_connections["desk"] and not readers(redis_url):
                break
            await asyncio.sleep(0.05)
        assert not one.state.open_connections["desk"] and not readers(redis_url), "the client has gone"
        async with one.client.stream("GET", "/sessions/quiet/events") as response:
            lines = response.aiter_lines()
            assert await until_told(lines, "id: quiet:1")
            one.state.draining.set()
            rest = [line async for line in lines]
        assert not readers(redis_url)
        assert not any("session.ended" in line for line in rest)
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
    bus = Bus(redis_url, Keys("much"))
    await bus.register("2026-01-01T00:00:00Z")
    for n in range(3000):  # more than lies between two sockets
        bus.publish(Degraded(id=f"long:{n}", session="much", audio_time=1, reason="x" * 1000))
        if n % 500 == 0:
            await bus.flush()
    assert await bus.aclose()
    stack, logger = Stack(), logging.getLogger("uvicorn.error")
    logger.addHandler(stack)
    request = "GET /sessions/much/events HTTP/1.1\r\nHost: localhost\r\n"
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


async def test_a_stream_whose_halves_are_cancelled_one_after_the_other_is_no_error() -> None:
    """FastAPI's writer then finds its reader gone, and says so in a group of exceptions."""
    recorder = RequestRecorder(_raising(BrokenResourceError()), Metrics(), MonotonicClock())
    scope = {"type": "http", "path": "/", "method": "GET", "headers": []}
    await recorder(scope, _nothing, _nothing)
    recorder = RequestRecorder(_raising(ValueError("ours")), Metrics(), MonotonicClock())
    with pytest.raises(ExceptionGroup, match="one"):
        await recorder(scope, _nothing, _nothing)


def _raising(error: Exception) -> Callable[..., Awaitable[None]]:
    async def app(*_: object) -> None:
        raise ExceptionGroup("one", [error])

    return app


async def _nothing(*_: object) -> None: ...
