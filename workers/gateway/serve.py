"""The gateway as a process: Ray, Redis, logs, and a graceful end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from types import FrameType
from typing import Any

import ray
import structlog
import uvicorn
from fastapi import FastAPI
from ray.exceptions import RayError

from stream.repeats import RepeatFilter, Repeats
from workers.cluster.session_actor import find_session
from workers.errors import WorkersError
from workers.gateway.access import Access, Token
from workers.gateway.app import create_app
from workers.gateway.state import Settings, State

PING = 20.0  # seconds between pings of a WebSocket
PIECE = 1 << 20  # maximum size of a WebSocket message in bytes, after decompression
log = structlog.get_logger("undertone.gateway")


class ServeError(WorkersError):
    """The gateway cannot serve as asked."""

    exit_code = 2


def serve(
    settings: Settings, tokens: list[Token] | None, host: str, port: int, drain: float, private_ray: bool
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises ServeError.

    drain: seconds that senders of media have to move elsewhere; private_ray: sessions end with this process.
    """
    configure_logs()
    app = create_app(settings, Access(tokens, settings.redis, settings.prefix))
    server = Server(configuration(app, host, port), app.state.undertone, drain, private_ray)
    log.info("serving", address=f"http://{host}:{port}", tokens=tokens is not None, recording=bool(settings.record))
    server.run()
    if not server.started:
        raise ServeError(f"cannot listen on {host}:{port}: is the port taken?")


def configuration(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """Settings of uvicorn for the gateway."""
    return uvicorn.Config(
        app, host, port, log_config=None, access_log=False, server_header=False, ws="websockets-sansio",
        ws_max_size=PIECE, ws_ping_interval=PING, ws_ping_timeout=PING, timeout_graceful_shutdown=5, lifespan="on",
    )  # fmt: skip


class Server(uvicorn.Server):
    """uvicorn with draining: at shutdown event streams end at once, and senders of media have `drain` seconds."""

    def __init__(self, config: uvicorn.Config, state: State, drain: float, private_ray: bool) -> None:
        super().__init__(config)
        self._state, self._drain, self._private_ray = state, drain, private_ray
        self._leaving: asyncio.Task[None] | None = None

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
        if self._private_ray:
            await _end_sessions(self._drain)
        for connections, patience in ((self._state.ingest_tasks, self._drain), (self._state.listening, 5)):
            if connections:
                await asyncio.wait(connections, timeout=patience)
        self.should_exit = True


async def _end_sessions(timeout: float) -> None:
    """Stop the sessions of a private Ray, which would die with it; media received so far is still labelled."""
    names = [entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)]
    actors = [find_session(name.removeprefix("session:")) for name in names if name.startswith("session:")]
    stopping = [asyncio.ensure_future(actor.stop.remote()) for actor in actors if actor is not None]
    if stopping:
        done, late = await asyncio.wait(stopping, timeout=timeout)
        failed = [task for task in done if isinstance(task.exception(), RayError)]
        log.info("sessions ended", ended=len(done) - len(failed), cut_off=len(late))


def configure_logs() -> None:
    """Log one JSON object per line to stderr; human-readable lines on a terminal."""
    pretty = sys.stderr.isatty()
    repeats = Repeats()

    def counted(_: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
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
    render = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
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
    # At DEBUG it would log every WebSocket frame, and with it words of conversations.
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
