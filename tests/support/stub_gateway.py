"""What a client of a gateway sees of one, in this process: neither models nor Redis are behind it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, WebSocket

from stream.events import Event, SessionEnded
from tests.support.gateways import free_port


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the tests'."""
        yield


class StubGateway:
    """Its sessions, what they were sent, and how it answers."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[dict[str, Any]] = []
        """Bodies of the requests that started a session."""
        self.authorization: list[str | None] = []
        self.stopped: list[str] = []
        self.heard: dict[tuple[str, int], bytearray] = defaultdict(bytearray)
        """Samples by session and track."""
        self.closed: list[tuple[int, int]] = []
        """Tracks whose connection was closed by the client, with its code."""
        self.readers: list[str] = []
        """The `after` of each connection that reads events."""
        self.refusal: tuple[int, str] | None = None
        """Status and reason with which it refuses new sessions."""
        self.track_refusal: str | None = None
        """Reason with which it refuses senders."""
        self.sessions: set[str] = set()
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._sockets: set[WebSocket] = set()

    async def publish(self, *events: Event) -> None:
        async with self._changed:
            for event in events:
                self._events[event.session].append(event)
            self._changed.notify_all()

    async def drop(self) -> None:
        """Lose all connections."""
        for socket in [*self._sockets]:
            with suppress(RuntimeError):
                await socket.close(1012)

    def lose(self, session: str) -> None:
        """Know a session no more."""
        self.sessions.discard(session)
        self._events.pop(session, None)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/sessions", status_code=201)
        async def start(request: Request) -> dict[str, str]:
            if self.refusal is not None:
                raise HTTPException(*self.refusal)
            body = await request.json()
            self.requests.append(body)
            self.authorization.append(request.headers.get("authorization"))
            self.sessions.add(body["id"])
            return {"id": body["id"]}

        @app.delete("/sessions/{session}", status_code=202)
        async def stop(session: str) -> None:
            self.stopped.append(session)

        @app.websocket("/sessions/{session}/tracks/{track}")
        async def track(socket: WebSocket, session: str, track: int) -> None:
            await socket.accept()
            if session not in self.sessions:
                await socket.close(1008, "no such session of this token is running")
                return
            if self.track_refusal is not None:
                await socket.send_json({"type": "error", "message": self.track_refusal})
                await socket.close(1008, self.track_refusal)
                return
            self._sockets.add(socket)
            await socket.send_json({"type": "ready"})
            while (message := await socket.receive())["type"] != "websocket.disconnect":
                self.heard[session, track] += message["bytes"]
            self._sockets.discard(socket)
            self.closed.append((track, message["code"]))

        @app.websocket("/sessions/{session}/events")
        async def events(socket: WebSocket, session: str, after: str = "") -> None:
            await socket.accept()
            if session not in self.sessions:
                await socket.close(1008, f"no session {session!r}")
                return
            self.readers.append(after)
            self._sockets.add(socket)
            sent = 1 + next((n for n, event in enumerate(self._events[session]) if event.id == after), -1)
            with suppress(RuntimeError, asyncio.CancelledError):
                while True:
                    async with self._changed:
                        while len(self._events[session]) <= sent:
                            await self._changed.wait()
                        news = self._events[session][sent:]
                    for event in news:
                        await socket.send_text(event.wire())
                        sent += 1
                        if isinstance(event, SessionEnded):
                            await socket.close(1000)
                            return

        return app

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[StubGateway]:
        """Answers, until the context ends; connections are then lost."""
        server = _Server(uvicorn.Config(self.app(), "127.0.0.1", self.port, log_config=None, lifespan="off"))
        work = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            await work
