"""The live service: real gateways over one Ray and one Redis."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import httpx
import numpy as np
import pytest
import undertone as program
import websockets
from av.stream import Disposition

from stream.block import RATE
from stream.bus.subscriber import history
from stream.events import parse
from tests.support.commands import labels, undertone
from tests.support.gateways import HEARD, Gateway, events_of, free_port, gateways, pcm
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.recordings import film, voice, webm, write_tracks, write_wav
from workers.cluster.session_actor import find_session
from workers.gateway.access import new_token

TWO_TRACKS, NONE = "2026-11-26T12:30:00.mkv", Disposition(0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str) -> Iterator[list[Gateway]]:
    """Two gateways side by side, open to this machine."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "records").mkdir()
    (folder / "media").mkdir()
    shutil.copy(DEMO, folder / "media" / "demo.opus")
    shutil.copy(DEMO_TRANSCRIPT, folder / "media" / "demo.stm")
    write_tracks(folder / "media" / TWO_TRACKS, [(voice(1), NONE), (voice(2), NONE)])
    (folder / "media" / "outside.opus").symlink_to("/etc/hostname")
    options = ("--redis", redis_url, "--ray-address", ray_address, "--record", str(folder / "records"))
    with gateways(folder, 2, *options, "--media", str(folder / "media"), "--pull-from", "media.example.org") as both:
        yield both


async def send(gateway: Gateway, session: str, track: int, data: bytes, seconds: float, form: str = "pcm") -> None:
    """At the pace at which it was said."""
    async with websockets.connect(
        f"{gateway.ws}/sessions/{session}/tracks/{track}?format={form}&rate={RATE}"
    ) as socket:
        assert json.loads(await socket.recv()) == {"type": "ready"}
        pieces = max(1, round(10 * seconds))
        size = len(data) // pieces // 2 * 2 + 2
        for first in range(0, len(data), size):
            await socket.send(data[first : first + size])
            await asyncio.sleep(0.1)


async def test_two_tracks_are_pushed_and_labels_come_out(
    pair: list[Gateway], demo_audio: np.ndarray, redis_url: str, ray_address: str
) -> None:
    """WebM as a browser sends it, and raw samples; fed through one gateway, read from the other, recorded."""
    gateway, other = pair
    said = demo_audio[:, : 12 * RATE]
    tracks = [{"name": "Mara"}, {"name": "Jonas"}]
    async with httpx.AsyncClient(base_url=gateway.http, timeout=120) as client:
        started = await client.post(
            "/sessions", json=HEARD | {"source": {"kind": "push", "tracks": tracks}, "record": True}
        )
        assert started.status_code == 201, started.text
        info = started.json()
        assert info["state"] == "live" and info["consent"] == "synthetic voices" and info["recorded"]
        session = info["id"]
        events, *_ = await asyncio.gather(
            events_of(other, session),
            send(gateway, session, 0, webm(said[0]), 12, "webm"),
            send(gateway, session, 1, pcm(said[1]), 12),
        )
        labels = [event for event in events if event["type"] == "emotion" and not event["revision"]]
        turns = [speaker for speaker, _ in groupby(event["speaker"] for event in labels)]
        assert turns == ["Mara", "Jonas", "Mara"]  # a sender that a busy machine holds up has its utterance cut in two
        assert events[0]["type"] == "session.started" and events[0]["recorded"]
        assert events[-1]["type"] == "session.ended" and events[-1]["reason"] == "end of source"
        assert (await client.get(f"/sessions/{session}")).json()["state"] == "ended"
        listed = (await client.get("/sessions")).json()["sessions"]
        assert session in [each["id"] for each in listed]
        folder = gateway.log.parent / "records" / session
        for _ in range(200):  # the recorder receives the last event at the same time as we do
            recorded = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
            if len(recorded) == len(events):
                break
            await asyncio.sleep(0.05)
        assert [event["id"] for event in recorded] == [event["id"] for event in events]
    again = undertone("replay", folder, "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address)
    replayed = [json.loads(line) for line in again.stdout.splitlines()]
    emotions = [[e["probabilities"] for e in each if e["type"] == "emotion"] for each in (events, replayed)]
    assert emotions[0] == emotions[1] and again.returncode == 0


async def test_a_subscriber_changes_gateway_and_misses_nothing(
    tmp_path: Path, redis_url: str, ray_address: str, pair: list[Gateway]
) -> None:
    """The gateway that started the session drains and goes while the session goes on; its subscriber moves on."""
    with gateways(tmp_path, 1, "--redis", redis_url, "--ray-address", ray_address) as (leaving,):
        content = DEMO.read_bytes()
        async with httpx.AsyncClient(base_url=leaving.http, timeout=120) as client:
            started = await client.post("/recordings", params=HEARD | {"name": "a.opus", "speed": "8"}, content=content)
            assert started.status_code == 201, started.text
        session = started.json()["id"]
        got: list[dict] = []
        async with websockets.connect(f"{leaving.ws}/sessions/{session}/events") as socket:
            with suppress(websockets.ConnectionClosed):
                async for message in socket:
                    got.append(json.loads(message))
                    if len(got) == 5:
                        leaving.process.send_signal(signal.SIGTERM)
        assert socket.close_code == 1012 and got[-1]["type"] != "session.ended"
        assert await asyncio.to_thread(leaving.process.wait, 30) == 0
    got += await events_of(pair[0], session, got[-1]["id"])
    everything = await history(redis_url, session)
    assert [event["id"] for event in got] == [event.id for event in everything]
    assert got[-1]["type"] == "session.ended" and got[-1]["reason"] == "end of source"


async def test_a_sender_changes_gateway(pair: list[Gateway], demo_audio: np.ndarray) -> None:
    """A connection that breaks is told of, and the track goes on through the other gateway."""
    source = {"kind": "push", "tracks": [{"name": "Mara"}]}
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        session = (await client.post("/sessions", json=HEARD | {"source": source})).json()["id"]
    said = pcm(demo_audio[0, : 5 * RATE])
    reading = asyncio.create_task(events_of(pair[1], session))
    with suppress(websockets.ConnectionClosed):
        async with websockets.connect(f"{pair[0].ws}/sessions/{session}/tracks/0?format=pcm") as socket:
            await socket.recv()
            for first in range(0, len(said), 3200):
                await socket.send(said[first : first + 3200])
                await asyncio.sleep(0.1)
            socket.transport.abort()
    await asyncio.sleep(1)
    await send(pair[1], session, 0, said, 5)
    events = await reading
    notices = [event["reason"] for event in events if event["type"] == "degraded"]
    assert any("connection was lost" in notice for notice in notices) and any("is back" in notice for notice in notices)
    assert events[-1]["counts"]["reconnects"] == 1
    assert len([event for event in events if event["type"] == "emotion" and not event["revision"]]) == 2


async def test_a_session_that_is_killed_after_its_sender_left_ends_as_it_would_have(
    pair: list[Gateway], demo_audio: np.ndarray
) -> None:
    """Nobody comes to say again that the track is over."""
    source = {"kind": "push", "tracks": [{"name": "Mara"}]}
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        session = (await client.post("/sessions", json=HEARD | {"source": source})).json()["id"]
    actor = find_session(session)
    assert actor is not None
    process = await actor.__ray_call__.remote(lambda self: os.getpid())
    await send(pair[0], session, 0, pcm(demo_audio.sum(0)[: 9 * RATE]), 9)
    os.kill(process, signal.SIGKILL)
    events = await events_of(pair[1], session)
    assert events[-1]["type"] == "session.ended" and events[-1]["reason"] == "end of source", events[-1]
    assert any("another process goes on" in event.get("reason", "") for event in events)


async def test_server_sent_events_resume(pair: list[Gateway], redis_url: str) -> None:
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        source = {"kind": "file", "name": "demo.opus", "speed": None}
        session = (await client.post("/sessions", json=HEARD | {"source": source})).json()["id"]
        everything = []
        async with client.stream("GET", f"/sessions/{session}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            everything = [line async for line in response.aiter_lines()]
        ids = [line.removeprefix("id: ") for line in everything if line.startswith("id: ")]
        assert ids == [event.id for event in await history(redis_url, session)]
        rest = (await client.get(f"/sessions/{session}/events", headers={"Last-Event-ID": ids[-3]})).text
        assert [line[4:] for line in rest.splitlines() if line.startswith("id: ")] == ids[-2:]
        parse(next(line for line in rest.splitlines() if line.startswith("data: ")).removeprefix("data: "))
        exported = await client.get(f"/sessions/{session}/export/csv")
        assert exported.headers["content-disposition"] == f'attachment; filename="{session}.csv"'
        assert exported.text.count("\n") > 10


async def test_the_words_of_a_file_may_lie_beside_it(pair: list[Gateway], redis_url: str) -> None:
    source = {"kind": "file", "name": "demo.opus", "speed": None, "transcript": "demo.stm"}
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        body = HEARD | {"source": source, "modalities": ["text"]}
        session = (await client.post("/sessions", json=body)).json()["id"]
    said = [event["text"] for event in await events_of(pair[1], session) if event["type"] == "utterance"]
    assert said == [line.split(maxsplit=5)[5] for line in DEMO_TRANSCRIPT.read_text().splitlines()]


async def test_a_track_of_a_file_whatever_its_name(pair: list[Gateway], tmp_path: Path) -> None:
    recording = write_tracks(tmp_path / "a.mkv", [(voice(1), NONE), (voice(2), NONE)]).read_bytes()
    source = {"kind": "file", "name": TWO_TRACKS, "speed": None, "track": 2}
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        session = (await client.post("/sessions", json=HEARD | {"source": source})).json()["id"]
        events = await events_of(pair[1], session)
        assert events[-1]["reason"] == "end of source" and events[-1]["duration"] == 2
        absent = await client.post("/sessions", json=HEARD | {"source": source | {"track": 3}})
        assert absent.status_code == 422 and "has no audio track 3; it has 2" in absent.text
        sent = await client.post("/recordings", params=HEARD | {"name": "a.mkv", "track": 3}, content=recording)
        assert sent.status_code == 422 and "a.mkv: has no audio track 3; it has 2" in sent.text


@pytest.mark.data
async def test_who_speaks_is_found_in_a_first_pass_whichever_way_a_recording_comes(
    pair: list[Gateway], data: Path, redis_url: str, ray_address: str
) -> None:
    """A telephone call: the command, an upload, a file of the server, and a program find the same."""
    call = data / "conversations" / "telephone" / "sample.wav"
    shutil.copy(call, pair[0].log.parent / "media" / "call.wav")
    options = ("--modalities", "audio", "--people", "2", "--speed", "max", "--json", "--redis", redis_url)
    replayed = await asyncio.to_thread(undertone, "replay", call, *options, "--ray-address", ray_address)
    ways = {"the command": [json.loads(line) for line in replayed.stdout.splitlines()]}
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        asked = HEARD | {"people": "2"}
        sent = await client.post(
            "/recordings", params=asked | {"name": "call.wav", "speed": "max"}, content=call.read_bytes()
        )
        ways["an upload"] = await events_of(pair[1], sent.json()["id"])
        source = {"kind": "file", "name": "call.wav", "speed": None}
        played = await client.post("/sessions", json=asked | {"source": source})
        ways["a file"] = await events_of(pair[1], played.json()["id"])
    settings = program.Settings(modalities=("audio",), people="2", asr="none")
    events = await asyncio.to_thread(lambda: list(program.analyse(call, settings=settings)))
    ways["a program"] = [json.loads(event.wire()) for event in events]
    turns = {}
    for way, told in ways.items():
        assert "in a first pass" in told[0]["encoders"]["speaker"] and told[-1]["reason"] == "end of source", way
        turns[way] = [(label["audio_start"], label["audio_end"], label["speaker"]) for label in labels(told)]
    assert {speaker for *_, speaker in turns["the command"]} == {"speaker 1", "speaker 2"}
    for way in turns:
        assert turns[way] == turns["the command"], way


async def test_a_session_is_stopped_while_it_finds_who_speaks(pair: list[Gateway], tmp_path: Path) -> None:
    """One voice for ten minutes, to which a first pass listens for one."""
    recording = write_wav(tmp_path / "long.wav", np.tile(voice(6), 100)[None]).read_bytes()
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        sent = await client.post("/recordings", params=HEARD | {"name": "long.wav", "speed": "max"}, content=recording)
        assert sent.status_code == 201, "it has begun"
        session = sent.json()["id"]
        assert (await client.get(f"/sessions/{session}")).json()["state"] == "live"
        assert (await client.delete(f"/sessions/{session}")).status_code == 202
        async with asyncio.timeout(15):
            events = await events_of(pair[1], session)
    assert "in a first pass" in events[0]["encoders"]["speaker"]
    assert (events[-1]["reason"], events[-1]["utterances"], events[-1]["duration"]) == ("interrupted", 0, 0)


async def test_a_session_is_stopped(pair: list[Gateway]) -> None:
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=120) as client:
        source = {"kind": "file", "name": "demo.opus", "speed": 1}
        people = [{"name": "Mara", "agreed": True}, {"name": "Jonas", "agreed": True}]
        consent = {"people": people, "how": "by mail", "when": "2026-11-01T09:00:00Z", "purpose": "a test"}
        session = (await client.post("/sessions", json=HEARD | {"consent": consent, "source": source})).json()["id"]
        await asyncio.sleep(3)
        assert (await client.delete(f"/sessions/{session}")).status_code == 202
        events = await events_of(pair[1], session)
        assert events[-1]["reason"] == "interrupted" and events[-1]["duration"] < 20
        agreed = {"people": ["Mara", "Jonas"], "how": "by mail", "when": "2026-11-01T09:00+00:00", "purpose": "a test"}
        assert events[0]["agreement"] == agreed
        assert events[0]["consent"] == "Mara, Jonas agreed (by mail, 2026-11-01T09:00+00:00) to: a test"
        assert (await client.delete(f"/sessions/{session}")).status_code == 409


async def test_bad_requests_are_refused_in_one_line(pair: list[Gateway]) -> None:
    push = {"kind": "push", "tracks": [{}]}
    file = {"kind": "file", "name": "demo.opus"}
    asked = {"how": "by mail", "when": "2026-11-01T09:00:00Z", "purpose": "a test"}
    refused = asked | {"people": [{"name": "Ann", "agreed": True}, {"name": "Ben", "agreed": False}]}
    cases = [
        ({"source": push}, 422, "consent"),
        (HEARD | {"source": push, "consent": refused}, 422, "Ben did not agree: no session begins"),
        (HEARD | {"source": push, "consent": asked | {"people": []}}, 422, "people"),
        (
            HEARD
            | {"source": push, "consent": asked | {"people": [{"name": "Ann", "agreed": True}], "when": "yesterday"}},
            422,
            "when",
        ),
        (HEARD | {"source": push, "id": "a{b}"}, 422, "id"),
        (HEARD | {"source": push, "id": "../etc"}, 422, "id"),
        (HEARD | {"source": {"kind": "push", "tracks": []}}, 422, "tracks"),
        (HEARD | {"source": {"kind": "push", "tracks": [{}, {}]}}, 422, "tracks: several need a name each"),
        (HEARD | {"source": {"kind": "url", "url": "file:///etc/passwd"}}, 422, "file URL"),
        (HEARD | {"source": {"kind": "url", "url": "http://169.254.169.254/"}}, 422, "not a host"),
        (HEARD | {"source": {"kind": "file", "name": "../../etc/passwd"}}, 422, "no file"),
        (HEARD | {"source": {"kind": "file", "name": "outside.opus"}}, 422, "no file"),
        (HEARD | {"source": file | {"transcript": "../../etc/passwd"}}, 422, "no file"),
        (HEARD | {"source": file | {"transcript": "demo.opus"}}, 422, "a transcript must be one of"),
        (HEARD | {"source": push, "checkpoint": "../../x"}, 422, "checkpoint"),
        (HEARD | {"source": push, "checkpoint": "absent"}, 422, "no checkpoint"),
        (HEARD | {"source": push, "surprise": 1}, 422, "surprise"),
    ]
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=60) as client:
        for body, status, word in cases:
            answer = await client.post("/sessions", json=body)
            assert answer.status_code == status and word in answer.text, (body, answer.text)
        broken = await client.post("/recordings", params=HEARD | {"name": "x.wav"}, content=b"no media at all")
        assert broken.status_code == 422 and "x.wav: not a media file" in broken.json()["detail"]
        assert (await client.post("/recordings", params=HEARD, content=b"")).status_code == 422
        assert (await client.get("/sessions/absent")).status_code == 404
        assert (await client.get("/sessions/a%7Bb%7D/events")).status_code == 404
        assert (await client.get("/metrics", headers={"Host": "evil.example"})).status_code == 403
        assert (await client.get("/sessions", headers={"Origin": "https://evil.example"})).status_code == 403
        page = await client.get("/")
        assert "default-src 'self'" in page.headers["content-security-policy"]
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(f"{pair[0].ws}/sessions/x/events", origin="https://evil.example"):
            pass
    async with websockets.connect(f"{pair[0].ws}/sessions/absent/tracks/0") as socket:
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1008 and "no such session" in str(socket.close_reason)


async def refusal(gateway: Gateway, session: str, content: bytes) -> str:
    """What a sender of WebM hears that sends this, and then waits."""
    async with websockets.connect(f"{gateway.ws}/sessions/{session}/tracks/0?format=webm") as socket:
        assert json.loads(await socket.recv()) == {"type": "ready"}
        await socket.send(content)
        async with asyncio.timeout(5):
            told = json.loads(await socket.recv())
            await socket.wait_closed()
    assert told["type"] == "error" and (socket.close_code, socket.close_reason) == (1008, told["message"])
    return str(told["message"])


async def test_nonsense_on_a_track_is_said_at_once_and_the_session_goes_on(
    pair: list[Gateway], demo_audio: np.ndarray
) -> None:
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=60) as client:
        source = {"kind": "push", "tracks": [{"name": "Mara"}]}
        session = (await client.post("/sessions", json=HEARD | {"source": source})).json()["id"]
    async with websockets.connect(f"{pair[0].ws}/sessions/{session}/tracks/7?format=pcm") as socket:
        assert "track 7" in json.loads(await socket.recv())["message"]
    async with websockets.connect(f"{pair[0].ws}/sessions/{session}/tracks/0?format=mp3") as socket:
        assert "format 'mp3'" in json.loads(await socket.recv())["message"]
    reading = asyncio.create_task(events_of(pair[1], session))
    whole = webm(demo_audio[0, : 5 * RATE])
    assert "no WebM header" in await refusal(pair[0], session, whole[whole.index(b"\x1f\x43\xb6\x75") :])
    assert "has no audio track" in await refusal(pair[0], session, film())
    await send(pair[0], session, 0, whole, 5, "webm")
    events = await reading
    assert len([event for event in events if event["type"] == "emotion" and not event["revision"]]) == 1
    assert any("no WebM header" in event["reason"] for event in events if event["type"] == "degraded")
    assert events[-1]["reason"] == "end of source"


async def test_a_sender_that_pauses_is_heard_at_the_right_times(pair: list[Gateway]) -> None:
    """As with a muted microphone: nothing comes while nobody talks."""
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=60) as client:
        source = {"kind": "push", "tracks": [{"name": "Mara"}]}
        session = (await client.post("/sessions", json=HEARD | {"source": source})).json()["id"]
    reading = asyncio.create_task(events_of(pair[1], session))
    begins, loop = [0.0, 4.0, 10.0, 13.0], asyncio.get_running_loop()
    async with websockets.connect(f"{pair[0].ws}/sessions/{session}/tracks/0?format=pcm") as socket:
        await socket.recv()
        start = loop.time()
        for number, begin in enumerate(begins):
            said = pcm(voice(2.0, seed=number))
            for first in range(0, len(said), 3200):
                await asyncio.sleep(start + begin + (first + 3200) / 32_000 - loop.time())
                await socket.send(said[first : first + 3200])
        await asyncio.sleep(1)
    events = await reading
    heard = [event["audio_start"] for event in events if event["type"] == "emotion" and not event["revision"]]
    # A busy machine may hear the first sound late; a pause that was lost would be a second and more.
    assert [at - heard[0] for at in heard] == pytest.approx(begins, abs=0.6)
    assert not [event for event in events if event["type"] == "degraded"]


async def test_tokens_decide_who_may_what(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    made = {name: new_token(name, [name]) for name in ("ingest", "read", "admin")}
    (tmp_path / "tokens.toml").write_text("\n".join(entry for _, entry in made.values()))
    options = ("--redis", redis_url, "--ray-address", ray_address, "--tokens", str(tmp_path / "tokens.toml"))
    with gateways(tmp_path, 1, *options) as (gateway,):
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            bearer = {name: {"Authorization": f"Bearer {secret}"} for name, (secret, _) in made.items()}
            assert (await client.get("/healthz")).status_code == 200
            nobody = await client.get("/me")
            assert nobody.status_code == 401 and nobody.headers["www-authenticate"] == "Bearer"
            assert (await client.get("/sessions", headers=bearer["read"])).status_code == 200
            assert (await client.get("/metrics")).status_code == 401
            body = HEARD | {"source": {"kind": "push", "tracks": [{"name": "Mara"}]}}
            refused = await client.post("/sessions", json=body, headers=bearer["read"])
            assert refused.status_code == 403 and refused.json()["detail"] == "token read lacks the scope ingest"
            started = await client.post("/sessions", json=body, headers=bearer["ingest"])
            session = started.json()["id"]
            stranger = await client.delete(f"/sessions/{session}", headers=bearer["read"])
            assert stranger.status_code == 403
            async with websockets.connect(
                f"{gateway.ws}/sessions/{session}/events", subprotocols=["undertone", f"bearer.{made['read'][0]}"]
            ) as socket:
                assert json.loads(await socket.recv())["type"] == "session.started"
                assert socket.subprotocol == "undertone"
            async with websockets.connect(f"{gateway.ws}/sessions/{session}/events") as socket:
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1008
            assert (await client.delete(f"/sessions/{session}", headers=bearer["admin"])).status_code == 202
    assert all(secret not in gateway.log.read_text() for secret, _ in made.values())


async def test_a_real_prometheus_scrapes_both(pair: list[Gateway], tmp_path: Path, redis_url: str) -> None:
    """Every label is counted once, whichever gateway counts it."""
    port = free_port()
    targets = [f"127.0.0.1:{gateway.port}" for gateway in pair]
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "undertone", "static_configs": [{"targets": targets}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    async with httpx.AsyncClient(base_url=pair[0].http, timeout=60) as client:
        before = await _counted(pair)
        source = {"kind": "file", "name": "demo.opus", "speed": None}
        session = (await client.post("/sessions", json=HEARD | {"source": source})).json()["id"]
    events = await events_of(pair[0], session)
    labels = sum(event["type"] == "emotion" and event["latency"] is not None for event in events)
    command = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    prometheus = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        query = "sum(undertone_label_seconds_count)"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for _ in range(100):
                await asyncio.sleep(0.2)
                with suppress(httpx.TransportError, IndexError, KeyError):
                    result = (await client.get("/api/v1/query", params={"query": query})).json()["data"]["result"]
                    if float(result[0]["value"][1]) == before + labels:
                        break
            else:
                raise AssertionError(f"{result} is not {before} + {labels}")
            up = (await client.get("/api/v1/query", params={"query": "up"})).json()["data"]["result"]
            assert [each["value"][1] for each in up] == ["1", "1"]
    finally:
        prometheus.terminate()
        prometheus.wait()


async def _counted(pair: list[Gateway]) -> float:
    """Labels that both have counted, once they count no more."""
    last = -1.0
    async with httpx.AsyncClient() as client:
        while True:
            texts = [(await client.get(f"{gateway.http}/metrics")).text for gateway in pair]
            lines = [line for text in texts for line in text.splitlines()]
            now = sum(float(line.split()[1]) for line in lines if line.startswith("undertone_label_seconds_count"))
            if now == last:
                return now
            last = now
            await asyncio.sleep(1.5)
