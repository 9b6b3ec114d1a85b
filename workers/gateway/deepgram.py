"""Deepgram's streaming interface: programs that were written for it send sound here, and get words and sentiment.

A connection is a session of its own (`sessions.begin`), fed like any pushed track (`feeding.feed`). What its query may
ask is in `deepgram_query`, the messages that it gets in `deepgram_messages`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from datetime import UTC, datetime
from typing import Any

import starlette.types
from fastapi import APIRouter, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from ray.exceptions import RayError
from redis.exceptions import RedisError

from model.errors import ModelError
from stream.bus.connection import BusError
from stream.bus.directory import SessionInfo
from stream.bus.tasks import abandon, cancelled
from stream.errors import StreamError, one_line, without_folders
from stream.events import Event
from workers.cluster.request import Options, Push, Track
from workers.cluster.session_actor import find_session
from workers.errors import WorkersError
from workers.gateway import deepgram_messages
from workers.gateway.access import Refused
from workers.gateway.closing import INTERNAL, POLICY, TRY_AGAIN_LATER, close
from workers.gateway.deepgram_messages import Message, Replies
from workers.gateway.deepgram_query import Unsupported, Wanted, read_query
from workers.gateway.feeding import Channels, Inbox, failure, feed, whole
from workers.gateway.sessions import begin
from workers.gateway.sockets import admitted, subscribed
from workers.gateway.state import State, StateDep

HANDSHAKE_S = 8.0  # seconds that a connection may wait for its session: client libraries give up after 10
CONSENT_HEADER = "x-undertone-consent"
NO_CONSENT = (
    "no session without a statement of consent: add ?consent=... to the address or the header X-Undertone-Consent, "
    'or have the operator add consent = "..." to this token\'s entry'
)
KINDS = ("token", "bearer")  # of credentials, in the Authorization header and as the first of two subprotocols
Start = asyncio.Task[SessionInfo]
router = APIRouter(tags=["deepgram"])


@router.websocket("/v1/listen")
async def listen(socket: WebSocket, state: StateDep) -> None:
    """Deepgram's streaming interface: binary messages of sound in, `Results` with words and sentiment out.

    What is refused is refused with an HTTP status and JSON, unless the session takes so long to start that the
    connection was accepted before.
    """
    request_id = str(uuid.uuid4())
    offered = socket.scope.get("subprotocols", [])
    with ExitStack() as connection:
        starting: Start | None = None
        try:
            token = await admitted(state, _credentials(socket), "ingest", connection)
            socket.state.token = token.name
            wanted = read_query(socket.query_params.multi_items())
            options = _options(wanted, wanted.consent or socket.headers.get(CONSENT_HEADER) or token.consent)
            starting = asyncio.create_task(begin(state, options, _source(wanted), token))
            await asyncio.wait({starting}, timeout=HANDSHAKE_S)
            if starting.done():
                starting.result()
        except Exception as error:
            await _refuse(state, socket, error, request_id)
            return
        except asyncio.CancelledError:
            if starting is not None:
                abandon(starting)
            raise
        try:
            await socket.accept(offered[0] if offered and offered[0].lower() in KINDS else None)
        except OSError:  # the client has left
            await _give_up(starting)
            return
        serving = asyncio.create_task(_Connection(state, socket, request_id, wanted).serve(starting))
        state.ingest_tasks.add(serving)
        serving.add_done_callback(state.ingest_tasks.discard)
        with state.metrics.sockets.labels("in").track_inprogress():
            await serving


def _credentials(socket: WebSocket) -> str | None:
    """The token of the Authorization header, or, as browsers send it, the second of two subprotocols."""
    kind, _, token = socket.headers.get("authorization", "").partition(" ")
    if kind.lower() in KINDS and token:
        return token.strip()
    offered = socket.scope.get("subprotocols", [])
    return str(offered[1]) if len(offered) > 1 and offered[0].lower() in KINDS else None


def _options(wanted: Wanted, consent: str | None) -> Options:
    """Settings of the session. Raises Unsupported."""
    if not consent:
        raise Unsupported(NO_CONSENT)
    needs_interim = wanted.interim_results or wanted.speech_started
    try:
        return Options(consent=consent, language=wanted.language, interim=None if needs_interim else 0)
    except ValidationError as error:
        first = error.errors()[0]
        raise Unsupported(f"{first['loc'][0]}: {first['msg']}") from None


def _source(wanted: Wanted) -> Push:
    return Push(kind="push", tracks=[Track(name=name) for name in wanted.names])


def _told(state: State, error: Exception) -> tuple[int, str]:
    """HTTP status and line of an error that a session cannot start with. Raises any other."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, RedisError | BusError | RayError | OSError):  # their messages have addresses of our own
        return 503, "Redis or Ray is unreachable at the moment; try again"
    if isinstance(error, StreamError | ModelError | WorkersError):
        return error.http_status, without_folders(one_line(str(error)), state.settings.folders)
    raise error


async def _refuse(state: State, socket: WebSocket, error: Exception, request_id: str) -> None:
    """Answer with an HTTP status instead of a WebSocket."""
    status, line = _told(state, error)
    state.metrics.refused.labels("websocket").inc()
    headers = {"dg-request-id": request_id, "dg-error": line.encode("ascii", "replace").decode()}
    if retry_after := getattr(error, "retry_after", None):
        headers["Retry-After"] = str(retry_after)
    await socket.send_denial_response(
        JSONResponse(deepgram_messages.refusal(status, line, request_id), status, headers)
    )


async def _give_up(starting: Start) -> None:
    """End a session whose client has left before it was there."""
    if not starting.done():
        abandon(starting)
        return
    with suppress(RayError):
        actor = await asyncio.to_thread(find_session, starting.result().id)
        if actor is not None:
            actor.stop.remote()


class _Connection:
    """A client whose connection was accepted, and its session."""

    def __init__(self, state: State, socket: WebSocket, request_id: str, wanted: Wanted) -> None:
        self._state, self._socket, self._request_id, self._wanted = state, socket, request_id, wanted
        self._replies = Replies(request_id, wanted)
        self._created = datetime.fromtimestamp(state.clock.date(), UTC)
        self._digest, self._size = hashlib.sha256(), 0
        self._failed: tuple[int, str] | None = None
        """Close code and reason, once the session takes no more sound."""
        self._inbox = Inbox(socket, self._media)

    async def serve(self, starting: Start) -> None:
        """Feed the session and send what comes out, until it has ended or the client has left."""
        left = asyncio.create_task(self._inbox.gone.wait())
        tasks: list[asyncio.Task[Any]] = [left]
        try:
            await asyncio.wait({starting, left}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                abandon(starting)
                return
            self._replies.session = session = starting.result().id
            actor = await asyncio.to_thread(find_session, session)
            if actor is None:
                raise Refused(503, "the session has ended before it took any sound")
            replying = asyncio.create_task(self._reply(actor, await subscribed(self._state, session, None, False)))
            feeding = asyncio.create_task(self._feed(actor))
            tasks += [replying, feeding]
            await asyncio.wait({replying, left}, return_when=asyncio.FIRST_COMPLETED)
            if replying.done():
                replying.result()
            else:  # what it sent is labelled still, for those who read the session elsewhere
                await feeding
        except Exception as error:
            status, line = _told(self._state, error)
            await self._send(deepgram_messages.error("SessionError", line))
            code = TRY_AGAIN_LATER if status in (429, 503) else POLICY if status < 500 else INTERNAL
            await close(self._socket, code, line)
        finally:
            self._inbox.close()
            if not starting.done():
                abandon(starting)
            for task in tasks:
                await cancelled(task)

    async def _feed(self, actor: Any) -> None:
        """Pass sound on; a connection cannot be taken up again, so its end is that of the tracks."""
        wanted = self._wanted
        split = Channels(wanted.channels).split if wanted.channels > 1 else whole
        tracks = range(wanted.channels)
        try:
            await feed(self._state, actor, self._inbox, tracks, wanted.format, wanted.rate, lambda _: True, split=split)
        except Exception as error:
            self._failed = failure(error)
            await self._send(deepgram_messages.error("MediaError", self._failed[1]))

    async def _reply(self, actor: Any, events: AsyncGenerator[Event]) -> None:
        """Send messages until the session has ended, then the last one, and close."""
        replies, began = self._replies, None
        async with aclosing(events):
            async for event in events:
                if began is None and event.type != "session.started":
                    with suppress(RayError):
                        began = await actor.began.remote(0)
                    replies.offset = began or 0.0
                for message in replies.of(event):
                    await self._send(message)
        code, reason = self._failed or (1000, "")
        if self._failed is None and replies.ended is not None and replies.ended.reason.startswith("error"):
            code, reason = INTERNAL, replies.ended.reason
            await self._send(deepgram_messages.error("SessionError", reason))
        duration = None
        if self._wanted.format == "pcm":
            duration = self._size / (2 * self._wanted.rate * self._wanted.channels)
        created = self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        await self._send(replies.metadata(self._digest.hexdigest(), created, duration))
        await close(self._socket, code, reason)

    async def _media(self, message: starlette.types.Message) -> bytes | None:
        """Sound of a message; None for one that says that no more comes."""
        if (piece := message.get("bytes")) is not None:
            self._digest.update(piece)
            self._size += len(piece)
            return piece or None  # an empty one ended a stream before there was CloseStream
        return await self._control(message.get("text") or "")

    async def _control(self, text: str) -> bytes | None:
        """Do what a message of text says."""
        kind = None
        with suppress(ValueError, RecursionError):
            asked = json.loads(text)
            kind = asked.get("type") if isinstance(asked, dict) else None
        match kind:
            case "KeepAlive":
                pass
            case "Finalize":
                self._replies.finalize()
            case "CloseStream":
                return None
            case "Configure":
                await self._send(deepgram_messages.configure_failure(self._request_id))
            case _:
                line = "a message of text is a JSON object of type KeepAlive, Finalize, CloseStream or Configure"
                await self._send(deepgram_messages.error("SchemaError", line, text))
        return b""

    async def _send(self, message: Message) -> None:
        """Send a message, unless the client has left."""
        with suppress(RuntimeError, WebSocketDisconnect, OSError):
            await self._socket.send_text(json.dumps(message, ensure_ascii=False))
