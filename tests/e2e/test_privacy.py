"""What leaves a session beside its events: nothing in logs and traces, and after `forget` nothing anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis as sync_redis
import websockets

from tests.support.commands import here, undertone
from tests.support.gateways import events_of, gateways
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.tracing import collector
from workers.gateway.access import new_token

WORDS = ("xylophone", "zeppelin")
CONSENT = "quetzalcoatl agreed"
# Loaded by every Python of the test, Ray's workers too: all that anybody logs is told, and stays so.
LOUD = """
import logging
logging.basicConfig(level=logging.DEBUG)
logging.root.setLevel = lambda level: None
"""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Short: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="ut"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def test_logs_and_traces_have_no_words(
    tmp_path: Path, ray_folder: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the lowest log level of all processes: gateway, Ray, its workers, OpenTelemetry."""
    media, loud = tmp_path / "media", tmp_path / "loud"
    media.mkdir()
    loud.mkdir()
    (loud / "sitecustomize.py").write_text(LOUD)
    shutil.copy(DEMO, media)
    lines = DEMO_TRANSCRIPT.read_text().splitlines()
    said = [" ".join([*line.split()[:5], *WORDS]) for line in lines]
    (media / "words.stm").write_text("\n".join(said) + "\n")
    prefix = f"quiet-{secrets.token_hex(3)}"
    with collector() as (address, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        monkeypatch.setenv("RAY_TMPDIR", str(ray_folder))
        monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "debug")
        monkeypatch.setenv("PYTHONPATH", f"{loud}:{os.environ.get('PYTHONPATH', '')}")
        options = ("--redis", redis_url, "--prefix", prefix, "--media", str(media), "--trace")
        with gateways(tmp_path, 1, *options) as (gateway,):
            source = {"kind": "file", "name": DEMO.name, "speed": None, "transcript": "words.stm"}
            async with httpx.AsyncClient(base_url=gateway.http, timeout=120) as client:
                started = await client.post("/sessions", json={"consent": CONSENT, "source": source})
                assert started.status_code == 201, started.text
                session = started.json()["id"]
                heard = await events_of(gateway, session)
                assert all(word in json.dumps(heard) for word in WORDS)
                async with websockets.connect(f"{gateway.ws}/sessions/{session}/events") as socket:
                    assert len([message async for message in socket]) == len(heard)
                # What cannot be read, by an exporter and by those who count.
                with sync_redis.Redis.from_url(redis_url) as redis:
                    bad = json.dumps({"type": "utterance", "text": WORDS[0], "surprise": WORDS[1], "words": WORDS})
                    redis.xadd(f"{prefix}:{{broken}}:events", {"id": "x", "type": "utterance", "event": bad})
                    redis.hset(f"{prefix}:sessions", "broken", "2026-01-01T00:00:00Z")
                with pytest.raises(httpx.HTTPStatusError):
                    (await client.get("/sessions/broken/export/jsonl")).raise_for_status()
                await asyncio.sleep(3)
            log = gateway.log.read_text()
        assert any(span.name == "utterance" for span in spans)
    assert '"level": "debug"' in log and "is skipped" in log
    logs = {path: path.read_bytes() for path in ray_folder.rglob("logs/**/*") if path.is_file()}
    assert any(path.name.startswith("worker-") for path in logs) and any(b" D " in text for text in logs.values())
    told = [log.encode(), *logs.values(), *(span.SerializeToString() for span in spans)]
    for secret in (*WORDS, CONSENT):
        assert not [text for text in told if secret.encode() in text], secret


async def test_a_gateway_forgets_for_its_administrator(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    made = {name: new_token(name, [name]) for name in ("admin", "ingest")}
    (tmp_path / "tokens.toml").write_text("\n".join(entry for _, entry in made.values()))
    admin, desk = ({"Authorization": f"Bearer {secret}"} for secret, _ in made.values())
    recordings, prefix = tmp_path / "recordings", f"forget-{secrets.token_hex(3)}"
    recordings.mkdir()
    visit, data = recordings / "visit", "/sessions/visit/data"
    options = ("--redis", redis_url, "--prefix", prefix, "--ray-address", ray_address, "--record", str(recordings))
    with gateways(tmp_path, 1, *options, "--tokens", str(tmp_path / "tokens.toml"), "--keep", "2") as (gateway,):
        async with httpx.AsyncClient(base_url=gateway.http, timeout=120) as client:
            asked = {"consent": "synthetic", "modalities": ["audio"], "id": "visit", "record": True}
            for _ in range(2):  # the id can be used anew
                started = await client.post("/recordings", params=asked, content=DEMO.read_bytes(), headers=desk)
                assert started.status_code == 201, started.text
                live = await client.delete(data, headers=admin)
                assert live.status_code == 409 and "stop it first" in live.json()["detail"]
                early = await client.post("/sessions/visit/media/ticket", headers=admin)
                assert early.status_code == 409 and "has not ended" in early.json()["detail"]
                await client.delete("/sessions/visit", headers=desk)
                async with asyncio.timeout(60):
                    while (info := (await client.get("/sessions/visit", headers=admin)).json())["state"] == "live":
                        await asyncio.sleep(0.2)
                assert info["kept_until"] and info["recorded"]
                played = (await client.post("/sessions/visit/media/ticket", headers=admin)).json()["url"]
                part = await client.get(played, headers={"Range": "bytes=0-3"})
                assert (part.status_code, part.content) == (206, b"\x1a\x45\xdf\xa3"), "it is WebM"
                assert (await client.delete(data, headers=desk)).status_code == 403
                done = await client.delete(data, headers=admin)
                assert done.status_code == 200, done.text
                assert done.json()["left"] == {"keys": [], "entries": {}, "files": []}
                removed = done.json()["removed"]
                assert f"{prefix}:{{visit}}:events" in removed["keys"]
                assert removed["entries"].keys() - {f"{prefix}:running"} == {f"{prefix}:sessions"}
                assert {"visit/sound.mkv", "visit/media.webm"} <= set(removed["files"]) and not visit.exists()
                assert [key for key in removed["keys"] if ":ticket:" in key]
                assert (await client.get(played)).status_code == 401
                assert (await client.delete(data, headers=admin)).status_code == 404
                await asyncio.sleep(1.5)  # its actor goes a second after its end
    with sync_redis.Redis.from_url(redis_url, decode_responses=True) as redis:
        assert not [key for key in redis.scan_iter(f"{prefix}:*") if "visit" in key]


def test_forget_by_command(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    prefix = f"command-{secrets.token_hex(3)}"
    where = ("--redis", redis_url, "--prefix", prefix)
    done = undertone(
        "replay", DEMO, "--transcript", DEMO_TRANSCRIPT, "--speed", "max", "--json", "--modalities", "text", "--record",
        tmp_path, "--session", "call", "--keep", "0.5", *where, "--ray-address", ray_address,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["kept"] == 1800
    listed = here("sessions", "--json", *where)
    (info,) = json.loads(listed.stdout)
    assert info["id"] == "call" and info["kept_until"] and info["recorded"]
    assert "kept until" in here("sessions", *where).stdout
    refused = here("forget", "call", *where)
    assert refused.returncode == 2 and "was recorded" in refused.stderr
    kept = here("forget", "--older-than", "1d", "--record", tmp_path, *where)
    assert kept.returncode == 0 and "nothing is older than 1d" in kept.stderr
    for path in (tmp_path / "call").iterdir():
        os.utime(path, (0, 0))
    assert here("forget", "--older-than", "1d", "--record", tmp_path, *where).returncode == 0
    assert (tmp_path / "call").exists()  # its events are younger
    forgotten = here("forget", "call", "--record", tmp_path, *where)
    assert forgotten.returncode == 0, forgotten.stderr
    assert forgotten.stdout.startswith("call: removed\n  events, with the words in them\n")
    assert "\n  entry in the list of sessions\n" in forgotten.stdout
    assert f"{prefix}:" not in forgotten.stdout and f"{tmp_path}/call/sound.mkv\n" in forgotten.stdout
    assert forgotten.stdout.endswith("nothing is left\n") and not list(tmp_path.iterdir())
    again = here("forget", "call", "--record", tmp_path, "--json", *where)
    assert json.loads(again.stdout) == {
        "session": "call", "removed": {"keys": [], "entries": {}, "files": []},
        "left": {"keys": [], "entries": {}, "files": []},
    }  # fmt: skip
    assert again.returncode == 2 and again.stderr == "undertone: no session 'call' in this Redis; there are none\n"


def test_nothing_is_known_of_a_session(redis_url: str) -> None:
    prefix = f"unknown-{secrets.token_hex(3)}"
    where = ("--redis", redis_url, "--prefix", prefix)
    started = [f"2026-01-01T00:00:{number:02}Z" for number in range(12)]
    with sync_redis.Redis.from_url(redis_url) as redis:
        redis.hset(f"{prefix}:sessions", mapping={f"call{number}": start for number, start in enumerate(started)})
        there_are = "call11, call10, call9, call8, call7, call6, call5, call4, call3, call2 and 2 more"
        for command, message in [
            (("forget", "cal"), ""), (("watch", "cal"), ""), (("replay", "redis:cal"), ""),
            (("export", "cal"), "; nor is there such a file"),
        ]:  # fmt: skip
            done = here(*command, *where)
            assert done.returncode == 2 and done.stdout == "", done.stderr
            wanted = f"no session 'cal' in this Redis; there are {there_are} (undertone sessions){message}\n"
            assert done.stderr == f"undertone: {wanted}"
        redis.set(f"{prefix}:{{cal}}:forgotten", "1")
        done = here("forget", "cal", *where)
        assert done.returncode == 0 and done.stderr == "cal: deleted before; nothing is left\n", "it can be repeated"
        redis.delete(f"{prefix}:{{cal}}:forgotten")
        redis.set(f"{prefix}:{{cal}}:rows", "1")  # a deletion that broke off
        done = here("forget", "cal", "call1", *where)
        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            "cal: removed\n  state to go on from\n  nothing is left\n"
            "call1: removed\n  entry in the list of sessions\n  nothing is left\n"
        )
        done = here("forget", "call2", "cal", *where)
        assert done.returncode == 2 and done.stdout.startswith("call2: removed") and "no session 'cal'" in done.stderr
        redis.delete(f"{prefix}:sessions")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "ids of sessions, or --older-than"),
        (("x", "--older-than", "1d"), "ids of sessions, or --older-than"),
        (("--older-than", "soon"), "30d, 12h or 90m"),
        (("--older-than", "0d"), "30d, 12h or 90m"),
        (("a{b}",), "letters, digits"),
        (("x", "--record", "/absent"), "no such folder"),
        (("x", "--redis", "redis://127.0.0.1:1"), "no Redis answers"),
    ],
)
def test_mistakes_are_said_in_one_line(redis_url: str, arguments: tuple[str, ...], complaint: str) -> None:
    where = () if "--redis" in arguments else ("--redis", redis_url)
    done = here("forget", *arguments, *where)
    assert done.returncode in (1, 2) and complaint in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_reader_of_redis_may_not_forget_and_is_told(redis_url: str) -> None:
    with sync_redis.Redis.from_url(redis_url) as redis:
        user = f"reader{secrets.token_hex(3)}"
        redis.acl_setuser(user, enabled=True, passwords=["+secret"], keys=["*"], commands=["+@read", "+ping"])
        redis.hset("undertone:sessions", user, "2026-01-01T00:00:00Z")
        done = here("forget", user, "--redis", redis_url.replace("//", f"//{user}:secret@"))
        assert done.returncode == 1 and "permission" in done.stderr and "Traceback" not in done.stderr, done.stderr
        redis.hdel("undertone:sessions", user)
        redis.acl_deluser(user)
