"""A service to be disturbed, and every way into it: files, uploads, pushes, fetched streams, commands."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
import threading
import time
import wave
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import websockets
from redis.exceptions import RedisError

from stream.block import RATE
from stream.events import Event
from tests.chaos.truth import durable_log
from tests.support.commands import UNDERTONE
from tests.support.gateways import Gateway, free_port, pcm, wait_ready
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.recordings import webm
from tests.support.redis_servers import Server
from tests.support.senders import transport_stream

GIVEN = {"kind": "file", "name": "demo.opus", "transcript": "demo.stm", "speed": 3}
HEARD = {"kind": "file", "name": "demo.opus", "speed": 2}
PATIENCE = 600.0  # seconds after which a session that has not ended never will
PACKET_BYTES = 188  # of an MPEG transport stream
CLAIMED = 20.0  # seconds in which a session that another request has started says something
OPTIONS = {"consent": "synthetic voices", "modalities": ["text", "audio"]}


def wav(samples: np.ndarray) -> bytes:
    """Samples [n] as a WAV file."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm(samples))
    return content.getvalue()


class Camera:
    """A web server whose streams go on at their pace while nobody listens, as a camera's do."""

    def __init__(self) -> None:
        self._streams: dict[str, tuple[bytes, float]] = {}
        self._begun: dict[str, float] = {}
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._send(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, stream: bytes, seconds: float) -> None:
        """A stream, which begins when somebody connects to it."""
        self._streams[f"/{name}"] = (stream, seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _send(self, handler: BaseHTTPRequestHandler) -> None:
        stream, seconds = self._streams[handler.path]
        begun = self._begun.setdefault(handler.path, time.monotonic())
        rate = len(stream) / seconds
        # Who comes after the end gets the last second: that it is over.
        sent = round(min(seconds - 1, time.monotonic() - begun) * rate) // PACKET_BYTES * PACKET_BYTES
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(stream) - sent))
        handler.end_headers()
        with suppress(OSError):
            while sent < len(stream):
                until = sent + 10 * PACKET_BYTES
                handler.wfile.write(stream[sent:until])
                sent = until
                time.sleep(max(0.0, sent / rate - (time.monotonic() - begun)))


class Service:
    """Gateways over one Ray and one Redis, each started again when it dies, as a supervisor would."""

    def __init__(
        self,
        folder: Path,
        redis: str,
        address: str,
        count: int = 2,
        through: str | None = None,
        server: Server | None = None,
    ) -> None:
        """redis: where the log is read; through: where the service reaches it, if elsewhere; server: its process."""
        self.server, self.camera, self._address = server, Camera(), address
        self.commands: dict[str, subprocess.Popen[bytes]] = {}
        """Those that run, by session."""
        self._options = (
            "--redis", through or redis, "--ray-address", address, "--media", str(folder / "media"),
            "--pull-from", "127.0.0.1",
        )  # fmt: skip
        self._folder, self.redis = folder, redis
        (folder / "media").mkdir()
        shutil.copy(DEMO, folder / "media" / "demo.opus")
        shutil.copy(DEMO_TRANSCRIPT, folder / "media" / "demo.stm")
        self.gateways = [self._start(free_port()) for _ in range(count)]
        for gateway in self.gateways:
            wait_ready(gateway)

    def _start(self, port: int) -> Gateway:
        log = self._folder / f"gateway-{port}.log"
        command = [UNDERTONE, "serve", "--no-token", "--port", str(port), *self._options]
        with log.open("ab") as told:
            return Gateway(subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT), port, log)

    def kill_gateway(self, number: int) -> Gateway:
        """Kill one and start it anew at its port; returns the new one, which is not ready yet."""
        old = self.gateways[number]
        old.process.kill()
        old.process.wait()
        self.gateways[number] = self._start(old.port)
        return self.gateways[number]

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.process.kill()
            gateway.process.wait()
        self.camera.close()

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Of whichever gateway answers."""
        for attempt in range(120):
            gateway = self.gateways[attempt % len(self.gateways)]
            with suppress(httpx.TransportError):
                async with httpx.AsyncClient(base_url=gateway.http, timeout=120) as client:
                    answer = await client.request(method, path, **options)
                if answer.status_code not in (500, 503):
                    return answer
            await asyncio.sleep(0.5)
        raise RuntimeError(f"no gateway answers {method} {path}")

    async def play(self, session: str, source: dict[str, Any]) -> list[Event]:
        """A recording through a session, to its end; what the log holds of it."""
        asked = {**OPTIONS, "id": session, "source": source}
        if "transcript" not in source:
            asked["asr"] = "whisper"
        await self._begin(session, "/sessions", json=asked)
        return await self.end_of(session)

    async def upload(self, session: str, content: bytes, speed: float) -> list[Event]:
        """A recording that is sent whole."""
        asked = {**OPTIONS, "id": session, "asr": "none", "speed": f"{speed:g}", "name": "sent.wav"}
        await self._begin(session, "/recordings", params=asked, content=content)
        return await self.end_of(session)

    async def fetch(self, session: str, samples: np.ndarray) -> list[Event]:
        """A stream that the session fetches, live: who connects again gets what comes from then on."""
        self.camera.add(session, transport_stream(samples), len(samples) / RATE)
        source = {"kind": "url", "url": f"{self.camera.url}/{session}", "name": "Mara"}
        await self._begin(session, "/sessions", json={**OPTIONS, "id": session, "source": source, "asr": "none"})
        return await self.end_of(session)

    async def command(self, session: str, speed: float) -> list[Event]:
        """`undertone replay`, started again by whoever runs it."""
        run = [
            UNDERTONE, "replay", str(DEMO), "--transcript", str(DEMO_TRANSCRIPT), "--speed", f"{speed:g}", "--session",
            session, "--redis", self.redis, "--ray-address", self._address,
        ]  # fmt: skip
        deadline, log = time.monotonic() + PATIENCE, list[Event]()
        while time.monotonic() < deadline and not (log and log[-1].type == "session.ended"):
            with (self._folder / "commands.log").open("ab") as told:
                resume = ["--resume"] if log else []
                self.commands[session] = subprocess.Popen([*run, *resume], stdout=told, stderr=subprocess.STDOUT)
            await asyncio.to_thread(self.commands[session].wait)
            log = await self.end_of(session, 2.0)
        del self.commands[session]
        return log

    async def _begin(self, session: str, path: str, **options: Any) -> None:
        """Start a session, however many gateways are killed over it."""
        for _ in range(20):
            answer = await self.ask("POST", path, **options)
            if answer.status_code == 201:
                return
            if answer.status_code != 409:
                raise RuntimeError(answer.text)
            # The gateway that started it was killed before it could say so, or before it had started it.
            if await self.end_of(session, CLAIMED, begun=True):
                return
        raise RuntimeError(f"{session} does not begin")

    async def push(
        self, session: str, samples: np.ndarray, ports: Sequence[int] = (), format: str = "pcm"
    ) -> list[Event]:
        """A live track, sent at its pace by somebody who connects again whenever the connection is lost, if only to say
        that it is over.

        ports: where to connect, in turn; none: to the gateways. format: of WebM each connection sends a new file.
        """
        ports = ports or [gateway.port for gateway in self.gateways]
        source = {"kind": "push", "tracks": [{"name": "Mara"}]}
        asked = {**OPTIONS, "id": session, "source": source, "asr": "none"}
        await self._begin(session, "/sessions", json=asked)
        begun, length, turn = time.monotonic(), len(samples) / RATE, 0
        while time.monotonic() - begun < length + PATIENCE:
            turn += 1
            port = ports[turn % len(ports)]
            url = f"ws://127.0.0.1:{port}/sessions/{session}/tracks/0?format={format}&rate={RATE}"
            with suppress(OSError, websockets.WebSocketException, TimeoutError):
                async with websockets.connect(url, open_timeout=5, ping_timeout=10) as socket:
                    if json.loads(await asyncio.wait_for(socket.recv(), 20))["type"] != "ready":
                        raise TimeoutError
                    at = time.monotonic() - begun
                    rest = samples[round(at * RATE) :]
                    whole = await asyncio.to_thread(webm, rest) if format == "webm" and len(rest) else pcm(rest)
                    rate = len(whole) / max(length - at, 0.1)  # bytes a second
                    sent = 0
                    while sent < len(whole):
                        until = min(len(whole), sent + max(2, 2 * round(0.05 * rate)))
                        await socket.send(whole[sent:until])
                        sent = until
                        await asyncio.sleep(max(0.0, at + sent / rate - (time.monotonic() - begun)))
                    break
            await asyncio.sleep(0.3)
        return await self.end_of(session)

    async def end_of(self, session: str, patience: float = PATIENCE, begun: bool = False) -> list[Event]:
        """The log once it has the session's end (`begun`: its beginning), or when patience is at its end."""
        deadline, log = time.monotonic() + patience, list[Event]()
        while time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            with suppress(RedisError):
                log = await asyncio.to_thread(durable_log, self.redis, session)
            if log and (begun or log[-1].type == "session.ended"):
                break
        return log
