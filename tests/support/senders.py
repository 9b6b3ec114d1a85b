"""Streams on loopback: what a camera or an encoder would send."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np

from stream.block import Block, VideoFrame
from stream.clock import Clock, MonotonicClock
from tests.support.recordings import RATE


def transport_stream(samples: np.ndarray, images: Sequence[np.ndarray] = (), rate: int = 25) -> bytes:
    """An MPEG transport stream: AAC sound [n], nothing where it is not a number, and pictures at `rate` a second."""
    out = io.BytesIO()
    with av.open(out, "w", format="mpegts") as container:
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        video = container.add_stream("mpeg2video", rate=rate) if len(images) else None
        if video is not None:
            video.height, video.width, video.pix_fmt = images[0].shape[0], images[0].shape[1], "yuv420p"
            video.gop_size = 10
        packets = []
        for first in range(0, len(samples) - 1023, 1024):
            part = np.ascontiguousarray(samples[None, first : first + 1024], np.float32)
            if np.isnan(part).any():
                continue
            frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, first
            packets += sound.encode(frame)
        packets += sound.encode(None)
        if video is not None:
            for image in images:
                packets += video.encode(av.VideoFrame.from_ndarray(image, "rgb24"))
            packets += video.encode(None)
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            container.mux(packet)
    return out.getvalue()


def hls(path: Path, samples: np.ndarray) -> None:
    """A playlist, and its segments of a second beside it."""
    with av.open(str(path), "w", format="hls", options={"hls_time": "1"}) as container:
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for first in range(0, len(samples) - 1023, 1024):
            part = np.ascontiguousarray(samples[None, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, first
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


@contextmanager
def tcp_sender(parts: Sequence[tuple[bytes, float]], pause: float = 0.5) -> Iterator[str]:
    """A URL at which each connection gets the next part, paced to last its seconds, and is then cut."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def serve() -> None:
        for stream, seconds in parts:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                pieces = np.array_split(np.frombuffer(stream, np.uint8), max(1, round(seconds * 20)))
                for piece in pieces:
                    if stopping.is_set():
                        return
                    try:
                        connection.sendall(piece.tobytes())
                    except OSError:
                        break
                    time.sleep(seconds / len(pieces))
            time.sleep(pause)
        listener.close()  # nobody answers any more

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        listener.close()
        thread.join(timeout=5)


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """A web server of a folder's files."""
    import functools
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


TONE_BLOCK = RATE // 10  # samples


class Tone:
    """A live source of `blocks` blocks at its clock (or in one burst), which then breaks, ends, or stays silent."""

    repaired, split, video, live, channels = 0, False, False, True, 1

    def __init__(
        self,
        blocks: int,
        value: float = 1.0,
        ended: str | None = None,
        wait: float = 0.0,
        burst: bool = False,
        clock: Clock = MonotonicClock(),
    ) -> None:
        self.name, self.ended_early = f"tone {value}", None
        self._blocks, self._value, self._ended, self._wait, self._burst = blocks, value, ended, wait, burst
        self._clock = clock
        self._stopping = threading.Event()

    def counts(self) -> dict[str, int]:
        return {}

    def stop(self) -> None:
        self._stopping.set()

    def __iter__(self) -> Iterator[Block]:
        self._clock.wait(self._stopping, self._wait)
        for n in range(self._blocks):
            if self._stopping.is_set():
                return
            if not self._burst:
                self._clock.wait(self._stopping, 0.1)
            frame = VideoFrame(n / 10, np.zeros((1, 1, 3), np.uint8))
            yield Block(n, n / 10, np.full((1, TONE_BLOCK), self._value, np.float32), (frame,))
        self.ended_early = self._ended


Pages = dict[str, bytes | str]  # what a path answers: a body, or where it redirects to


@contextmanager
def site(pages: Pages, host: str = "127.0.0.1", ranges: bool = False) -> Iterator[tuple[str, list[str]]]:
    """A web server, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Range'] or ''}".strip())
            page = pages.get(self.path)
            if isinstance(page, bytes):
                span = self.headers["Range"]
                first = int(span.removeprefix("bytes=").removesuffix("-")) if ranges and span else 0
                self.send_response(206 if ranges and span else 200)
                self.send_header("Content-Length", str(len(page) - first))
                if ranges:
                    self.send_header("Accept-Ranges", "bytes")
                self.end_headers()
                self.wfile.write(page[first:])
            else:
                self.send_response(404 if page is None else 302)
                if page is not None:
                    self.send_header("Location", page)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://{host}:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
