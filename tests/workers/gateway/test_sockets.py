"""Incoming media while the session does not take it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import uvicorn
import websockets

from stream.bus.keys import Keys
from workers.cluster.request_files import PIECE_BYTES
from workers.gateway import sockets
from workers.gateway.access import Access
from workers.gateway.app import create_app
from workers.gateway.state import Settings


class StalledActor:
    """An actor whose process is stopped for a while, as Ray shows it: calls are answered late."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.received: list[bytes] = []
        self.is_final: bool | None = None
        self.attach = self.push = self.detach = self.watch = self

    async def _answer(self, *arguments: Any) -> None:
        match arguments:
            case (_, _, bytes() as piece):
                await self.awake.wait()
                self.received.append(piece)
            case (_, _, bool() as is_final):
                self.is_final = is_final
            case (_, _):  # the track is read to its end
                await asyncio.Event().wait()

    def remote(self, *arguments: Any) -> asyncio.Future[None]:
        return asyncio.ensure_future(self._answer(*arguments))


async def test_a_sender_stays_connected_while_its_session_stalls(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pings are answered, and what it sends is kept in order."""
    actor = StalledActor()
    monkeypatch.setattr(sockets, "find_session", lambda session: actor)
    app = create_app(Settings(redis_url), Access(None, redis_url, Keys("any").prefix))
    config = uvicorn.Config(
        app, "127.0.0.1", 0, log_config=None, ws="websockets-sansio", ws_ping_interval=0.2, ws_ping_timeout=0.2
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    pieces = [bytes([number]) * size for number, size in enumerate((3200, 3200, 200_000, 3200))]
    url = f"ws://127.0.0.1:{port}/sessions/any/tracks/0"
    async with websockets.connect(url, ping_interval=0.2, ping_timeout=0.2) as socket:
        assert json.loads(await socket.recv()) == {"type": "ready"}
        for piece in pieces:
            await socket.send(piece)
            await asyncio.sleep(0.5)  # longer than a ping may take
        actor.awake.set()
    async with asyncio.timeout(5):
        while actor.is_final is None:
            await asyncio.sleep(0.02)
    assert socket.close_code == 1000 and actor.is_final
    assert b"".join(actor.received) == b"".join(pieces)
    assert max(map(len, actor.received)) <= PIECE_BYTES
    server.should_exit = True
    await serving
