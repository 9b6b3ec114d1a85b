"""The gateway's doors: a real server and Redis, without Ray, which those who are not let in never reach."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.running import Home
from stream.events import Lag
from tests.support.conversations import conversation
from tests.support.gateway_here import Door, door, finished
from tests.support.redis_servers import private_server
from workers.gateway.access import Refused
from workers.gateway.exporting import MAX_PROCESSES
from workers.gateway.state import MAX_TOKEN_EXPORTS

FRONT = "https://front.example.org"
START = {"consent": "nobody is here", "source": {"kind": "push", "tracks": [{"name": "Mara"}]}}


async def test_other_pages(redis_url: str) -> None:
    async with door(redis_url, frozenset({FRONT})) as one:
        allowed = await one.client.get("/options", headers={"Origin": FRONT})
        assert allowed.headers["access-control-allow-origin"] == FRONT and allowed.headers["vary"] == "Origin"
        wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        asked = await one.client.options("/sessions", headers={"Origin": FRONT} | wanted)
        assert asked.status_code == 200 and asked.headers["access-control-allow-origin"] == FRONT
        assert {"GET", "POST", "PATCH", "DELETE"} == set(asked.headers["access-control-allow-methods"].split(", "))
        assert {"Authorization", "Last-Event-ID"} <= set(asked.headers["access-control-allow-headers"].split(", "))
        assert "access-control-allow-credentials" not in asked.headers
        for headers in ({"Origin": "https://evil.example"} | wanted, {"Origin": "null"} | wanted):
            answer = await one.client.options("/sessions", headers=headers)
            assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
        packed = await one.client.post("/recordings", content=b"x", headers={"Origin": FRONT, "Content-Encoding": "x"})
        assert packed.status_code == 415 and packed.headers["access-control-allow-origin"] == FRONT
        refused = await one.client.get("/options", headers={"Origin": "https://evil.example"})
        assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers
        assert (await one.client.get("/options", headers={"Origin": "null"})).status_code == 403
        for answer in (allowed, asked, refused, packed, await one.client.get("/"), await one.client.get("/nowhere")):
            headers = answer.headers
            assert "default-src 'self'" in headers["content-security-policy"] and "unsafe" not in str(headers)
            assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
    async with door(redis_url) as one:
        answer = await one.client.get("/options", headers={"Origin": FRONT})
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


async def test_methods_make_no_labels(redis_url: str) -> None:
    async with door(redis_url) as one:
        assert (await one.client.request("BREW", "/options")).status_code == 405
        assert "BREW" not in (await one.client.get("/metrics")).text


async def test_head_is_answered_wherever_get_is(redis_url: str) -> None:
    """As GET is, without the body; at once for a stream that goes on."""
    await finished(redis_url, "been")
    bus = Bus(redis_url, Keys("quiet"))
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(Lag(id="quiet:1", session="quiet", audio_time=1, seconds=2))
    await bus.flush()
    async with door(redis_url) as one:
        described = (await one.client.get("/openapi.json")).json()["paths"]
        paths = [path for path, methods in described.items() if "get" in methods]
        paths = [path.replace("{session}", "been").replace("{format}", "jsonl") for path in paths]
        assert len(paths) >= 9
        for path in [*paths, "/", "/docs", "/openapi.json", "/static/app.js", "/nowhere", "/sessions/absent"]:
            head, get = await one.client.head(path), await one.client.get(path)
            assert (head.status_code, head.content) == (get.status_code, b""), path
            kinds = [answer.headers.get("content-type") for answer in (head, get)]
            assert kinds[0] == kinds[1] and head.headers["x-frame-options"] == "DENY"
        stream = await one.client.head("/sessions/quiet/events", timeout=20)
        assert stream.status_code == 200 and stream.headers["content-type"].startswith("text/event-stream")
        for _ in range(100):
            if not one.state.open_connections["desk"]:
                break
            await asyncio.sleep(0.05)
        assert not one.state.open_connections["desk"]
        assert (await one.client.head("/recordings")).status_code == 405
        told = (await one.client.get("/metrics")).text
        assert 'method="HEAD",route="/me",status="200"' in told
        nobody = await one.client.head("/me", headers={"Authorization": "Bearer none"})
        assert nobody.status_code == 401
    await bus.aclose()


async def test_a_form_is_told_to_come_as_it_is(redis_url: str) -> None:
    """`curl -F`, and every other client that wraps the file."""
    async with door(redis_url) as one:
        for name in ("file", "upload"):
            sent = {name: ("call.wav", b"RIFF", "audio/wav")}
            answer = await one.client.post("/recordings", params={"consent": "nobody is here"}, files=sent)
            assert answer.status_code == 415 and "--data-binary @FILE" in answer.json()["detail"]


async def test_bodies_are_bounded_before_the_token_is_looked_at(redis_url: str) -> None:
    async with door(redis_url) as one:
        large = json.dumps(START | {"surprise": "x" * 70_000}).encode()

        async def pieces() -> AsyncIterator[bytes]:
            yield large

        kind = {"Content-Type": "application/json", "Authorization": "Bearer none"}
        for content in (large, pieces()):
            answer = await one.client.post("/sessions", content=content, headers=kind)
            assert (answer.status_code, answer.json()["detail"]) == (413, "a request may have 64 KB at most")
        packed = {"Content-Encoding": "gzip"}
        assert (await one.client.post("/recordings", params=START, content=b"x", headers=packed)).status_code == 415


async def test_recordings_are_bounded(redis_url: str) -> None:
    async with door(redis_url) as one:
        said = {"consent": "nobody is here"}
        answer = await one.client.post("/recordings", params=said, content=bytes(2 << 20))
        assert (answer.status_code, answer.json()["detail"]) == (413, "a recording may have 1 MB at most")
        answer = await one.client.post("/recordings", params=said, content=b"x", headers={"Authorization": "Bearer x"})
        assert answer.status_code == 401


async def test_places_are_a_tokens_and_the_gateways(redis_url: str) -> None:
    """Of uploads and of exports: who has taken its share leaves the others theirs."""
    await finished(redis_url, "been")
    said = {"consent": "nobody is here"}
    requests = (
        ("uploads", {"method": "POST", "url": "/recordings", "params": said, "content": b""}, 422),
        ("exports", {"method": "GET", "url": "/sessions/been/export/jsonl"}, 200),
    )
    async with door(redis_url) as one:
        others = [one.token.model_copy(update={"name": f"other-{n}"}) for n in range(8)]
        for kind, request, free in requests:
            places = getattr(one.state, kind)
            with ExitStack() as taken:
                with pytest.raises(Refused):
                    while True:
                        taken.enter_context(places.taken(others[0]))
                assert (await one.client.request(**request)).status_code == free, "another's places are taken"
                own = ExitStack()
                with pytest.raises(Refused), own:
                    while True:
                        own.enter_context(places.taken(one.token))
                with ExitStack() as all_own:
                    for _ in range(places._per_token):
                        all_own.enter_context(places.taken(one.token))
                    answer = await one.client.request(**request)
                    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
                    assert "token desk: at most" in answer.json()["detail"]
                for other in others[1:]:
                    with suppress(Refused):
                        while True:
                            taken.enter_context(places.taken(other))
                answer = await one.client.request(**request)
                assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
            assert (await one.client.request(**request)).status_code == free


async def test_four_uploads_that_trickle_in_block_nobody(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.gateway.middleware.BODY_GRACE_S", 0.5)

    async def dribble(one: Door, path: str) -> int:
        """Status of a request whose body comes a byte at a time, for ever."""
        reader, writer = await asyncio.open_connection(one.client.base_url.host, one.client.base_url.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode())
        writer.write(f"Authorization: {one.client.headers['Authorization']}\r\n".encode())
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        status = asyncio.create_task(reader.readline())
        while not status.done():
            writer.write(b"1\r\nx\r\n")
            await asyncio.wait({status}, timeout=0.05)
        writer.close()
        return int(status.result().split()[1])

    async with door(redis_url) as one:
        slow = [dribble(one, "/recordings?consent=nobody") for _ in range(4)]
        assert sorted(await asyncio.gather(*slow)) == [408, 408, 429, 429]
        assert await dribble(one, "/sessions") == 408
        answer = await one.client.post("/recordings", params={"consent": "nobody is here"}, content=b"")
        assert answer.status_code == 422


def export_processes() -> list[int]:
    """Processes of this one's pool."""
    found = []
    for line in Path("/proc/self/task").glob("*/children"):
        for child in line.read_text().split():
            with suppress(OSError):
                if b"anyio.to_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


@pytest.mark.integration
async def test_exports_are_made_elsewhere_and_few_at_once(redis_url: str) -> None:
    """Twelve at once of one token: its share is made, in processes that yield to sessions; the rest may come again."""
    bus = Bus(redis_url, Keys("s"))
    await bus.register("2026-01-01T00:00:00Z")
    for event in conversation():
        bus.publish(event)
    assert await bus.aclose()
    async with door(redis_url) as one:
        answers = await asyncio.gather(*(one.client.get("/sessions/s/export/html") for _ in range(12)))
        by_status = Counter(answer.status_code for answer in answers)
        assert by_status == {200: MAX_TOKEN_EXPORTS, 429: 12 - MAX_TOKEN_EXPORTS}
        assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)
        made = next(answer for answer in answers if answer.status_code == 200)
        assert made.text.startswith("<!doctype html>") and "s.html" in made.headers["content-disposition"]
        workers = export_processes()
        assert 1 <= len(workers) <= MAX_PROCESSES
        assert all(os.getpriority(os.PRIO_PROCESS, worker) > os.getpriority(os.PRIO_PROCESS, 0) for worker in workers)
        unknown = await one.client.get("/sessions/s/export/docx")
        assert unknown.status_code == 422 and "unknown format 'docx'" in unknown.json()["detail"]
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        again = [(await one.client.get("/sessions/s/export/csv")).status_code for _ in range(MAX_PROCESSES + 1)]
        assert set(again) <= {200, 503} and again[-1] == 200


@pytest.mark.parametrize("session", ["a{b}", "a}:x", "*", "a\nb", "a b", "é", "x" * 65, ".x"])
async def test_no_key_is_forged_by_a_session_id(redis_url: str, session: str) -> None:
    async with door(redis_url) as one:
        named = f"/sessions/{quote(session, safe='')}"
        for more in ("", "/events", "/export/csv"):
            assert (await one.client.get(named + more)).status_code == 404
        assert (await one.client.delete(named)).status_code == 404
        for more in ("/events", "/tracks/0"):
            code, reason = await one.closed(named + more)
            assert code == 1008 and str(reason).startswith("no ")
        started = await one.client.post("/sessions", json=START | {"id": session})
        assert started.status_code == 422 and "id" in started.text
        sent = await one.client.post("/recordings", params={"consent": "nobody", "id": session}, content=b"x")
        assert sent.status_code == 422


@pytest.mark.integration
async def test_the_directory_comes_in_pages() -> None:
    with private_server() as redis:
        admin = Redis.from_url(redis, decode_responses=True)
        for number in range(250):  # those of ten start at once
            admin.hset("undertone:sessions", f"s-{number:03}", f"2026-01-01T00:00:{number // 10:02}Z")
        admin.set(Keys("s-200").events, "somebody else's")
        for number in (3, 120):
            admin.hset(Keys("any").running, f"s-{number:03}", Home().model_dump_json())
        async with door(redis) as one:
            first = (await one.client.get("/sessions")).json()
            assert len(first["sessions"]) == 99 and first["next"]
            seen, cursor = [], ""
            for _ in range(6):
                answer = await one.client.get(
                    "/sessions", params={"limit": 50} | ({"before": cursor} if cursor else {})
                )
                seen += [info["id"] for info in answer.json()["sessions"]]
                cursor = answer.json()["next"]
                if cursor is None:
                    break
                admin.hset("undertone:sessions", f"new-{len(seen)}", "2027")  # which moves no page
                admin.hdel("undertone:sessions", cursor.rpartition("/")[2])
            assert seen == [f"s-{number:03}" for number in range(249, -1, -1) if number != 200]
            running = (await one.client.get("/sessions?running=true")).json()
            assert [info["id"] for info in running["sessions"]] == ["s-120", "s-003"] and running["next"] is None
            for odd in ("limit=0", "limit=1001", "limit=x", "before=x", f"before=/{'x' * 200}"):
                assert (await one.client.get(f"/sessions?{odd}")).status_code == 422


@pytest.mark.integration
async def test_a_redis_that_fails_is_told_as_the_reason() -> None:
    with private_server() as url:
        async with door(url) as one:
            with suppress(ConnectionError):
                Redis.from_url(url).shutdown(nosave=True)
            for path in ("events", "tracks/0"):
                told = (1013, "Redis or Ray is unreachable at the moment; try again")
                assert await one.closed(f"/sessions/x/{path}") == told
            assert (await one.client.get("/sessions")).status_code == 503
