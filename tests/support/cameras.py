"""Cameras that speak RTSP, on loopback: as they should, and as an attacker would."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

Answer = Callable[[str, str], bytes]
"""From a request's method and its CSeq line to the bytes that a server sends."""
SDP = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=control:track1\r\n"


@dataclass
class Camera:
    """A running server."""

    url: str
    connections: int = 0


@contextmanager
def rtsp_server(answer: Answer, host: str = "127.0.0.1") -> Iterator[Camera]:
    """Answers requests for as long as connections come."""
    listener = socket.create_server((host, 0))
    camera = Camera(f"rtsp://{host}:{listener.getsockname()[1]}/cam")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            camera.connections += 1
            with suppress(OSError), connection, connection.makefile("rb") as requests:
                head: list[str] = []
                for line in requests:
                    if line.strip():
                        head.append(line.decode().strip())
                        continue
                    number = next(each for each in head if each.lower().startswith("cseq"))
                    connection.sendall(answer(head[0].split()[0], number))
                    head = []

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield camera
    finally:
        listener.close()


def packet(payload: bytes, channel: int = 0) -> bytes:
    """An interleaved packet."""
    return struct.pack(">cBH", b"$", channel, len(payload)) + payload


def talk_over_rtsp(method: str, number: str, sdp: str = SDP, transport: str = "RTP/AVP/TCP;interleaved=0-1") -> bytes:
    """A session of two seconds of G.711, its packets on the connection itself."""
    more = {
        "OPTIONS": "Public: DESCRIBE, SETUP, PLAY\r\n\r\n",
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
        "SETUP": f"Transport: {transport}\r\nSession: 1\r\n\r\n",
    }
    said = f"RTSP/1.0 200 OK\r\n{number}\r\n{more.get(method, chr(13) + chr(10))}".encode()
    if method == "PLAY":
        for n in range(100):
            said += packet(struct.pack(">BBHII", 0x80, 0, n, n * 160, 1) + bytes([n % 256]) * 160)
    return said
