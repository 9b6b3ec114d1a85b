"""A gateway in the process of a test, over a real Redis and without Ray, and a client of it."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import websockets

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.events import SessionEnded
from workers.gateway.access import Access, Token, new_token
from workers.gateway.app import create_app
from workers.gateway.serve import Invitation, Server, configuration
from workers.gateway.state import Settings, State


class Door:
    """A gateway in this process, and a client of it."""

    def __init__(self, client: httpx.AsyncClient, state: State, token: Token) -> None:
        self.client, self.state, self.token = client, state, token

    async def closed(self, path: str) -> tuple[int | None, str | None]:
        """How a WebSocket ends: code and reason."""
        address = str(self.client.base_url).replace("http", "ws", 1).rstrip("/") + path
        headers = {"Authorization": self.client.headers["Authorization"]}
        async with websockets.connect(address, additional_headers=headers) as socket:
            with suppress(websockets.ConnectionClosed):
                while True:
                    await asyncio.wait_for(socket.recv(), 20)
        return socket.close_code, socket.close_reason


@asynccontextmanager
async def door(
    redis: str,
    origins: frozenset[str] = frozenset(),
    scopes: Sequence[str] = ("admin",),
    record: Path | None = None,
    **limits: int | str,
) -> AsyncIterator[Door]:
    secret, entry = new_token("desk", list(scopes))
    token = Token.model_validate(tomllib.loads(entry)["token"][0] | limits)
    app = create_app(Settings(redis, origins=origins, upload=1, record=record), Access([token], redis, "undertone"))
    state: State = app.state.undertone
    server = Server(configuration(app, "127.0.0.1", 0), state, 0, Invitation("127.0.0.1", redis, None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
        yield Door(client, app.state.undertone, token)
    server.should_exit = True
    await serving


async def finished(redis: str, session: str) -> None:
    """A session that has been."""
    bus = Bus(redis, Keys(session))
    await bus.register("2026-01-01T00:00:00Z")
    counts: dict[str, int] = {}
    bus.publish(
        SessionEnded(
            id=f"{session}:ended", session=session, reason="end", duration=0, utterances=0, failed=0, counts=counts
        )
    )
    assert await bus.aclose()
