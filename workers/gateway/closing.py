"""Close codes of WebSockets, and closing one."""

from __future__ import annotations

from contextlib import suppress

from fastapi import WebSocket, WebSocketDisconnect

POLICY, INTERNAL, RESTART, TRY_AGAIN_LATER = 1008, 1011, 1012, 1013  # of RFC 6455 and its registry


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Close a WebSocket, unless the client has done so already."""
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, reason.encode()[:120].decode(errors="ignore"))  # 123 bytes fit
