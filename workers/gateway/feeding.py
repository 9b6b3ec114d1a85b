"""Media of a WebSocket on its way to the tracks of a session."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from fastapi import WebSocket
from ray.exceptions import ActorUnavailableError
from starlette.types import Message

from stream.bus.tasks import abandon, seen
from stream.errors import MediaError, without_folders
from workers.cluster.request_files import PIECE_BYTES
from workers.gateway.closing import INTERNAL, POLICY, RESTART
from workers.gateway.state import State

MAX_INBOX_BYTES = 8 << 20  # of a connection, received while its session does not take them: minutes of sound


async def binary(message: Message) -> bytes | None:
    """Media of a message: what is binary; text is ignored."""
    return message.get("bytes") or b""


async def silent() -> None:
    """The client is not told when its session takes media."""


def whole(piece: bytes) -> list[bytes]:
    """Media of a connection that feeds one track."""
    return [piece]


class Channels:
    """Interleaved samples of 16 bit, taken apart."""

    def __init__(self, count: int) -> None:
        self._count, self._rest = count, b""

    def split(self, piece: bytes) -> list[bytes]:
        """The next samples of each channel; what is no whole frame waits for the next piece."""
        content = self._rest + piece
        size = len(content) // (2 * self._count) * 2 * self._count
        self._rest = content[size:]
        frames = np.frombuffer(content[:size], "<i2").reshape(-1, self._count)
        return [channel.tobytes() for channel in frames.T]


class Inbox:
    """Media of a WebSocket, received while the session is busy with what came before.

    A connection whose messages nobody receives does not get its pings answered, and would be closed although its sender
    is well. Beyond `MAX_INBOX_BYTES` the sender has to wait all the same.
    """

    def __init__(self, socket: WebSocket, media: Callable[[Message], Awaitable[bytes | None]] = binary) -> None:
        """media: the media of a message; None says that none comes after it."""
        self.close_code: int | None = None
        """Code with which the client closed."""
        self.gone = asyncio.Event()
        """Set when the client has closed, or is lost."""
        self._socket, self._media = socket, media
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._size = 0
        self._room = asyncio.Event()
        self._receiving = asyncio.create_task(self._receive())

    def interrupt(self, watch: asyncio.Future[None]) -> None:
        """End after the pieces that are here: the session reads no more of this connection; `watch` has the reason."""
        seen(watch)
        self._pieces.put_nowait(None)

    def close(self) -> None:
        """Receive nothing more."""
        abandon(self._receiving)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Pieces until there are no more, small enough to reach the session without Ray's object store."""
        while (message := await self._pieces.get()) is not None:
            self._size -= len(message)
            self._room.set()
            for first in range(0, len(message), PIECE_BYTES):
                yield message[first : first + PIECE_BYTES]

    async def _receive(self) -> None:
        is_over = False
        try:
            while (message := await self._socket.receive())["type"] != "websocket.disconnect":
                if is_over:
                    continue
                piece = await self._media(message)
                self._pieces.put_nowait(piece)
                if piece is None:
                    is_over = True
                    continue
                self._size += len(piece)
                while self._size > MAX_INBOX_BYTES:
                    self._room.clear()
                    await self._room.wait()
            self.close_code = message.get("code")
        finally:
            self._pieces.put_nowait(None)
            self.gone.set()


async def feed(
    state: State,
    actor: Any,
    inbox: Inbox,
    tracks: Sequence[int],
    format: str,
    rate: int,
    is_final: Callable[[bool], bool],
    ready: Callable[[], Awaitable[None]] = silent,
    split: Callable[[bytes], list[bytes]] = whole,
) -> None:
    """Pass media to tracks of a session, until the client or the session ends it.

    is_final: says whether the tracks are over for good, given whether all media was passed on; ready: awaited when the
    session takes media; split: the part of a piece for each track. Raises MediaError, RayError: see `failure`.
    """
    connection, is_passed = secrets.token_hex(4), False
    try:
        for track in tracks:
            await actor.attach.remote(track, connection, format, rate)
        await ready()
        watches = [asyncio.ensure_future(actor.watch.remote(track, connection)) for track in tracks]
        for watch in watches:
            watch.add_done_callback(inbox.interrupt)
        async for piece in inbox:
            for track, part in zip(tracks, split(piece), strict=True):
                if part:
                    await actor.push.remote(track, connection, part)
        if inbox.close_code is None:
            for watch in watches:
                if watch.done():
                    watch.result()
        is_passed = True
    finally:
        is_over = is_final(is_passed)
        for track in tracks:
            call = asyncio.ensure_future(actor.detach.remote(track, connection, is_over))
            state.detach_calls.add(call)  # not awaited: it may last as long as the session
            call.add_done_callback(state.detached)


def failure(error: Exception) -> tuple[int, str]:
    """Close code and reason for what `feed` raises."""
    cause = getattr(error, "cause", error)
    if isinstance(cause, MediaError):
        return POLICY, without_folders(str(cause))
    if isinstance(error, ActorUnavailableError):
        return RESTART, "the session's process was killed and is restarted: connect again"
    return INTERNAL, "the session has ended"
