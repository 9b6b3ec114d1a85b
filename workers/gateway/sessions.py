"""Sessions over REST: start, list, read, stop, download."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import ray
import structlog
from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel
from ray.exceptions import RayActorError, RayError
from redis.exceptions import NoPermissionError, RedisError

from stream.bus.connection import CLAIM_TTL_S, claim, exists, release, renew_claim
from stream.bus.directory import SessionInfo, page
from stream.bus.forget import Forgotten, forget, rewrite_log
from stream.bus.keys import SESSION_ID, Keys
from stream.bus.running import state_of, taken
from stream.bus.tasks import abandon
from stream.clock import Clock
from stream.exports import FORMATS, ExportError
from stream.sources.reach import Reach
from workers.cluster.actors import ClusterError
from workers.cluster.forget_nodes import drop_everywhere, forget_on_nodes
from workers.cluster.request import MediaFile, Options, Push, SessionRequest, Upload, UploadRequest, Url
from workers.cluster.request_files import ServedRequest
from workers.cluster.session_actor import find_session, served_home, start_session
from workers.gateway.access import Refused, Token
from workers.gateway.custody import ask
from workers.gateway.state import AdminDep, IngesterDep, ReaderDep, State, StateDep, known
from workers.session.runner import MODEL_LOAD_TIMEOUT_S, SessionError

START_TIMEOUT_S = MODEL_LOAD_TIMEOUT_S + 60  # seconds that a session may take to listen
UPLOAD_TIMEOUT_S = 600.0  # seconds that a recording may take to come
PAGE, MAX_PAGE = 100, 1_000  # sessions in an answer
log = structlog.get_logger("undertone.gateway")
router = APIRouter(tags=["sessions"])
GoneQuery = Annotated[bool, Query(description="Its process is gone for certain, where nobody can be asked.")]
KINDS = {format.media_type.partition(";")[0]: {"schema": {"type": "string"}} for format in FORMATS.values()}


class Sessions(BaseModel):
    """A page of the directory, the newest first."""

    sessions: list[SessionInfo]
    next: str | None
    """`before` of the page with older ones; null if there are none."""


@router.post("/sessions", status_code=201)
async def start(request: SessionRequest, state: StateDep, token: IngesterDep) -> SessionInfo:
    """Start a session from tracks that the client will send, a stream to fetch, or a file of the media folder."""
    if isinstance(request.source, Url):
        Reach(state.settings.pull_from).check(request.source.url)  # its session asks again, at every connection
    return await begin(state, request, request.source, token)


@router.post("/recordings", status_code=201)
async def replay(
    request: Request, state: StateDep, token: IngesterDep, options: Annotated[UploadRequest, Query()]
) -> SessionInfo:
    """Upload a recording (any audio or video file, as the body) and analyse it as if live.

    While its session goes on it lies in a file that the server alone may read.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise Refused(415, "this is a form: send the file itself as the body (curl --data-binary @FILE, not -F)")
    with state.uploads.taken(token):
        content = await _body(request, state.settings.upload << 20)
    return await begin(state, options, Upload(Path(options.name).name, content, options.pace, options.track), token)


@router.get("/sessions")
async def directory(
    state: StateDep,
    token: ReaderDep,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = PAGE,
    before: Annotated[
        str | None, Query(max_length=200, pattern=r"/[^/]+$", description="`next` of the page before.")
    ] = None,
    running: Annotated[bool, Query(description="Only sessions that are not known to be over.")] = False,
) -> Sessions:
    """Sessions with events in Redis, the newest first, a page at a time."""
    found, further = await page(state.settings.redis, state.settings.prefix, limit, before, running)
    state.look_after(found)
    return Sessions(sessions=found, next=further)


@router.get("/sessions/{session}")
async def session_info(session: str, state: StateDep, token: ReaderDep) -> SessionInfo:
    """One session."""
    return await known(state, session)


@router.delete("/sessions/{session}", status_code=202)
async def stop(session: str, state: StateDep, token: IngesterDep) -> SessionInfo:
    """Stop a session: media received so far is still labelled, then the session ends."""
    info = await known(state, session)
    over = HTTPException(409, f"session {session} does not go on, or was not started by a gateway")
    if info.state == "ended":
        raise over
    if not await state.access.owns(token, session):
        raise Refused(403, f"session {session} was not started with token {token.name}")
    actor = await asyncio.to_thread(find_session, session)
    if actor is None:
        raise over
    actor.stop.remote()
    return info


@router.delete(
    "/sessions/{session}/data", responses={409: {"description": "It lives or may live, or is recorded elsewhere"}}
)
async def forget_data(session: str, state: StateDep, token: AdminDep, gone: GoneQuery = False) -> Forgotten:
    """Erase all data of a session, search again, and list what was removed and what is left (scope admin).

    Recordings and spooled events are erased on this machine and on all live nodes of the cluster. A session without a
    sign of life is erased if whoever runs it says that its process is gone. Where nobody can be asked (another Ray, a
    command on another machine), `gone` says so; if it lives all the same, it ends itself when it notices.
    """
    settings = state.settings
    redis = settings.operator or settings.redis
    if not SESSION_ID.fullmatch(session):
        raise HTTPException(404, f"no session {session[:64]!r}")
    try:
        keys, folders = Keys(session, settings.prefix), [settings.record] if settings.record else []
        for folder in folders:
            await state.playables.forget(folder / session)
        done = await forget(redis, keys, folders, ask, gone)
        state.summaries.forget(session)
        for removed, left in await forget_on_nodes(keys, folders):
            done.removed.files += removed
            done.left.files += left
        for traces in (done.removed, done.left):
            traces.files = [_in_its_folder(path, settings.record) for path in traces.files]
    except NoPermissionError:
        raise HTTPException(
            403, "the gateway's user of Redis may not delete (undertone serve --redis-operator)"
        ) from None
    except ClusterError as error:
        raise HTTPException(503, f"{error}; what other nodes keep of {session} is there still") from None
    if not done.removed:
        raise HTTPException(404, f"nothing is kept of a session {session!r}")
    log.info("session forgotten", session=session, token=token.name, left=len(done.left.lines()))
    try:
        await rewrite_log(redis)
    except (RedisError, TimeoutError) as error:
        log.warning("the append-only file of Redis has it still", session=session, error=str(error))
    return done


@router.get(
    "/sessions/{session}/export/{format}", response_class=Response,
    responses={200: {"content": KINDS, "description": "The file"}},
)  # fmt: skip
async def download(session: str, format: str, state: StateDep, token: ReaderDep) -> Response:
    """The session so far as a file."""
    await known(state, session)
    if format not in FORMATS:
        raise ExportError(f"unknown format {format[:64]!r}: one of {', '.join(FORMATS)}")
    kind = FORMATS[format]
    with state.exports.taken(token):
        content = await state.exporter.export(state.settings.redis, session, state.settings.prefix, format)
    headers = {"Content-Disposition": f'attachment; filename="{session}{kind.suffix}"'}
    return Response(content, media_type=kind.media_type, headers=headers)


def _in_its_folder(path: Path, recordings: Path | None) -> Path:
    """A file of a session without the folder of the server that it lies in."""
    return path.relative_to(recordings) if recordings and path.is_relative_to(recordings) else Path(path.name)


async def begin(state: State, options: Options, source: Push | Url | MediaFile | Upload, token: Token) -> SessionInfo:
    """Start a session of a token; returns when it listens.

    Raises Refused, HTTPException, the errors of the session's settings and source, RayError, RedisError.
    """
    settings = state.settings
    if state.draining.is_set():
        raise Refused(503, "this gateway is about to go; try again", 1)
    session = options.session or f"session-{secrets.token_hex(4)}"
    home = await asyncio.to_thread(served_home, token.name, settings.private_ray)
    request = ServedRequest(session, options, source, settings.place, home)
    if not await claim(settings.redis, request.keys):
        told = taken(request.keys, await state_of(settings.redis, request.keys))
        raise HTTPException(409, f"{told}: choose another id")
    actor, is_admitted = None, False
    claiming = asyncio.create_task(_keep_claim(settings.redis, request.keys, state.clock))
    try:
        await state.access.reserve(token, request.keys, home)
        is_admitted = True
        actor = await _start_actor(request, state.clock)
        await asyncio.wait_for(_wait_until_open(actor, session, state.clock), START_TIMEOUT_S)
    except BaseException as error:
        abandon(claiming)
        if actor is not None:
            ray.kill(actor)
        await _withdraw(state, request, is_held=is_admitted)
        if actor is None and isinstance(error, ValueError):
            raise HTTPException(409, f"session {session} is being started by somebody else") from None
        cause = getattr(error, "cause", error)  # Ray has that of an error in the actor
        if isinstance(cause, TimeoutError):
            raise SessionError("the session does not start: has the Ray cluster room for it?") from None
        raise (cause if hasattr(cause, "http_status") else error) from None
    finally:
        abandon(claiming)
    log.info("session started", session=session, token=token.name, source=type(source).__name__.lower())
    return await known(state, session)


async def _keep_claim(url: str, keys: Keys, clock: Clock) -> None:
    """Hold on to the id of a session that starts, until cancelled; if this process dies, the id is soon free again."""
    while True:
        await clock.sleep(CLAIM_TTL_S / 3)
        with suppress(RedisError, OSError):
            await renew_claim(url, keys)


async def _withdraw(state: State, request: ServedRequest, is_held: bool) -> None:
    """Give up a session that did not start; one that has published something is ended like any that is lost."""
    url, keys = state.settings.redis, request.keys
    if is_held:
        with suppress(ClusterError, RayError):
            await asyncio.to_thread(drop_everywhere, keys)
    with suppress(RedisError, OSError):
        if not await exists(url, keys):
            await state.access.withdraw(keys)
        await release(url, keys)
    state.custody.set()


async def _start_actor(request: ServedRequest, clock: Clock) -> Any:
    """Start the actor of a new session; retries, because one that has just ended may still hold the id for a moment.

    In a thread, like everything that queries Ray's control store, which blocks while the store is unreachable. Raises
    ValueError if the id is in use.
    """
    for _ in range(6):
        with suppress(ValueError):
            return await asyncio.to_thread(start_session, request)
        await clock.sleep(0.5)
    return await asyncio.to_thread(start_session, request)


async def _wait_until_open(actor: Any, session: str, clock: Clock) -> None:
    """Wait until a session is ready. If its process is killed meanwhile, Ray restarts it."""
    while True:
        try:
            await actor.opened.remote()
            return
        except RayActorError:
            with suppress(RayError):
                if await asyncio.to_thread(find_session, session) is None:
                    raise SessionError("the session's process was killed while it started") from None
            await clock.sleep(0.5)


async def _body(request: Request, limit: int) -> bytes:
    """Read the body of an upload, at most `limit` bytes. Raises HTTPException (408, 413, 422)."""
    too_large = HTTPException(413, f"a recording may have {limit >> 20} MB at most")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    pieces, size = [], 0
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            async for piece in request.stream():
                size += len(piece)
                if size > limit:
                    raise too_large
                pieces.append(piece)
    except TimeoutError:
        raise HTTPException(408, f"a recording must arrive within {UPLOAD_TIMEOUT_S // 60:.0f} min") from None
    if not size:
        raise HTTPException(422, "the body is empty: send the bytes of an audio or video file")
    return b"".join(pieces)
