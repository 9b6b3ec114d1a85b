"""The page, its files, and what operators ask: health, readiness, figures, options."""

from __future__ import annotations

import asyncio
from pathlib import Path

import ray
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from ray.exceptions import RayError

import stream
from model.fusion.checkpoint import shipped
from stream.bus.connection import BusError, check
from stream.exports import FORMATS
from workers.gateway.access import Scope
from workers.gateway.state import AnybodyDep, ReaderDep, StateDep
from workers.session import masking

PAGE = Path(stream.__file__).parent / "dashboard"
router = APIRouter(tags=["operation"])


class Me(BaseModel):
    """Who is asking."""

    name: str
    scopes: list[Scope]


class Export(BaseModel):
    """A format that sessions can be downloaded in."""

    format: str
    suffix: str
    media_type: str
    title: str


class Offer(BaseModel):
    """What a session can be started with here."""

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
    return FileResponse(PAGE / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    return FileResponse(PAGE / "docs.html")


@router.get("/healthz")
async def healthz() -> str:
    """The process lives."""
    return "ok"


@router.get("/readyz", responses={503: {"description": "Not ready, or draining"}})
async def readyz(response: Response, state: StateDep) -> dict[str, bool]:
    """Redis and Ray answer, and we are not about to go."""
    ready = {"redis": await _answers(state.settings.redis), "ray": await _cluster_answers()}
    if state.draining.is_set():
        ready["draining"] = True
    response.status_code = 503 if state.draining.is_set() or not all(ready.values()) else 200
    return ready


@router.get(
    "/metrics", response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' format"}},
)  # fmt: skip
async def metrics(state: StateDep, token: ReaderDep) -> Response:
    """Figures for Prometheus."""
    return Response(
        await state.metrics.scrape(state.settings.redis, state.settings.prefix), media_type="text/plain; version=0.0.4"
    )


@router.get("/me")
async def me(token: AnybodyDep) -> Me:
    """Who you are to us."""
    return Me(name=token.name, scopes=sorted(token.scopes))


@router.get("/options")
async def options(state: StateDep, token: AnybodyDep) -> Offer:
    """What a session can be started with here."""
    settings = state.settings
    return Offer(
        checkpoints=shipped(),
        asr=["auto", "whisper", "none"],
        modalities=["text", "audio", "visual"],
        record=settings.record is not None,
        mask=masking.available(),
        media=settings.media is not None,
        pull_from=sorted(settings.pull_from),
        exports=[
            Export(format=f.name, suffix=f.suffix, media_type=f.media_type, title=f.title) for f in FORMATS.values()
        ],
    )


async def _answers(redis: str) -> bool:
    try:
        await check(redis)
    except BusError:
        return False
    return True


async def _cluster_answers() -> bool:
    def nodes() -> bool:
        return ray.is_initialized() and any(node["Alive"] for node in ray.nodes())

    try:
        return await asyncio.wait_for(asyncio.to_thread(nodes), 5)
    except (TimeoutError, RayError):
        return False
