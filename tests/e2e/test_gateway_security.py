"""A real gateway, and those who mean it ill."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import wave
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import httpx
import pytest
import websockets

from tests.support.cameras import packet, rtsp_server, talk_over_rtsp
from tests.support.commands import here
from tests.support.gateways import HEARD, Gateway, events_of, gateways
from tests.support.paths import DEMO
from tests.support.recordings import silence, voice
from tests.support.senders import site, transport_stream
from workers.gateway.access import new_token
from workers.gateway.local_token import token_path

LINK = re.compile(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)")
PUSH = {"kind": "push", "tracks": [{"name": "Mara"}]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str) -> Iterator[Gateway]:
    """Open to this machine, with one address that it may fetch from."""
    options = ("--redis", redis_url, "--ray-address", ray_address, "--pull-from", "127.0.0.1")
    with gateways(tmp_path_factory.mktemp("gateway"), 1, *options, "--upload", "16") as (one,):
        yield one


async def fetch(gateway: Gateway, url: str) -> tuple[int, str]:
    """How a session that fetches this begins, or ends: status and what is told."""
    async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
        answer = await client.post("/sessions", json=HEARD | {"source": {"kind": "url", "url": url}})
    if answer.status_code != 201:
        return answer.status_code, answer.json()["detail"]
    return 201, (await events_of(gateway, answer.json()["id"]))[-1]["reason"]


async def test_a_stream_leads_to_no_other_place(gateway: Gateway, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(talk := transport_stream(voice(2)))
    with site({"/secret.ts": talk}, "127.0.0.2") as (inside, looked):
        lists = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"
        pages = {
            "/talk.ts": talk,
            "/away.ts": f"{inside}/secret.ts",
            "/local.ts": f"file://{secret}",
            "/away.m3u8": lists.format(f"{inside}/secret.ts").encode(),
            "/local.m3u8": lists.format(f"file://{secret}").encode(),
            "/passwd.m3u8": lists.format("file:///etc/passwd").encode(),
        }
        with site(pages) as (url, asked):
            assert await fetch(gateway, f"{url}/talk.ts") == (201, "end of source")
            for page in [*list(pages)[1:], "/talk.ts+camera:/etc/passwd"]:
                status, told = await fetch(gateway, f"{url}{page}")
                assert told != "end of source" and "\n" not in told, (page, status, told)
                assert asked[-1] == page
        for url in (f"{inside}/secret.ts", inside.replace("127.0.0.2", "2130706434"), f"file://{secret}"):
            status, told = await fetch(gateway, url)
            assert status == 422 and told.startswith("source: ")
        assert looked == []


async def test_a_camera_leads_to_no_other_camera(gateway: Gateway) -> None:
    with rtsp_server(talk_over_rtsp, "127.0.0.2") as forbidden:

        def answer(method: str, number: str) -> bytes:
            if method != "DESCRIBE":
                return talk_over_rtsp(method, number)
            head, location = f"RTSP/1.0 302 Moved\r\n{number}\r\n", f"Location: {forbidden.url}\r\n\r\n"
            return head.encode() + packet(b"a packet between them") + location.encode()

        with rtsp_server(answer) as camera:
            status, told = await fetch(gateway, camera.url)
        assert camera.connections >= 1 and told != "end of source" and "\n" not in told, (status, told)
        assert forbidden.connections == 0


async def test_what_would_grow_beyond_measure_is_refused(gateway: Gateway) -> None:
    slow = BytesIO()
    with wave.open(slow, "wb") as file:
        file.setparams((1, 1, 1, 0, "NONE", ""))
        file.writeframes(bytes(1000))
    async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:

        async def sent(content: bytes, **headers: str) -> tuple[int, str]:
            answer = await client.post("/recordings", params=HEARD | {"name": "x"}, content=content, headers=headers)
            return answer.status_code, answer.json()["detail"]

        assert await sent(slow.getvalue()) == (
            422, "x: audio at 1 Hz with 1 channels; supported are 4000 … 384000 Hz and at most 64 channels"
        )  # fmt: skip
        assert await sent(silence(13 * 60, True)) == (422, "x: 13.0 h long; at most 12 h are accepted")
        assert (await sent(b"ffconcat version 1.0\nfile 'pyproject.toml'\n"))[0] == 422
        assert await sent(bytes(17 << 20)) == (413, "a recording may have 16 MB at most")
        packed = gzip.compress(DEMO.read_bytes())
        assert (await sent(packed, **{"Content-Encoding": "gzip"}))[0] == 415
        assert (await sent(packed))[0] == 422


async def test_a_message_that_unpacks_to_much_ends_its_connection(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
        session = (await client.post("/sessions", json=HEARD | {"source": PUSH})).json()["id"]
        async with websockets.connect(f"{gateway.ws}/sessions/{session}/tracks/0?format=pcm") as socket:
            await socket.recv()
            with suppress(websockets.ConnectionClosed):
                await socket.send(bytes(64 << 20))  # 64 KB on the wire
                await asyncio.wait_for(socket.recv(), 20)
        assert socket.close_code == 1009
        assert (await client.delete(f"/sessions/{session}")).status_code == 202


async def test_without_a_token_file_it_wants_the_token_that_it_prints(
    tmp_path: Path, redis_url: str, ray_address: str
) -> None:
    """Other users of the machine reach the port, too."""
    options = ("--redis", redis_url, "--ray-address", ray_address)
    with gateways(tmp_path, 1, *options, invited=True) as (gateway,):
        found = LINK.search(gateway.log.read_text())
        assert found and found[1] == gateway.http
        secret = found[2]
        started = HEARD | {"source": PUSH}
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            assert (await client.get("/")).status_code == 200 and (await client.get("/readyz")).status_code == 200
            for wrong in ({}, {"Authorization": f"Bearer {secret}x"}):
                for method, path in (
                    ("GET", "/me"), ("GET", "/sessions"), ("GET", "/options"), ("GET", "/metrics"),
                    ("DELETE", "/sessions/x"), ("DELETE", "/sessions/x/data"), ("POST", "/recordings?consent=x"),
                ):  # fmt: skip
                    assert (await client.request(method, path, headers=wrong)).status_code == 401, path
                assert (await client.post("/sessions", json=started, headers=wrong)).status_code == 401
            assert (await client.get(f"/me?token={secret}")).status_code == 401
            bearer = {"Authorization": f"Bearer {secret}"}
            assert set((await client.get("/me", headers=bearer)).json()["scopes"]) == {
                "admin",
                "edit",
                "ingest",
                "read",
            }
            answer = await client.post("/sessions", json=started, headers=bearer)
            assert answer.status_code == 201, answer.text
            session = answer.json()["id"]
            assert (await client.get("/me", headers=bearer | {"Host": "evil.example"})).status_code == 403
        for path in ("events", "tracks/0"):
            async with websockets.connect(f"{gateway.ws}/sessions/{session}/{path}") as socket:
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1008
            offered = ["undertone", f"bearer.{secret}"]
            async with websockets.connect(f"{gateway.ws}/sessions/{session}/{path}", subprotocols=offered) as socket:
                assert await socket.recv()
        file = token_path(gateway.port)
        assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
        assert here("token", "--port", gateway.port).stdout == f"{secret}\n"
        assert gateway.log.read_text().count(secret) == 1
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.process.wait, 60) == 0
    assert not file.exists()
    gone = here("token", "--port", gateway.port)
    assert gone.returncode == 2 and "undertone serve" in gone.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_another_user_of_the_machine_gets_nowhere(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    options = ("--redis", redis_url, "--ray-address", ray_address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        with gateways(tmp_path, 1, *options, invited=True) as (gateway,):
            asked = ["curl", "-s", "-w", "%{http_code}", "-o", "/dev/null", f"{gateway.http}/sessions"]
            assert subprocess.run(asked, user="nobody", capture_output=True, text=True, cwd="/").stdout == "401"
            for folder in (tmp_path, *tmp_path.parents):  # the file's own protection, not pytest's
                if folder.owner() == "root" and folder.parent != folder and "pytest" in str(folder):
                    folder.chmod(0o755)
            token = state / "undertone" / "gateways" / f"{gateway.port}.token"
            done = subprocess.run(["cat", token], user="nobody", capture_output=True, text=True)
            assert done.returncode and "Permission denied" in done.stderr, done.stderr


async def test_no_query_string_is_logged(gateway: Gateway) -> None:
    """Clients put there what is nobody's business: tokens, consent, names."""
    before = len(gateway.log.read_text())
    for path in ("/me", "/nowhere", "/sessions/absent/events", "/sessions/absent/tracks/0", "/v1/listen"):
        async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            await client.get(f"{path}?token=hidden")
        with suppress(websockets.WebSocketException):
            async with websockets.connect(f"{gateway.ws}{path}?token=hidden&after=hidden") as socket:
                await asyncio.wait_for(socket.recv(), 20)
    async with httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
        await client.post("/recordings?consent=hidden", content=b"hidden")
        assert (await client.get("/sessions/absent/media?ticket=hidden")).status_code == 401
        session = (await client.post("/sessions", json=HEARD | {"source": PUSH})).json()["id"]
        async with websockets.connect(f"{gateway.ws}/sessions/{session}/events?after=hidden") as socket:
            await socket.recv()
        await client.delete(f"/sessions/{session}")
    log = gateway.log.read_text()[before:]
    lines = [json.loads(line) for line in log.splitlines()]
    sockets = [line for line in lines if line["event"] == "websocket"]
    assert not [line for line in lines if "hidden" in str(line)] and len(sockets) == 6
    assert (sockets[-1]["route"], sockets[-1]["token"]) == ("/sessions/{session}/events", "loopback")
    assert session not in str(sockets)


def test_what_serve_refuses(tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text(new_token("desk", ["read"])[1])
    for options, complaint in [
        (("--no-token", "--host", "0.0.0.0"), "--host 0.0.0.0: other machines need --tokens FILE"),
        (("--no-token", "--tokens", tmp_path / "tokens.toml"), "contradict each other"),
        (("--pull-from", "http://cdn.example.org"), "--pull-from: 'http://cdn.example.org' is no host"),
        (("--prefix", "a{b}"), "undertone: --prefix: 'a{b}': letters"),
        (("--tokens", "/nonexistent"), "/nonexistent"),
        (("--media", "/nonexistent"), "no such folder"),
        (("--record", __file__), "no folder"),
        (("--trace",), "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ]:
        done = here("serve", *options)
        assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr, done.stderr
