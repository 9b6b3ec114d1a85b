"""Recordings over REST: a real server, Redis and recordings, without Ray."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from redis import Redis

from stream.bus.forget import forget
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.errors import MediaError
from stream.events import Event
from tests.support.conversations import emotion, heard, started
from tests.support.events import ended
from tests.support.gateway_here import Door, door
from tests.support.recorded import Scripted, clicks_of, record
from workers.gateway import playables
from workers.gateway.access import TICKET_TTL_S
from workers.gateway.exporting import Exporter

CLICKS = [(0.5, 0), (2.0, 1)]


async def recorded(
    redis: str, folder: Path, session: str, flash: float | None = None, is_over: bool = True, **change: object
) -> None:
    """A session that was recorded, with a click at 0.5 s and one at 2 s; another test's of this id is gone."""
    await forget(redis, Keys(session), [folder])
    begun = started(recorded=True, **change)
    record(folder / session, Scripted([(0.0, 3.0)], CLICKS, 2, flash), session=session, **change)
    words = heard(0, "Anna", 0, 1, "well")
    events: list[Event] = [begun, words, emotion(words, 0.1, 0.9, 0.0), *([ended("s")] if is_over else [])]
    bus = Bus(redis, Keys(session))
    await bus.register(begun.time)
    for event in events:
        bus.publish(event.model_copy(update={"session": session}))
    assert await bus.aclose()


async def address(one: Door, session: str) -> str:
    """Of a ticket for a session's recording."""
    made = await one.client.post(f"/sessions/{session}/media/ticket")
    assert made.status_code == 201, made.text
    url: str = made.json()["url"]
    return url


def nobody(one: Door) -> httpx.AsyncClient:
    """A client without a token, as a browser's player is."""
    return httpx.AsyncClient(base_url=one.client.base_url, timeout=30)


async def test_a_player_gets_the_ranges_that_it_asks_for(redis_url: str, tmp_path: Path) -> None:
    await recorded(redis_url, tmp_path, "call")
    async with door(redis_url, scopes=("read",), record=tmp_path) as one, nobody(one) as player:
        url = await address(one, "call")
        whole = await player.get(url)
        assert whole.status_code == 200 and whole.headers["content-type"] == "audio/webm"
        assert whole.headers["accept-ranges"] == "bytes" and whole.headers["cache-control"] == "no-store"
        (tmp_path / "got.webm").write_bytes(whole.content)
        assert clicks_of(tmp_path / "got.webm") == pytest.approx([0.5, 2.0], abs=0.05)
        size = len(whole.content)
        for asked, got, content in (
            ("bytes=0-", f"bytes 0-{size - 1}/{size}", whole.content),
            ("bytes=100-199", f"bytes 100-199/{size}", whole.content[100:200]),
            ("bytes=-50", f"bytes {size - 50}-{size - 1}/{size}", whole.content[-50:]),
        ):
            part = await player.get(url, headers={"Range": asked})
            assert (part.status_code, part.headers["content-range"], part.content) == (206, got, content)
        beyond = await player.get(url, headers={"Range": f"bytes={size}-"})
        assert beyond.status_code == 416
        head = await player.head(url)
        assert (head.status_code, int(head.headers["content-length"]), head.content) == (200, size, b"")
        by_token = await one.client.get("/sessions/call/media")
        assert by_token.content == whole.content
        async with asyncio.timeout(5):
            while one.state.open_connections["desk"]:
                await asyncio.sleep(0.02)
    kept = tmp_path / "call/media.webm"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and len(list(kept.parent.glob("media.webm*"))) == 1


async def test_pictures_are_played_too(redis_url: str, tmp_path: Path) -> None:
    await recorded(redis_url, tmp_path, "seen", flash=1.0)
    async with door(redis_url, record=tmp_path) as one:
        assert (await one.client.get("/sessions/seen/media")).headers["content-type"] == "video/webm"


async def test_a_playing_page_uses_up_no_requests(redis_url: str, tmp_path: Path) -> None:
    await recorded(redis_url, tmp_path, "call")
    with Redis.from_url(redis_url) as redis:  # those of other tests
        redis.delete(*redis.keys("undertone:token:desk:*"), "none")
    async with door(redis_url, record=tmp_path, requests=1) as one, nobody(one) as player:
        url = await address(one, "call")
        for _ in range(10):
            assert (await player.get(url, headers={"Range": "bytes=0-99"})).status_code == 206
        assert (await one.client.get("/me")).status_code == 429


async def test_a_ticket_is_for_one_session_for_a_while_and_of_a_token(redis_url: str, tmp_path: Path) -> None:
    for session in ("call", "other"):
        await recorded(redis_url, tmp_path, session)
    async with door(redis_url, scopes=("read",), record=tmp_path) as one, nobody(one) as player:
        made = (await one.client.post("/sessions/call/media/ticket")).json()
        late = datetime.now(UTC) + timedelta(seconds=TICKET_TTL_S)
        assert abs(datetime.fromisoformat(made["expires"]) - late) < timedelta(seconds=30)
        assert (await player.get(made["url"])).status_code == 200
        secret = made["url"].rpartition("=")[2]
        for path in (
            f"/sessions/other/media?ticket={secret}", f"/sessions/absent/media?ticket={secret}",
            "/sessions/call/media?ticket=x", "/sessions/call/media?ticket=", "/sessions/call/media",
        ):  # fmt: skip
            answer = await player.get(path)
            assert answer.status_code == 401 and ("ticket" in answer.json()["detail"]) == ("?" in path)
        assert (await player.get(f"/sessions/call/export/jsonl?ticket={secret}")).status_code == 401
        with Redis.from_url(redis_url, decode_responses=True) as redis:
            (key,) = redis.keys("undertone:{call}:ticket:*")
            assert secret not in key and secret not in str(redis.get(key))
            assert 0 < redis.ttl(key) <= TICKET_TTL_S
            redis.pexpire(key, 1)
            await asyncio.sleep(0.05)
        assert (await player.get(made["url"])).status_code == 401
    async with door(redis_url, scopes=("ingest",), record=tmp_path) as one:
        for answer in (
            await one.client.post("/sessions/call/media/ticket"), await one.client.get("/sessions/call/media")
        ):  # fmt: skip
            assert answer.status_code == 403


async def test_a_ticket_of_a_token_that_was_made_anew_is_refused(redis_url: str, tmp_path: Path) -> None:
    await recorded(redis_url, tmp_path, "call")
    async with door(redis_url, record=tmp_path) as one:
        url = await address(one, "call")
    async with door(redis_url, record=tmp_path) as another, nobody(another) as player:
        assert (await player.get(url)).status_code == 401


async def test_what_cannot_be_played_is_said_in_a_line(redis_url: str, tmp_path: Path) -> None:
    await recorded(redis_url, tmp_path, "open", is_over=False)
    await recorded(redis_url, tmp_path / "elsewhere", "away")
    await recorded(redis_url, tmp_path, "older")
    await recorded(redis_url, tmp_path / "elsewhere", "older", time="2026-02-02T00:00:00+00:00")
    bus = Bus(redis_url, Keys("unrecorded"))
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(started(session="unrecorded"))
    bus.publish(ended("unrecorded"))
    await bus.aclose()
    here = "is not on this gateway's machine"
    async with door(redis_url, record=tmp_path) as one:
        for session, status, told in (
            ("absent", 404, "no session"), ("unrecorded", 404, "was not recorded"), ("open", 409, "has not ended"),
            ("away", 404, here), ("older", 404, here),
        ):  # fmt: skip
            for answer in (
                await one.client.get(f"/sessions/{session}/media"),
                await one.client.post(f"/sessions/{session}/media/ticket"),
            ):
                assert answer.status_code == status and told in answer.json()["detail"], session
    async with door(redis_url) as one:
        answer = await one.client.get("/sessions/away/media")
        assert answer.status_code == 404 and "no folder of recordings" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["redacted", "masked"])
async def test_words_that_are_left_out_are_heard_by_administrators_alone(
    redis_url: str, tmp_path: Path, kind: str
) -> None:
    await recorded(redis_url, tmp_path, kind, **{kind: True})
    async with door(redis_url, scopes=("read",), record=tmp_path) as one:
        answer = await one.client.post(f"/sessions/{kind}/media/ticket")
        assert answer.status_code == 403 and "takes the scope admin" in answer.json()["detail"]
    async with door(redis_url, record=tmp_path) as one, nobody(one) as player:
        assert (await player.get(await address(one, kind))).status_code == 200


async def test_it_is_made_once_and_who_asks_meanwhile_is_told_to_wait(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(redis_url, tmp_path, "call")
    made, go_on, plain = [], asyncio.Event(), Exporter.playable

    async def slow(self: Exporter, folder: Path, target: Path) -> None:
        made.append(folder.name)
        await go_on.wait()
        await plain(self, folder, target)

    monkeypatch.setattr(Exporter, "playable", slow)
    monkeypatch.setattr(playables, "PATIENCE_S", 0.1)
    async with door(redis_url, record=tmp_path) as one:
        for _ in range(2):
            answer = await one.client.post("/sessions/call/media/ticket")
            assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
            assert answer.json()["detail"] == "this recording is being made playable; try again"
        go_on.set()
        monkeypatch.setattr(playables, "PATIENCE_S", 20.0)
        assert (await one.client.post("/sessions/call/media/ticket")).status_code == 201
        assert (await one.client.get("/sessions/call/media")).status_code == 200
    assert made == ["call"]


async def test_a_recording_without_sound_is_told_and_leaves_nothing(redis_url: str, tmp_path: Path) -> None:
    await recorded(redis_url, tmp_path, "call")
    (tmp_path / "call/sound.mkv").write_bytes(b"")
    async with door(redis_url, record=tmp_path) as one:
        for _ in range(2):
            answer = await one.client.get("/sessions/call/media")
            assert answer.status_code == 422 and answer.json()["detail"] == "there is no sound in the recording"
    assert not list((tmp_path / "call").glob("media*"))


async def test_what_is_forgotten_is_played_no_more(redis_url: str, tmp_path: Path) -> None:
    await recorded(redis_url, tmp_path, "call")
    async with door(redis_url, record=tmp_path) as one, nobody(one) as player:
        url = await address(one, "call")
        done = await forget(redis_url, Keys("call"), [tmp_path])
        assert "media.webm" in {path.name for path in done.removed.files} and not done.left
        assert any(":ticket:" in key for key in done.removed.keys)
        assert not (tmp_path / "call").exists() and (await player.get(url)).status_code == 401
        await recorded(redis_url, tmp_path, "call", time="2026-03-03T00:00:00+00:00")
        assert (await player.get(url)).status_code == 401


async def test_a_session_that_is_forgotten_while_its_recording_is_made_leaves_nothing(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(redis_url, tmp_path, "call")
    plain = Exporter.playable

    async def overtaken(self: Exporter, folder: Path, target: Path) -> None:
        await plain(self, folder, target)
        with Redis.from_url(redis_url) as redis:
            redis.delete("undertone:{call}:events")
            redis.hdel("undertone:sessions", "call")

    monkeypatch.setattr(Exporter, "playable", overtaken)
    async with door(redis_url, record=tmp_path) as one:
        answer = await one.client.get("/sessions/call/media")
        assert answer.status_code == 422 and "forgotten" in answer.json()["detail"]
    assert not list((tmp_path / "call").glob("media*"))


async def test_making_stops_when_the_session_is_forgotten(tmp_path: Path) -> None:
    class Never(Exporter):
        async def playable(self, folder: Path, target: Path) -> None:
            target.touch()
            await asyncio.Event().wait()

    async def is_kept() -> bool:
        raise MediaError("nobody asks")

    kept = playables.Playables(Never())
    asking = asyncio.create_task(kept.file(tmp_path, is_kept))
    async with asyncio.timeout(5):
        while not list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)
        await kept.forget(tmp_path)
    with pytest.raises(playables.Refused):
        await asking
    assert not tmp_path.exists()
