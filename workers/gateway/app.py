"""The application: routes, errors, what runs beside them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from ray.exceptions import RayError
from redis.exceptions import RedisError

from stream.bus.connection import BusError
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.errors import one_line
from workers.gateway import pages, sessions, sockets
from workers.gateway.access import Access, Refused
from workers.gateway.metrics import Metrics
from workers.gateway.middleware import RequestGuard
from workers.gateway.state import Settings, State

log = structlog.get_logger("undertone.gateway")


class Problem(BaseModel):
    """Why a request is refused."""

    detail: str
    """In one line."""


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "No request that can be read",
        401: "No token, or an unknown one",
        403: "The token does not allow this",
        404: "No such session",
        409: "The session's state does not allow this",
        413: "The recording is too large",
        422: "What was asked cannot be done",
        429: "Too many requests or sessions",
        503: "Not just now",
    }.items()
}


def create_app(settings: Settings, access: Access, clock: Clock = MonotonicClock()) -> FastAPI:
    """The application; Ray has to be connected when it starts to serve."""
    state = State(settings, access, Metrics(clock), clock)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        counting = asyncio.create_task(
            state.metrics.follow(settings.redis, settings.prefix, f"gateway-{secrets.token_hex(4)}")
        )
        yield
        await cancelled(counting)
        await access.aclose()

    app = FastAPI(
        title="Undertone", version=version("undertone"), lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Recognizes emotion in conversation while it goes on.",
    )  # fmt: skip
    app.state.undertone = state
    app.add_middleware(RequestGuard, metrics=state.metrics, origins=settings.origins, private=access.open, clock=clock)
    app.mount("/static", StaticFiles(directory=pages.PAGE), name="static")
    # Swagger UI's own files, which FastAPI would have browsers fetch from elsewhere.
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger")
    for part in (pages, sessions, sockets):
        app.include_router(part.router, responses=REFUSALS)
    _errors(app)
    return app


def _errors(app: FastAPI) -> None:
    """One line for whatever goes wrong."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"detail": error.detail}, error.status, headers)

    async def away(request: Request, error: Exception) -> JSONResponse:
        log.warning("unavailable", error=type(error).__name__)
        return JSONResponse({"detail": "Redis or Ray cannot be reached just now"}, 503, {"Retry-After": "5"})

    async def misunderstood(request: Request, error: Exception) -> JSONResponse:
        # FastAPI's own answer repeats the input, which may be long, or nothing that JSON can hold.
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"detail": one_line(f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")}, 422)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, misunderstood)
    for kind in (RedisError, BusError, RayError, OSError):
        app.add_exception_handler(kind, away)
