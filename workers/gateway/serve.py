"""The gateway as a process: Ray, Redis, logs, and a graceful end."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import ray
import structlog
import uvicorn
from fastapi import FastAPI
from ray.exceptions import RayError
from structlog.typing import EventDict

from stream.bus.connection import public
from stream.bus.tasks import cancelled, seen
from stream.errors import one_line
from stream.repeats import RepeatFilter, Repeats
from workers.cluster.actors import own_node_is_dead
from workers.cluster.session_actor import find_session
from workers.console.display import tell
from workers.console.terminal import harmless, libraries_log
from workers.errors import WorkersError
from workers.gateway.access import Access, Token, one_time_token
from workers.gateway.app import create_app
from workers.gateway.loading import start_everywhere
from workers.gateway.local_token import remove_token, write_token
from workers.gateway.state import Settings, State

FAILED = 400  # the first status of an answer that is none
LOST = 1006  # the last code of a WebSocket that ended without a complaint
PING = 20.0  # seconds between pings of a WebSocket
SHUTDOWN_S = 5  # seconds that requests in progress have to end
RAY_POLL_S = 5.0  # seconds between looks at this gateway's node of Ray
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # of a name's addresses, as ::1 where IPv6 is off
PIECE = 1 << 20  # maximum size of a WebSocket message in bytes, after decompression
log = structlog.get_logger("undertone.gateway")


class CannotListen(WorkersError):
    """The gateway cannot have the address and port that it is to listen on."""


class RayLost(WorkersError):
    """The node of Ray that the gateway belongs to has died, which no gateway survives."""


class Invitation:
    """The address that is printed once the gateway listens; with a one-time token, which its user's programs find."""

    def __init__(
        self, host: str, redis: str, secret: str | None, listening: Callable[[str], object] | None = None
    ) -> None:
        """redis: URL of the events' Redis; secret: the one-time token, None = there is none; listening: as in `serve`;
        what it is called with it prints itself."""
        self._host, self._redis, self._secret, self._port = host, redis, secret, 0
        self._listening = listening

    def publish(self, port: int) -> None:
        """Print the address. The token is its fragment, which browsers send to nobody."""
        self._port = port
        address = f"http://[{self._host}]:{port}" if ":" in self._host else f"http://{self._host}:{port}"
        if not sys.stderr.isatty():  # there a line for a person is enough, and this address has no token
            log.info("serving", address=address)
        if self._secret is not None:
            address += f"/#token={self._secret}"
            try:
                write_token(port, self._secret)
            except OSError as error:
                log.warning("the token is in no file", error=error.strerror)
        if self._listening is None:
            tell(f"Open {address}  (Ctrl-C stops)")
        tell(f"events: {public(self._redis)}")
        if self._listening is not None:
            self._listening(address)

    def withdraw(self) -> None:
        """Remove what `publish` left."""
        if self._secret is not None:
            remove_token(self._port, self._secret)


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Sockets for all addresses of a host, bound to the port (0: any free one); `serve` listens.

    Raises CannotListen.
    """
    bound: list[socket.socket] = []
    fault: OSError | None = None
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                listener = socket.socket(family, kind, protocol)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address[0], bound[0].getsockname()[1] if bound else port, *address[2:]))
                bound.append(listener)
            except OSError as error:
                fault = fault or error
                if error.errno not in NOT_HERE:
                    raise
    except OSError as error:
        fault, bound = error, []
    if not bound and fault is not None:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        taken = "the port is taken; choose another --port" if fault.errno == errno.EADDRINUSE else fault.strerror
        raise CannotListen(f"cannot listen on {place}: {taken}")
    return bound


def serve(
    settings: Settings,
    tokens: list[Token] | None,
    host: str,
    listeners: list[socket.socket],
    drain: float,
    open_to_all: bool = False,
    listening: Callable[[str], object] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises CannotListen.

    tokens: None = there is no token file; host: as it stands in the printed address; listeners: as `listen_on` returns
    them; drain: seconds that senders of media have to move elsewhere; open_to_all: without a token file there is no
    one-time token either; listening: called with the printed address.
    """
    configure_logs()
    secret = None
    if tokens is None and not open_to_all:
        secret, entry = one_time_token()
        tokens = [entry]
    app = create_app(settings, Access(tokens, settings.redis, settings.prefix))
    invitation = Invitation(host, settings.redis, secret, listening)
    server = Server(configuration(app), app.state.undertone, drain, invitation)
    try:
        server.run(listeners)
    except OSError as error:  # another has begun to listen since
        raise CannotListen(f"cannot listen on {host}: {error.strerror}") from None
    finally:
        invitation.withdraw()
    if server.has_lost_ray:
        raise RayLost(
            "Ray on this machine has died, and the gateway ends with it: start it again, as a supervisor does (Ray's"
            f" lines: {libraries_log()})"
        )


def configuration(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Config:
    """Settings of uvicorn for the gateway."""
    return uvicorn.Config(
        app, host, port, log_config=None, access_log=False, server_header=False, ws="websockets-sansio",
        ws_max_size=PIECE, ws_ping_interval=PING, ws_ping_timeout=PING, lifespan="on",
        timeout_graceful_shutdown=SHUTDOWN_S,
    )  # fmt: skip


class Server(uvicorn.Server):
    """uvicorn with draining: at shutdown event streams end at once, and senders of media have `drain` seconds."""

    def __init__(self, config: uvicorn.Config, state: State, drain: float, invitation: Invitation) -> None:
        super().__init__(config)
        self._state, self._drain, self._invitation = state, drain, invitation
        self._leaving: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self.has_lost_ray = False
        """True if the server ended because its node of Ray has died."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then publish the address."""
        await super().startup(sockets)
        if self.started:
            self._invitation.publish(self.servers[0].sockets[0].getsockname()[1])
            self._watching = asyncio.create_task(self._watch_ray())
            if (settings := self._state.settings).preload:
                start = functools.partial(start_everywhere, settings.asr_model, settings.device)
                self._loading = asyncio.create_task(self._state.loading.run(start, _say))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what `startup` began. Clients that do not read their events are cut off before uvicorn loses patience."""
        for task in (self._watching, self._loading):
            if task is not None:
                await cancelled(task)
        cutting_off = asyncio.get_running_loop().call_later(SHUTDOWN_S - 1, self._cut_off)
        await super().shutdown(sockets)
        cutting_off.cancel()

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _watch_ray(self) -> None:
        """End the server once its node is dead: clients are told to go elsewhere, and a supervisor starts it anew."""
        while not await asyncio.to_thread(own_node_is_dead):
            await self._state.clock.sleep(RAY_POLL_S)
        self._state.draining.set()
        self.has_lost_ray = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts draining, a second one ends the process at once."""
        if self._state.draining.is_set():
            super().handle_exit(sig, frame)
            return
        asyncio.get_running_loop().call_soon_threadsafe(self._begin_to_leave)

    def _begin_to_leave(self) -> None:
        self._state.draining.set()
        self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        log.info("draining", senders=len(self._state.ingest_tasks))
        if self._state.settings.private_ray:
            await _end_sessions(self._drain)
        for connections, patience in ((self._state.ingest_tasks, self._drain), (self._state.listening, 5)):
            if connections:
                await asyncio.wait(connections, timeout=patience)
        self.should_exit = True


async def _end_sessions(timeout: float) -> None:
    """Stop the sessions of a private Ray, which would die with it; media received so far is still labelled."""
    names = [entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)]
    stopping = []
    for name in names:
        with suppress(RayError):
            actor = find_session(name.removeprefix("session:")) if name.startswith("session:") else None
            if actor is not None:
                stopping.append(asyncio.ensure_future(actor.stop.remote()))
                stopping[-1].add_done_callback(seen)  # those that are late end with Ray
    if stopping:
        done, late = await asyncio.wait(stopping, timeout=timeout)
        failed = [task for task in done if isinstance(task.exception(), RayError)]
        log.info("sessions ended", ended=len(done) - len(failed), cut_off=len(late))


def _say(line: str) -> None:
    """A line for the person at the terminal; in a log it is one of its objects."""
    if sys.stderr.isatty():
        tell(line)
    else:
        log.info(line)


def _short(_logger: object, _method: str, entry: EventDict) -> str:
    """Renderer of log entries for a person. Raises DropEvent for a request that went well: the page makes many."""
    told = dict(entry)
    event, level, trace = str(told.pop("event")), told.pop("level", "info"), told.pop("exception", None)
    told.pop("timestamp", None)
    if event in ("request", "websocket"):
        has_failed = told.get("status", 0) >= FAILED or (told.get("code") or 0) > LOST
        if not has_failed or told["route"] == "/readyz":  # whose answer is no failure
            raise structlog.DropEvent
        event = f"{told.pop('method', event)} {told.pop('route')}"
    details = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items())
    line = f"{'' if level == 'info' else f'{level}: '}{event}{f' ({details})' if details else ''}"
    return harmless(one_line(line) + (f"\n{trace}" if trace else ""))


def configure_logs() -> None:
    """Log one JSON object per line to stderr; on a terminal short lines, and of requests those alone that fail."""
    pretty = sys.stderr.isatty()
    repeats = Repeats()

    def counted(_logger: object, level: str, line: EventDict) -> EventDict:
        """Warnings that repeat are counted; requests are told each."""
        if level in ("warning", "error"):
            more = repeats.more((line["event"], line.get("error")))
            if more is None:
                raise structlog.DropEvent
            line["event"] += more
        return line

    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render = _short if pretty else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[counted, *shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # uvicorn and others log through the standard library; the same lines for them, from warnings upwards.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=render, foreign_pre_chain=shared))
    handler.addFilter(RepeatFilter())  # what fails a thousand times a second must not fill the disk
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # At INFO it logs query strings of WebSockets, at DEBUG every frame, and with it words of conversations.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
