"""The application: routes, errors, what runs beside them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from ray.exceptions import RayError
from redis.exceptions import RedisError

from stream.bus import BusError
from workers.gateway import pages, sessions, sockets
from workers.gateway.access import Access, Refused
from workers.gateway.metrics import Metrics
from workers.gateway.middleware import Watchman
from workers.gateway.state import Settings, State

log = structlog.get_logger("undertone.gateway")


def create_app(settings: Settings, access: Access) -> FastAPI:
    """The application; Ray has to be connected when it starts to serve."""
    state = State(settings, access, Metrics())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        counting = asyncio.create_task(
            state.metrics.follow(settings.redis, settings.prefix, f"gateway-{secrets.token_hex(4)}")
        )
        yield
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting
        await access.aclose()

    app = FastAPI(
        title="Undertone", version=version("undertone"), lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Recognizes emotion in conversation while it goes on.",
    )  # fmt: skip
    app.state.undertone = state
    app.add_middleware(Watchman, metrics=state.metrics, origins=settings.origins, private=access.open)
    app.mount("/static", StaticFiles(directory=pages.PAGE), name="static")
    # Swagger UI's own files, which FastAPI would have browsers fetch from elsewhere.
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger")
    for part in (pages, sessions, sockets):
        app.include_router(part.router)
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

    app.add_exception_handler(Refused, refused)
    for kind in (RedisError, BusError, RayError, OSError):
        app.add_exception_handler(kind, away)
