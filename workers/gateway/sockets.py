"""Event streams (Server-Sent Events, WebSocket) and incoming media (WebSocket)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from typing import Annotated, Any, TypeVar

from anyio import CancelScope
from fastapi import APIRouter, Depends, Header, HTTPException, Query, WebSocket, WebSocketDisconnect
from fastapi.sse import EventSourceResponse, ServerSentEvent
from ray.exceptions import RayError
from redis.exceptions import RedisError

from stream.bus.connection import BusError
from stream.bus.keys import SESSION_ID
from stream.bus.session_alerts import subscribe_with_alerts
from stream.bus.subscriber import subscribe
from stream.bus.tasks import abandon, cancelled
from stream.events import Event
from workers.cluster.session_actor import find_session
from workers.gateway.access import Refused, Scope, Token
from workers.gateway.closing import POLICY, RESTART, TRY_AGAIN_LATER, close
from workers.gateway.feeding import Inbox, failure, feed
from workers.gateway.state import AfterQuery, ReaderDep, State, StateDep, bearer, known

BEARER = "bearer."  # subprotocol that carries the token, because browsers cannot set headers of a WebSocket
MAX_LINES = 500  # events in one message
LinesQuery = Annotated[bool, Query(description="Several events in a message, one a line.")]
Found = TypeVar("Found")
AlertsQuery = Annotated[bool, Query(description="Alerts of the session's own rules, too, each behind its event.")]
router = APIRouter(tags=["events"])


class EventStream(EventSourceResponse):
    """FastAPI's Server-Sent Events; refusals are JSON, and OpenAPI documents them with this media type."""

    media_type = "application/json"


async def _session_events(
    session: str,
    state: StateDep,
    token: ReaderDep,
    after: AfterQuery = None,
    last_event_id: Annotated[str | None, Header()] = None,
    alerts: AlertsQuery = False,
) -> AsyncGenerator[AsyncGenerator[Event]]:
    """Dependency: a session's events, counted as a connection. Raises HTTPException (404), Refused (429)."""
    await known(state, session)
    with state.connected(token):
        events = await subscribed(state, session, last_event_id or after, alerts)
        async with aclosing(_until_draining(events, state.draining)) as remaining:
            yield remaining


@router.get(
    "/sessions/{session}/events",
    response_class=EventStream,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-Sent Events: id, event, data"}},
)
async def stream_events(
    events: Annotated[AsyncGenerator[Event], Depends(_session_events)],
) -> AsyncGenerator[ServerSentEvent]:
    """A session's events, from the first or after one, until it ends (Server-Sent Events)."""
    async for event in events:
        yield ServerSentEvent(id=event.id, event=event.type, raw_data=event.wire())


@router.websocket("/sessions/{session}/events")
async def send_events(
    socket: WebSocket,
    session: str,
    state: StateDep,
    after: AfterQuery = None,
    alerts: AlertsQuery = False,
    lines: LinesQuery = False,
) -> None:
    """A session's events, each as one text message; closes with code 1000 after the last, 1012 when draining.

    With `lines` a message may have several events, one a line: a long history arrives in half the time.
    """
    async with _accepted(state, socket, "read") as token:
        if token is None or await _checked(socket, known(state, session)) is None:
            return
        if (events := await _checked(socket, subscribed(state, session, after, alerts))) is None:
            return
        with state.metrics.sockets.labels("out").track_inprogress():
            send = _send_lines if lines else _send_each
            relay = asyncio.create_task(_relay(state, socket, send(socket, events)))
            state.listening.add(relay)
            relay.add_done_callback(state.listening.discard)
            disconnect = asyncio.create_task(_wait_for_disconnect(socket))
            await asyncio.wait({relay, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            abandon(disconnect)
            relay.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await relay


@router.websocket("/sessions/{session}/tracks/{track}")
async def receive_media(
    socket: WebSocket, session: str, track: int, state: StateDep, format: str = "pcm", rate: int = 16_000
) -> None:
    """Audio and video of one track: binary messages of WebM, or 16-bit mono PCM at `rate` Hz.

    A sender may send only while somebody talks: PCM that comes after a pause lies where it arrives, WebM where its time
    stamps say. Each connection begins with the header of WebM; one that cannot be read is closed with 1008 and the
    reason, and the track waits for the next.
    """
    async with _accepted(state, socket, "ingest") as token:
        actor = None if token is None else await _checked(socket, _own_session(state, token, session))
        if actor is None:
            return
        ingest = asyncio.create_task(_ingest(state, socket, actor, track, format, rate))
        state.ingest_tasks.add(ingest)
        ingest.add_done_callback(state.ingest_tasks.discard)
        with state.metrics.sockets.labels("in").track_inprogress():
            await ingest


async def subscribed(state: State, session: str, after: str | None, alerts: bool) -> AsyncGenerator[Event]:
    """Events of a session that there is, from the first or from the one after `after`; with the alerts of its own rules
    if `alerts`. Raises RedisError."""
    url, prefix = state.settings.redis, state.settings.prefix
    if alerts:
        return await subscribe_with_alerts(url, session, prefix, after)
    return subscribe(url, session, prefix, after, wait=None)


async def _until_draining(events: AsyncGenerator[Event], draining: asyncio.Event) -> AsyncGenerator[Event]:
    """Events until there are no more or the gateway drains."""
    leave = asyncio.create_task(draining.wait())
    upcoming = asyncio.ensure_future(anext(events))
    try:
        while not leave.done():
            await asyncio.wait({upcoming, leave}, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                yield upcoming.result()
                upcoming = asyncio.ensure_future(anext(events))
    except StopAsyncIteration:
        return
    finally:
        with CancelScope(shield=True):  # FastAPI cancels the stream of a lost client again at every await
            await cancelled(leave)
            await cancelled(upcoming)
            await events.aclose()


async def _relay(state: State, socket: WebSocket, send: Coroutine[Any, Any, None]) -> None:
    """Send until there is nothing more or the gateway drains, and close the WebSocket."""
    # One task for all: a task for each event would take longer than reading and sending it.
    sending, leave = asyncio.create_task(send), asyncio.create_task(state.draining.wait())
    try:
        await asyncio.wait({sending, leave}, return_when=asyncio.FIRST_COMPLETED)
        is_over = sending.done()
        if is_over:
            sending.result()
    finally:
        await cancelled(leave)
        await cancelled(sending)
    await socket.close(1000 if is_over else RESTART)


async def _send_each(socket: WebSocket, events: AsyncGenerator[Event]) -> None:
    async with aclosing(events):
        async for event in events:
            await socket.send_text(event.wire())


async def _send_lines(socket: WebSocket, events: AsyncGenerator[Event]) -> None:
    """Send those events together, a line each, that have come while the ones before were sent."""
    lines: list[str] = []
    news, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    lines.append(event.wire())
                    news.set()
                    if len(lines) >= MAX_LINES:
                        room.clear()
                        await room.wait()
        finally:
            news.set()

    reading = asyncio.create_task(read())
    try:
        while lines or not reading.done():
            await news.wait()
            news.clear()
            text = "\n".join(lines)
            lines.clear()
            room.set()
            if text:
                await socket.send_text(text)
        reading.result()
    finally:
        await cancelled(reading)


async def _wait_for_disconnect(socket: WebSocket) -> None:
    """Wait until the client disconnects; its messages are ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


@asynccontextmanager
async def _accepted(state: State, socket: WebSocket, scope: Scope) -> AsyncGenerator[Token | None]:
    """Accept a WebSocket and check its token; yields None if the token is refused and the WebSocket closed."""
    offered = socket.scope.get("subprotocols", [])
    presented = next((name.removeprefix(BEARER) for name in offered if name.startswith(BEARER)), None)
    try:  # before any refusal, so that a browser learns the reason
        await socket.accept("undertone" if "undertone" in offered else None)
    except OSError:  # the client has left
        yield None
        return
    with ExitStack() as connection:
        token = await _checked(socket, admitted(state, presented or bearer(socket), scope, connection))
        if token is None:
            state.metrics.refused.labels("websocket").inc()
        else:
            socket.state.token = token.name
        yield token


async def admitted(state: State, presented: str | None, scope: Scope, connection: ExitStack) -> Token:
    """The token, whose connection is counted until `connection` is closed. Raises Refused."""
    token = await state.access.admit(presented, scope)
    connection.enter_context(state.connected(token))
    return token


async def _own_session(state: State, token: Token, session: str) -> Any:
    """The actor of a session that the token may feed. Raises Refused."""
    actor = await asyncio.to_thread(find_session, session) if SESSION_ID.fullmatch(session) else None
    if actor is None or not await state.access.owns(token, session):
        raise Refused(404, "no such session of this token is running")
    return actor


async def _checked(socket: WebSocket, check: Awaitable[Found]) -> Found | None:
    """Result of a check; None if it refuses or fails, and the WebSocket was closed with the reason."""
    try:
        return await check
    except (Refused, HTTPException) as error:
        code, reason = POLICY, str(error.detail)
    except (RedisError, BusError, RayError, OSError):
        code, reason = TRY_AGAIN_LATER, "Redis or Ray is unreachable at the moment; try again"
    await close(socket, code, reason)
    return None


async def _ingest(state: State, socket: WebSocket, actor: Any, track: int, format: str, rate: int) -> None:
    """Pass the media of a WebSocket to a track of a session, until the client or the session ends it."""
    inbox = Inbox(socket)

    async def ready() -> None:
        await socket.send_text(json.dumps({"type": "ready"}))

    def is_final(is_passed: bool) -> bool:
        return is_passed and inbox.close_code == 1000

    try:
        await feed(state, actor, inbox, [track], format, rate, is_final, ready)
    except Exception as error:
        code, reason = failure(error)
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_text(json.dumps({"type": "error", "message": reason}))
        await close(socket, code, reason)
    finally:
        inbox.close()
