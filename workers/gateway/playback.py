"""Recordings of sessions over REST, as a browser plays them, and tickets for its player, which sends no token."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from stream.bus.directory import SessionInfo
from stream.bus.keys import Keys
from stream.sources.playable import has_pictures, recorded_start
from workers.gateway.access import UNKNOWN_TICKET, Refused, Token
from workers.gateway.middleware import IS_HEAD
from workers.gateway.state import ReaderDep, RequiredScope, State, StateDep, known

router = APIRouter(tags=["sessions"])
MEDIA: dict[str, dict[str, str]] = {"audio/webm": {}, "video/webm": {}}


class MediaTicket(BaseModel):
    """An address that plays one session's recording without a token."""

    url: str
    """Without host: "/sessions/ID/media?ticket=…"."""
    expires: str
    """ISO 8601 UTC."""


class _Played(FileResponse):
    """A file that counts as a connection of its token while it is sent."""

    def __init__(self, path: Path, media_type: str, state: State, token: Token) -> None:
        super().__init__(path, media_type=media_type)
        self._state, self._token = state, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._state.connected(self._token):
            # Of HEAD, which is answered as GET, the file need not be read.
            await super().__call__({**scope, "method": "HEAD"} if scope.get(IS_HEAD) else scope, receive, send)


@router.post(
    "/sessions/{session}/media/ticket", status_code=201,
    responses={409: {"description": "It has not ended"}, 503: {"description": "It is being made; ask again"}},
)  # fmt: skip
async def ticket(session: str, state: StateDep, token: ReaderDep) -> MediaTicket:
    """An address for an <audio> or <video> element, which sends no token: it plays this recording for 15 minutes.

    The first request has the file made, which may take a while: until then the answer is 503, with Retry-After.
    """
    info = await known(state, session)
    await _playable(state, info, token)
    secret, expires = await state.access.give_ticket(token, Keys(info.id, state.settings.prefix), info.started)
    url = f"/sessions/{info.id}/media?ticket={secret}"
    return MediaTicket(url=url, expires=expires.isoformat(timespec="seconds"))


@router.get(
    "/sessions/{session}/media", response_class=Response,
    responses={
        200: {"content": MEDIA, "description": "WebM: Opus, and VP8 if there was a camera"},
        206: {"content": MEDIA, "description": "The range that was asked for"},
        409: {"description": "It has not ended"}, 416: {"description": "The file has no such range"},
        503: {"description": "It is being made; ask again"},
    },
)  # fmt: skip
async def media(
    session: str,
    state: StateDep,
    request: Request,
    ticket: Annotated[
        str | None,
        Query(max_length=100, description="Of `POST /sessions/{session}/media/ticket`, for want of a token."),
    ] = None,
) -> Response:
    """The recording of a session that has ended, all channels in one and the first camera, on the media clock of its
    events. Answers ranges."""
    if ticket is None:
        token = await RequiredScope("read")(request)
        info = await known(state, session)
    else:
        token, info = await _redeemed(state, session, ticket)
        request.state.token = token.name
    path = await _playable(state, info, token)
    kind = "video/webm" if await asyncio.to_thread(has_pictures, path) else "audio/webm"
    return _Played(path, kind, state, token)


async def _redeemed(state: State, session: str, ticket: str) -> tuple[Token, SessionInfo]:
    """The token that a ticket stands for, and its session. Raises Refused (401), also where there is no such session:
    who has no token learns nothing of it."""
    try:
        info = await known(state, session)
    except HTTPException:
        state.metrics.refused.labels("token").inc()
        raise Refused(401, UNKNOWN_TICKET) from None
    try:
        return await state.access.redeem(ticket, Keys(info.id, state.settings.prefix), info.started), info
    except Refused:
        state.metrics.refused.labels("token").inc()
        raise


async def _playable(state: State, info: SessionInfo, token: Token) -> Path:
    """The playable file. Raises HTTPException (404, 409), Refused (403, 503) and MediaError."""
    settings, session = state.settings, info.id
    if not info.recorded:
        raise HTTPException(404, f"session {session} was not recorded")
    if (info.redacted or info.masked) and not token.allows("admin"):
        raise Refused(403, f"the words of session {session} are left out: its sound takes the scope admin")
    if info.state != "ended":
        raise HTTPException(409, f"session {session} has not ended: its recording can be played afterwards")
    if settings.record is None:
        raise HTTPException(404, "this gateway has no folder of recordings (undertone serve --record DIR)")
    folder = settings.record / session
    if await asyncio.to_thread(recorded_start, folder) != info.started:
        raise HTTPException(404, f"the recording of session {session} is not on this gateway's machine")

    async def is_kept() -> bool:
        try:
            return (await known(state, session)).started == info.started
        except HTTPException:
            return False

    return await state.playables.file(folder, is_kept)
