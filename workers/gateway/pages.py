"""The dashboard page, and the routes for operation: health, readiness, metrics, options."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import ray
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from ray.exceptions import RayError

import stream
from model.fusion.checkpoint import shipped
from stream.appearance import APPEARANCES, UNKNOWN
from stream.bus.connection import BusError, check
from stream.exports import FORMATS
from workers.gateway.access import Scope
from workers.gateway.state import AnybodyDep, ReaderDep, StateDep
from workers.session import masking
from workers.session.settings import Modality

PAGE = Path(stream.__file__).parent / "dashboard"
router = APIRouter(tags=["operation"])


class Me(BaseModel):
    """The caller's token."""

    name: str
    scopes: list[Scope]


class Readiness(BaseModel):
    """The needs of a gateway before sessions are welcome, and which are met."""

    redis: bool
    ray: bool
    models: bool
    """The models that it loads when it starts are loaded."""
    draining: bool
    loading: list[str]
    """Models that are being loaded, in words for a person."""


class Export(BaseModel):
    """A file format in which sessions can be downloaded."""

    format: str
    suffix: str
    media_type: str
    title: str


class Offer(BaseModel):
    """Options for starting a session at this gateway."""

    checkpoints: list[str]
    asr: list[str]
    modalities: list[str]
    record: bool
    mask: bool
    media: bool
    pull_from: list[str]
    exports: list[Export]


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The dashboard."""
    return FileResponse(PAGE / "index.html")


@router.get("/appearance.js", include_in_schema=False)
async def appearances() -> Response:
    """The table of the emotions' appearance, as a module that the dashboard imports."""
    table = {name: asdict(look) for name, look in APPEARANCES.items()}
    names = {"APPEARANCES": table, "UNKNOWN": asdict(UNKNOWN)}
    module = "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in names.items())
    return Response(module, media_type="text/javascript")


@router.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    """The interactive documentation of the interface."""
    return FileResponse(PAGE / "docs.html")


@router.get("/healthz")
async def healthz() -> str:
    """Liveness: the process runs."""
    return "ok"


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready, or draining"}})
async def readyz(response: Response, state: StateDep) -> Readiness:
    """Readiness: Redis and Ray answer, the models are loaded, and this gateway is not draining."""
    ready = Readiness(
        redis=await _redis_answers(state.settings.redis),
        ray=await _ray_answers(),
        models=state.loading.is_over,
        draining=state.draining.is_set(),
        loading=state.loading.waiting,
    )
    is_ready = ready.redis and ready.ray and ready.models and not ready.draining
    response.status_code = 200 if is_ready else 503
    return ready


@router.get(
    "/metrics", response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' format"}},
)  # fmt: skip
async def metrics(state: StateDep, token: ReaderDep) -> Response:
    """Metrics for Prometheus."""
    return Response(
        await state.metrics.scrape(state.settings.redis, state.settings.prefix), media_type="text/plain; version=0.0.4"
    )


@router.get("/me")
async def me(token: AnybodyDep) -> Me:
    """Name and scopes of the caller's token."""
    return Me(name=token.name, scopes=sorted(token.scopes))


@router.get("/options")
async def options(state: StateDep, token: AnybodyDep) -> Offer:
    """Options for starting a session at this gateway."""
    settings = state.settings
    return Offer(
        checkpoints=shipped(),
        asr=["auto", "whisper", "none"],
        modalities=list(get_args(Modality)),
        record=settings.record is not None,
        mask=masking.available(),
        media=settings.media is not None,
        pull_from=sorted(settings.pull_from),
        exports=[
            Export(format=f.name, suffix=f.suffix, media_type=f.media_type, title=f.title) for f in FORMATS.values()
        ],
    )


async def _redis_answers(redis: str) -> bool:
    try:
        await check(redis)
    except BusError:
        return False
    return True


async def _ray_answers() -> bool:
    def has_live_node() -> bool:
        return ray.is_initialized() and any(node["Alive"] for node in ray.nodes())

    try:
        return await asyncio.wait_for(asyncio.to_thread(has_live_node), 5)
    except (TimeoutError, RayError):
        return False
