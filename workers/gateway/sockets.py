"""Events out (Server-Sent Events, WebSocket) and media in (WebSocket)."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from ray.exceptions import ActorUnavailableError, RayError
from redis.exceptions import RedisError

from stream.bus.connection import BusError
from stream.bus.keys import SESSION_ID
from stream.bus.subscriber import subscribe
from stream.errors import MediaError
from stream.events import Event
from workers.cluster.session_actor import find_session
from workers.gateway.access import Refused, Scope, Token
from workers.gateway.state import AfterQuery, ReaderDep, State, StateDep, bearer, known

QUIET = 15.0  # seconds after which a silent event stream says that it is still there
BEARER = "bearer."  # browsers cannot set headers of a WebSocket: the token comes as a subprotocol
POLICY, INTERNAL, RESTART, LATER = 1008, 1011, 1012, 1013  # close codes of RFC 6455 and its registry
Found = TypeVar("Found")
router = APIRouter(tags=["events"])


@router.get(
    "/sessions/{session}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-Sent Events: id, event, data"}},
)
async def stream_events(
    session: str,
    state: StateDep,
    token: ReaderDep,
    after: AfterQuery = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """A session's events, from the first or after one, until it ends (Server-Sent Events)."""
    await known(state, session)
    with state.connected(token):
        pass  # refused here, before the answer begins, rather than in it
    coming = subscribe(state.settings.redis, session, state.settings.prefix, last_event_id or after)
    return StreamingResponse(_sse(coming, state, token), media_type="text/event-stream")


@router.websocket("/sessions/{session}/events")
async def send_events(socket: WebSocket, session: str, state: StateDep, after: AfterQuery = None) -> None:
    """A session's events, each a text message; closes with 1000 after the last."""
    async with _welcome(state, socket, "read") as token:
        if token is None or await _checked(socket, known(state, session)) is None:
            return
        with state.metrics.sockets.labels("out").track_inprogress():
            relay = asyncio.create_task(_relay(socket, state, session, after))
            state.listening.add(relay)
            relay.add_done_callback(state.listening.discard)
            gone = asyncio.create_task(_gone(socket))
            await asyncio.wait({relay, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            relay.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await relay


@router.websocket("/sessions/{session}/tracks/{track}")
async def take_media(
    socket: WebSocket, session: str, track: int, state: StateDep, format: str = "pcm", rate: int = 16_000
) -> None:
    """Sound and pictures of one track: binary messages of WebM, or 16-bit mono PCM at `rate` Hz."""
    async with _welcome(state, socket, "ingest") as token:
        actor = None if token is None else await _checked(socket, _own_session(state, token, session))
        if actor is None:
            return
        taking = asyncio.create_task(_take(state, socket, actor, track, format, rate))
        state.feeding.add(taking)
        taking.add_done_callback(state.feeding.discard)
        with state.metrics.sockets.labels("in").track_inprogress():
            await taking


async def _coming(events: AsyncGenerator[Event], draining: asyncio.Event) -> AsyncGenerator[Event | None]:
    """Events, and None whenever none came for a while; ends when we are about to go."""
    leave = asyncio.create_task(draining.wait())
    async with aclosing(events):
        following = asyncio.ensure_future(anext(events))
        try:
            while not leave.done():
                await asyncio.wait({following, leave}, timeout=QUIET, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    yield following.result()
                    following = asyncio.ensure_future(anext(events))
                elif not leave.done():
                    yield None
        except StopAsyncIteration:
            return
        finally:
            leave.cancel()
            following.cancel()
            await asyncio.wait({following})


async def _sse(events: AsyncGenerator[Event], state: State, token: Token) -> AsyncGenerator[str]:
    with state.connected(token):
        async with aclosing(_coming(events, state.draining)) as coming:
            async for event in coming:
                if event is None:
                    yield ": still here\n\n"
                else:
                    yield f"id: {event.id}\nevent: {event.type}\ndata: {event.wire()}\n\n"


async def _relay(socket: WebSocket, state: State, session: str, after: str | None) -> None:
    events = subscribe(state.settings.redis, session, state.settings.prefix, after)
    async with aclosing(_coming(events, state.draining)) as coming:
        async for event in coming:
            if event is not None:  # silence is uvicorn's to fill, with pings
                await socket.send_text(event.wire())
    await socket.close(RESTART if state.draining.is_set() else 1000)


async def _gone(socket: WebSocket) -> None:
    """Wait until the client has gone; what it says meanwhile is nothing to us."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


@asynccontextmanager
async def _welcome(state: State, socket: WebSocket, scope: Scope) -> AsyncGenerator[Token | None]:
    """Accept a WebSocket and look at its token; None when it was closed, because that does not allow it."""
    offered = socket.scope.get("subprotocols", [])
    presented = next((each.removeprefix(BEARER) for each in offered if each.startswith(BEARER)), None)
    await socket.accept("undertone" if "undertone" in offered else None)  # else a browser would learn no reason
    with ExitStack() as held:
        token = await _checked(socket, _admitted(state, presented or bearer(socket), scope, held))
        if token is None:
            state.metrics.refused.labels("websocket").inc()
        yield token


async def _admitted(state: State, presented: str | None, scope: Scope, held: ExitStack) -> Token:
    """The token, whose connection is counted until `held` is closed. Raises Refused."""
    token = await state.access.admit(presented, scope)
    held.enter_context(state.connected(token))
    return token


async def _own_session(state: State, token: Token, session: str) -> Any:
    """The actor of a session that the token may feed. Raises Refused."""
    actor = await asyncio.to_thread(find_session, session) if SESSION_ID.fullmatch(session) else None
    if actor is None or not await state.access.owns(token, session):
        raise Refused(404, "no such session of yours goes on")
    return actor


async def _checked(socket: WebSocket, check: Awaitable[Found]) -> Found | None:
    """What a check found; None when it refuses, or cannot be made: then the socket was closed with the reason."""
    try:
        return await check
    except (Refused, HTTPException) as error:
        code, reason = POLICY, str(error.detail)
    except (RedisError, BusError, RayError, OSError):
        code, reason = LATER, "Redis or Ray cannot be reached just now; try again"
    await _close(socket, code, reason)
    return None


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, reason.encode()[:120].decode(errors="ignore"))  # 123 bytes fit


async def _take(state: State, socket: WebSocket, actor: Any, track: int, form: str, rate: int) -> None:
    """Hand on what comes over a WebSocket to a track of a session, until either has enough."""
    connection, over = secrets.token_hex(4), False
    try:
        await actor.attach.remote(track, connection, form, rate)
        await socket.send_text(json.dumps({"type": "ready"}))
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                over = message.get("code") == 1000
                break
            if piece := message.get("bytes"):
                await actor.push.remote(track, connection, piece)
    except Exception as error:
        cause = getattr(error, "cause", error)
        code, reason = INTERNAL, "the session is gone"
        if isinstance(cause, MediaError):
            code, reason = POLICY, str(cause)
        elif isinstance(error, ActorUnavailableError):
            code, reason = RESTART, "the session's process was killed and is started again: connect again"
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_text(json.dumps({"type": "error", "message": reason}))
        await _close(socket, code, reason)
    finally:
        telling = asyncio.ensure_future(actor.detach.remote(track, connection, over))
        state.telling.add(telling)  # not waited for: it ends with the session
        telling.add_done_callback(state.told)
