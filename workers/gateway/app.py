"""The web application: routes, error handlers, middleware and background tasks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from ray.exceptions import RayError
from redis.exceptions import RedisError

from model.errors import ModelError
from stream import __version__
from stream.bus.connection import BusError
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.errors import StreamError, one_line, without_folders
from workers.errors import WorkersError
from workers.gateway import annotating, deepgram, pages, playback, sessions, sockets, summarizing
from workers.gateway.access import Access
from workers.gateway.custody import ask, keep_custody
from workers.gateway.metrics import Metrics
from workers.gateway.middleware import middleware
from workers.gateway.state import Settings, State

log = structlog.get_logger("undertone.gateway")


class Problem(BaseModel):
    """The body of every refusal."""

    detail: str
    """Reason in one line."""


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "The request is malformed",
        401: "No token, or an unknown one",
        403: "The token does not allow this",
        404: "No such session",
        408: "The body comes too slowly",
        409: "The session's state does not allow this",
        413: "The recording is too large",
        415: "The body is compressed or a form",
        422: "The request cannot be fulfilled",
        429: "Too many requests or sessions",
        503: "Temporarily unavailable",
    }.items()
}


def create_app(settings: Settings, access: Access, clock: Clock = MonotonicClock()) -> FastAPI:
    """Create the application. Ray must be connected before it starts to serve."""
    state = State(settings, access, Metrics(clock), clock)
    access.is_there = ask

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        metrics_task = asyncio.create_task(
            state.metrics.follow(settings.redis, settings.prefix, f"gateway-{secrets.token_hex(4)}")
        )
        custody = asyncio.create_task(keep_custody(state))
        yield
        await state.playables.aclose()
        await cancelled(custody)
        await cancelled(metrics_task)
        await access.aclose()

    app = FastAPI(
        title="Undertone", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        middleware=middleware(state.metrics, settings.origins, private=settings.local or access.is_open, clock=clock),
        description="Recognizes emotion in conversation in real time.",
        # Its spans have query strings, and with them statements of consent and whatever else a client puts there.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )  # fmt: skip
    app.state.undertone = state
    app.mount("/static", StaticFiles(directory=pages.PAGE), name="static")
    # The files of Swagger UI, which FastAPI would load from another server.
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger")
    for part in (pages, sessions, summarizing, playback, annotating, sockets, deepgram):
        app.include_router(part.router, responses=REFUSALS)
    _add_error_handlers(app, settings)
    return app


def _add_error_handlers(app: FastAPI, settings: Settings) -> None:
    """Answer every expected error with its class's `http_status` and one line."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StreamError | ModelError | WorkersError)
        headers = {"WWW-Authenticate": "Bearer"} if error.http_status == 401 else {}
        if retry_after := getattr(error, "retry_after", None):
            headers["Retry-After"] = str(retry_after)
        return JSONResponse(
            {"detail": without_folders(one_line(str(error)), settings.folders)}, error.http_status, headers
        )

    async def unavailable(request: Request, error: Exception) -> JSONResponse:
        log.warning("unavailable", error=type(error).__name__)
        return JSONResponse({"detail": "Redis or Ray is unreachable at the moment"}, 503, {"Retry-After": "5"})

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        # FastAPI's own answer repeats the input, which may be long or not representable in JSON.
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"detail": one_line(f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")}, 422)

    for base in (StreamError, ModelError, WorkersError):
        app.add_exception_handler(base, refused)
    for kind in (RedisError, BusError, RayError, OSError):  # their messages have addresses of our own
        app.add_exception_handler(kind, unavailable)
    app.add_exception_handler(RequestValidationError, invalid)
