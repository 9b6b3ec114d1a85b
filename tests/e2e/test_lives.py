"""The lives of served sessions: what was sent outlives a process, and every session gets its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import ray
from redis import Redis

from stream.bus.keys import Keys
from stream.bus.spool import request_path
from stream.events import Event
from tests.chaos.service import wav
from tests.chaos.truth import durable_log, judge, labels
from tests.support.gateways import HEARD, Gateway, gateways
from workers.cluster.session_actor import find_session
from workers.gateway.access import new_token


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str) -> Iterator[Gateway]:
    """Keeps its own state elsewhere than the processes of its Ray node, as one of another user would."""
    folder = tmp_path_factory.mktemp("lives")
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as elsewhere:
            elsewhere.setenv("XDG_STATE_HOME", str(folder / "state"))
            options = ("--redis", redis_url, "--ray-address", ray_address)
            (one,) = running.enter_context(gateways(folder, 1, *options))
        yield one


@asynccontextmanager
async def client(gateway: Gateway, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=gateway.http, timeout=120, headers=headers) as made:
        yield made


async def log_until(redis: str, session: str, labelled: int | None, patience: float = 90) -> list[Event]:
    """The session's log once it has so many labels; None: once it has ended."""
    log: list[Event] = []
    async with asyncio.timeout(patience):
        while True:
            log = await asyncio.to_thread(durable_log, redis, session)
            over = bool(log) and log[-1].type == "session.ended"
            if over if labelled is None else len(labels(log, 0)) >= labelled:
                return log
            await asyncio.sleep(0.2)


async def process_of(session: str) -> int:
    actor = find_session(session)
    assert actor is not None
    return int(await actor.__ray_call__.remote(lambda self: os.getpid()))


async def test_a_recording_that_was_sent_outlives_the_process_that_hears_it(
    gateway: Gateway, demo_audio: np.ndarray, redis_url: str
) -> None:
    """At a real size: of more than 100 KB Ray would lose it with the process."""
    content = wav(demo_audio.sum(0))
    assert len(content) > 1_500_000
    asked = HEARD | {"name": "a.wav", "speed": "8"}
    async with client(gateway) as http:
        for session in ("whole", "killed-upload"):
            answer = await http.post("/recordings", params=asked | {"id": session}, content=content)
            assert answer.status_code == 201, answer.text
            held = request_path(session, "undertone")
            assert held.stat().st_mode & 0o777 == 0o600 and held.parent.stat().st_mode & 0o777 == 0o700
            assert content in held.read_bytes()
            if session != "whole":
                for labelled in (1, 4):
                    await log_until(redis_url, session, labelled)
                    os.kill(await process_of(session), signal.SIGKILL)
            await log_until(redis_url, session, None)
            async with asyncio.timeout(10):
                while held.exists():
                    await asyncio.sleep(0.1)
    truth, log = (durable_log(redis_url, session) for session in ("whole", "killed-upload"))
    verdict = judge(log, truth)
    assert verdict.clean and verdict.failed == 0 and verdict.restarts == 2, verdict
    assert verdict.utterances > 5 and sum(event.type == "session.ended" for event in log) == 1


@pytest.mark.data
async def test_a_first_pass_that_was_killed_finds_the_same_again(gateway: Gateway, data: Path, redis_url: str) -> None:
    """Killed while it listens, and once more among the labels."""
    content = (data / "conversations" / "telephone" / "sample.wav").read_bytes()
    asked = HEARD | {"name": "call.wav", "speed": "max", "people": "2"}
    async with client(gateway) as http:
        for session in ("found", "found-again"):
            answer = await http.post("/recordings", params=asked | {"id": session}, content=content)
            assert answer.status_code == 201, answer.text
            if session != "found":
                for labelled in (0, 1):
                    log = await log_until(redis_url, session, labelled)
                    assert len(labels(log, 0)) < 6, "it goes on"
                    os.kill(await process_of(session), signal.SIGKILL)
            await log_until(redis_url, session, None)
    truth, log = (durable_log(redis_url, session) for session in ("found", "found-again"))
    verdict = judge(log, truth)
    assert verdict.clean and verdict.failed == 0 and verdict.restarts == 2, verdict
    turns = [
        {n: (label.speaker, label.audio_start, label.audio_end) for n, label in labels(events, 0).items()}
        for events in (truth, log)
    ]
    assert turns[0] == turns[1] and {speaker for speaker, *_ in turns[0].values()} == {"speaker 1", "speaker 2"}


async def test_somebody_ends_a_session_whose_process_is_gone_for_good(gateway: Gateway, redis_url: str) -> None:
    """Once, with a reason; what was held for it goes, and forgetting it needs no word from anybody."""
    push: Any = {"source": {"kind": "push", "tracks": [{"name": "Mara"}]}}
    async with client(gateway) as http:
        assert (await http.post("/sessions", json=HEARD | push | {"id": "gone"})).status_code == 201
        held = request_path("gone", "undertone")
        assert held.exists() and redis_url in held.read_text()
        ray.kill(find_session("gone"))
        log = await log_until(redis_url, "gone", None)
        assert [event.type for event in log].count("session.ended") == 1
        assert "its process was killed" in log[-1].reason  # type: ignore[union-attr]
        async with asyncio.timeout(15):
            while held.exists() or Redis.from_url(redis_url).hexists(Keys("gone").running, "gone"):
                await asyncio.sleep(0.1)
        assert (await http.get("/sessions/gone")).json()["state"] == "ended"
        assert (await http.delete("/sessions/gone/data")).status_code == 200


async def test_a_session_that_lost_what_it_was_asked_for_is_ended(gateway: Gateway, redis_url: str) -> None:
    push: Any = {"source": {"kind": "push", "tracks": [{"name": "Mara"}]}}
    async with client(gateway) as http:
        assert (await http.post("/sessions", json=HEARD | push | {"id": "bereft"})).status_code == 201
    request_path("bereft", "undertone").unlink()
    os.kill(await process_of("bereft"), signal.SIGKILL)
    log = await log_until(redis_url, "bereft", None)
    assert "its process was killed" in log[-1].reason  # type: ignore[union-attr]


async def test_a_session_that_stalls_stays_its_owners(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    """Longer than a heartbeat lasts: it is not forgotten, its place is not given away, and its owner can stop it."""
    (desk, desks), (root, roots) = new_token("desk", ["ingest", "read"]), new_token("root", ["admin"])
    (tmp_path / "tokens.toml").write_text(desks + "sessions = 1\n" + roots)
    options = ("--redis", redis_url, "--ray-address", ray_address, "--tokens", str(tmp_path / "tokens.toml"))
    push: Any = {"source": {"kind": "push", "tracks": [{"name": "Mara"}]}}
    with gateways(tmp_path, 1, *options) as (gateway,):
        async with client(gateway, desk) as http, client(gateway, root) as admin:
            assert (await http.post("/sessions", json=HEARD | push | {"id": "stalls"})).status_code == 201
            process = await process_of("stalls")
            os.kill(process, signal.SIGSTOP)
            async with asyncio.timeout(20):
                while (await http.get("/sessions/stalls")).json()["state"] == "live":
                    await asyncio.sleep(0.2)
            assert (await http.post("/sessions", json=HEARD | push | {"id": "more"})).status_code == 429
            refused = await admin.delete("/sessions/stalls/data", params={"gone": True})
            assert refused.status_code == 409 and "its process is there" in refused.text
            assert (await http.delete("/sessions/stalls")).status_code == 202, "its owner may still stop it"
            os.kill(process, signal.SIGCONT)
            log = await log_until(redis_url, "stalls", None)
            assert log[-1].reason == "interrupted"  # type: ignore[union-attr]
            assert (await http.delete("/sessions/stalls")).status_code == 409
            started = await http.post("/sessions", json=HEARD | push | {"id": "next"})
            assert started.status_code == 201, "what has ended does not count"
            assert (await http.delete("/sessions/next")).status_code == 202


async def test_gateways_with_a_ray_each_share_the_ids(tmp_path: Path, redis_url: str) -> None:
    """One id is taken once, one that may live is not forgotten without a word for it, nor lives on if it was, and a
    session whose Ray went with its gateway is ended by another."""
    push: Any = {"id": "shared", "source": {"kind": "push", "tracks": [{"name": "Mara"}]}}
    with gateways(tmp_path, 2, "--redis", redis_url) as (one, other):
        async with client(one) as first, client(other) as second:
            answers = await asyncio.gather(*(each.post("/sessions", json=HEARD | push) for each in (first, second)))
            assert sorted(answer.status_code for answer in answers) == [201, 409]
            owner = one if answers[0].status_code == 201 else other
            left = second if owner is one else first
            refused = await left.delete("/sessions/shared/data")
            assert refused.status_code == 409 and "is live" in refused.text
            with Redis.from_url(redis_url) as store:
                (process,) = [
                    each for each in psutil.Process(owner.process.pid).children(recursive=True)
                    if "ServedSessionActor" in "".join(each.cmdline()[:1])
                ]  # fmt: skip
                process.suspend()
                async with asyncio.timeout(20):
                    while store.exists(Keys("shared").alive):
                        await asyncio.sleep(0.2)
                refused = await left.delete("/sessions/shared/data")
                assert refused.status_code == 409 and "nobody can ask" in refused.text
                done = await left.delete("/sessions/shared/data", params={"gone": True})
                assert done.status_code == 200 and not any(done.json()["left"].values()), done.text
                process.resume()
                async with asyncio.timeout(30):
                    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                        await asyncio.sleep(0.2)  # it lived, and ends itself
                assert list(store.scan_iter("*{shared}*")) == [Keys("shared").forgotten.encode()]
                assert not store.hexists(Keys("shared").directory, "shared")
            heir = first if owner is one else second
            assert (await heir.post("/sessions", json=HEARD | push | {"id": "orphan"})).status_code == 201
            owner.process.kill()
            log = await log_until(redis_url, "orphan", None)
            assert "its process was killed" in log[-1].reason  # type: ignore[union-attr]
            assert (await left.delete("/sessions/orphan/data")).status_code == 200
