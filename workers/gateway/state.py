"""What the routes share: the operator's settings, access, and who may do what."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, HTTPException, Query, Request
from starlette.requests import HTTPConnection

from stream.bus.directory import SessionInfo, overview
from stream.bus.keys import SESSION_ID
from stream.bus.publisher import RETENTION_S
from stream.clock import Clock, MonotonicClock
from workers.cluster.request import Place
from workers.gateway.access import Access, Refused, Scope, Token
from workers.gateway.metrics import Metrics

MAX_UPLOADS = 4  # recordings taken at once: each is held in memory whole


@dataclass(frozen=True)
class Settings:
    """What the operator decided."""

    redis: str
    prefix: str = "undertone"
    record: Path | None = None
    """Recordings are kept here; None = sessions cannot be recorded."""
    media: Path | None = None
    """Files that sessions may play; None = none."""
    pull_from: frozenset[str] = frozenset()
    """Hosts, addresses and networks that streams may be fetched from."""
    origins: frozenset[str] = frozenset()
    """Other web pages that may talk to us (CORS)."""
    upload: int = 256
    """Megabytes of a recording that is sent whole."""
    asr_model: str | None = None
    """faster-whisper: a size, Hugging Face id or folder; None = the best that is here."""
    kept: int = RETENTION_S
    """Seconds that Redis keeps events after a session's last."""
    operator: str | None = None
    """Redis as who may delete; None = as in `redis`."""

    @property
    def place(self) -> Place:
        return Place(self.redis, self.prefix, self.record, self.media, self.asr_model, self.pull_from, self.kept)


@dataclass
class State:
    """What the routes share."""

    settings: Settings
    access: Access
    metrics: Metrics
    clock: Clock = field(default_factory=MonotonicClock)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """We are about to go: no new sessions; who listens is sent elsewhere."""
    feeding: set[asyncio.Task[None]] = field(default_factory=set)
    """Open connections that send media."""
    listening: set[asyncio.Task[None]] = field(default_factory=set)
    """Open connections that receive events."""
    telling: set[asyncio.Future[None]] = field(default_factory=set)
    """Sessions that are told that a sender is gone."""
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_UPLOADS))
    open: Counter[str] = field(default_factory=Counter)
    """Streams and WebSockets of each token."""

    @contextmanager
    def connected(self, token: Token) -> Iterator[None]:
        """Count a connection that stays. Raises Refused (429)."""
        if self.open[token.name] >= token.connections:
            raise Refused(429, f"token {token.name}: {token.connections} connections at once, and so many are open", 10)
        self.open[token.name] += 1
        try:
            yield
        finally:
            self.open[token.name] -= 1

    def told(self, telling: asyncio.Future[None]) -> None:
        """A session knows, or is gone itself."""
        self.telling.discard(telling)
        telling.cancelled() or telling.exception()


def state_of(connection: HTTPConnection) -> State:
    """Of the application that serves this request or WebSocket."""
    state: State = connection.app.state.undertone
    return state


def bearer(connection: HTTPConnection) -> str | None:
    """The token of the Authorization header."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token else None


class RequiredScope:
    """A dependency: the caller's token, if it has the scope."""

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> Token:
        state = state_of(request)
        try:
            token = await state.access.admit(bearer(request), self._scope)
        except Refused as error:
            state.metrics.refused.labels({401: "token", 403: "scope", 429: "rate"}.get(error.status, "other")).inc()
            raise
        request.state.token = token.name
        return token


async def known(state: State, session: str) -> SessionInfo:
    """A session of the directory. Raises HTTPException (404)."""
    found = []
    if SESSION_ID.fullmatch(session):
        found = await overview(state.settings.redis, state.settings.prefix, [session])
    if not found:
        raise HTTPException(404, f"no session {session[:64]!r}")
    return found[0]


StateDep = Annotated[State, Depends(state_of)]
ReaderDep = Annotated[Token, Depends(RequiredScope("read"))]
IngesterDep = Annotated[Token, Depends(RequiredScope("ingest"))]
AdminDep = Annotated[Token, Depends(RequiredScope("admin"))]
AnybodyDep = Annotated[Token, Depends(RequiredScope(None))]
AfterQuery = Annotated[str | None, Query(max_length=200, description="Go on after this event id.")]
