"""Shared state of the routes: the operator's settings, access control, and dependencies of the routes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, HTTPException, Query, Request
from starlette.requests import HTTPConnection

from model.device import DeviceChoice
from stream.bus.directory import SessionInfo, overview
from stream.bus.keys import RETENTION_S, SESSION_ID
from stream.clock import Clock, MonotonicClock
from workers.cluster.request import Place
from workers.gateway.access import Access, Refused, Scope, Token
from workers.gateway.exporting import Exporter
from workers.gateway.loading import Loading
from workers.gateway.metrics import Metrics
from workers.gateway.places import Places
from workers.gateway.playables import Playables
from workers.gateway.summaries import Summaries

MAX_UPLOADS, MAX_TOKEN_UPLOADS = 4, 2  # recordings taken at once, in all and of a token: each is held in memory whole
MAX_CONNECTIONS = 400  # event streams and WebSockets at once: with one to Redis each, 800 of the usual 1,024 files
MAX_EXPORTS, MAX_TOKEN_EXPORTS = 16, 4  # exports made or waiting at once


@dataclass(frozen=True)
class Settings:
    """Settings of the operator."""

    redis: str
    prefix: str = "undertone"
    record: Path | None = None
    """Folder for recordings; None = sessions cannot be recorded."""
    media: Path | None = None
    """Folder of files that sessions may play; None = none."""
    pull_from: frozenset[str] = frozenset()
    """Hosts, addresses and networks that streams may be fetched from."""
    origins: frozenset[str] = frozenset()
    """Other web pages that may use the gateway (CORS)."""
    upload: int = 256
    """Maximum size of an uploaded recording in MiB."""
    asr_model: str | None = None
    """faster-whisper model: a size, Hugging Face id or folder; None = the best installed one."""
    device: DeviceChoice = "auto"
    """Device of the models."""
    kept: int = RETENTION_S
    """Retention of events in Redis, in seconds after the last event of a session."""
    operator: str | None = None
    """Redis URL with a user that may delete; None = `redis`."""
    private_ray: bool = False
    """Ray was started for this gateway: its sessions end with this process."""
    preload: bool = False
    """The models of sessions are loaded on every node before the gateway is ready."""
    local: bool = False
    """For this machine alone, since there is no token file."""

    @property
    def folders(self) -> list[Path]:
        """The operator's folders, which no answer names."""
        model = Path(self.asr_model) if self.asr_model else None
        given = [each for each in (self.record, self.media, model) if each is not None and each.is_dir()]
        return [*given, *(each.resolve() for each in given)]

    @property
    def place(self) -> Place:
        return Place(
            self.redis, self.prefix, self.record, self.media, self.asr_model, self.pull_from, self.kept, self.device
        )


@dataclass
class State:
    """Shared state of the routes."""

    settings: Settings
    access: Access
    metrics: Metrics
    clock: Clock = field(default_factory=MonotonicClock)
    loading: Loading = field(default_factory=Loading)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set before shutdown: no new sessions are started, and event streams end so that clients go elsewhere."""
    ingest_tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """One task for each connection that sends media."""
    custody: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody has seen a session that may be lost (`workers.gateway.custody`)."""
    listening: set[asyncio.Task[None]] = field(default_factory=set)
    """One task for each WebSocket that receives events."""
    detach_calls: set[asyncio.Future[None]] = field(default_factory=set)
    """Pending calls that inform sessions of a disconnected sender."""
    uploads: Places = field(
        default_factory=lambda: Places("recordings that are being sent", MAX_UPLOADS, MAX_TOKEN_UPLOADS, 10)
    )
    exports: Places = field(default_factory=lambda: Places("exports", MAX_EXPORTS, MAX_TOKEN_EXPORTS, 5))
    exporter: Exporter = field(default_factory=Exporter)
    summaries: Summaries = field(init=False)
    playables: Playables = field(init=False)
    open_connections: Counter[str] = field(default_factory=Counter)
    """Number of event streams and WebSockets by token."""

    def __post_init__(self) -> None:
        self.summaries, self.playables = Summaries(self.clock), Playables(self.exporter)

    @contextmanager
    def connected(self, token: Token) -> Iterator[None]:
        """Count a long-lived connection of a token. Raises Refused: 429 if the token has too many, 503 if all have."""
        if self.open_connections[token.name] >= token.connections:
            raise Refused(
                429, f"token {token.name}: at most {token.connections} connections at once, and as many are open", 10
            )
        if self.open_connections.total() >= MAX_CONNECTIONS:
            raise Refused(503, f"this gateway has {MAX_CONNECTIONS} connections, and takes no more; try again", 10)
        self.open_connections[token.name] += 1
        try:
            yield
        finally:
            self.open_connections[token.name] -= 1

    def look_after(self, found: Sequence[SessionInfo]) -> None:
        """Have lost sessions ended soon, if there are any among these."""
        if any(info.state == "lost" for info in found):
            self.custody.set()

    def detached(self, call: asyncio.Future[None]) -> None:
        """Forget a finished call; an error means that the session has ended itself."""
        self.detach_calls.discard(call)
        call.cancelled() or call.exception()


def state_of(connection: HTTPConnection) -> State:
    """State of the application that serves this request or WebSocket."""
    state: State = connection.app.state.undertone
    return state


def bearer(connection: HTTPConnection) -> str | None:
    """The token of the Authorization header."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token else None


class RequiredScope:
    """Dependency that returns the caller's token if it has the scope (None: any token). Raises Refused."""

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> Token:
        state = state_of(request)
        try:
            token = await state.access.admit(bearer(request), self._scope)
        except Refused as error:
            state.metrics.refused.labels(
                {401: "token", 403: "scope", 429: "rate"}.get(error.http_status, "other")
            ).inc()
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
    state.look_after(found)
    return found[0]


StateDep = Annotated[State, Depends(state_of)]
ReaderDep = Annotated[Token, Depends(RequiredScope("read"))]
IngesterDep = Annotated[Token, Depends(RequiredScope("ingest"))]
EditorDep = Annotated[Token, Depends(RequiredScope("edit"))]
AdminDep = Annotated[Token, Depends(RequiredScope("admin"))]
AnybodyDep = Annotated[Token, Depends(RequiredScope(None))]
AfterQuery = Annotated[str | None, Query(max_length=200, description="Continue after this event id.")]
