"""Network streams (RTSP, RTMP, HTTP, HLS, UDP, TCP) and cameras, opened by PyAV."""

from __future__ import annotations

import errno
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import av
import numpy as np

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples, VideoFrame
from stream.clock import Clock, MonotonicClock
from stream.errors import MediaError
from stream.sources.channels import usable_tracks
from stream.sources.decoding import (
    LIMITS,
    MAX_FRAMES_PER_BLOCK,
    UNTIMED,
    AudioDecoder,
    VideoDecoder,
    clock_zero,
    damage,
    error_text,
    limited_film,
    open_container,
)

if TYPE_CHECKING:
    from _typeshed import SupportsRead

OPEN_TIMEOUT_S, PACKET_TIMEOUT_S = 10.0, 5.0  # seconds to wait for a connection, and for the next packet
SOUND_TIMEOUT_S = 5.0  # seconds without sound, while pictures come, after which silence takes its place
ENDED = "the sender ended the stream"
MAX_UNDECODED_PACKETS = 250  # of which none can be decoded: some seconds, then the connection is of no use
UNDECODABLE = "nothing of its audio can be decoded"


@cache
def has_protocol(scheme: str) -> bool:
    """True if this FFmpeg opens URLs of a scheme; PyAV's wheels are built without some. Nothing is connected to."""
    try:
        av.open(f"{scheme}://127.0.0.1:1/", options={"protocol_whitelist": "none"}).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.error.FFmpegError, OSError, ValueError):  # it is known, and not on the list
        return True
    return True


class NetworkSource:
    """One connection to a URL or camera; ends when the stream ends, breaks or is stopped."""

    split = False
    video = True
    live = True

    def __init__(
        self,
        url: str,
        container: str | None = None,
        options: dict[str, str] | None = None,
        file: SupportsRead[bytes] | None = None,
        clock: Clock = MonotonicClock(),
    ) -> None:
        """url: any URL that FFmpeg supports, or a device; container: FFmpeg's name of the format, if the URL does not
        determine it ("v4l2" for a camera); file: read instead of the URL, which is then only a name.
        """
        self.name = re.sub("//[^/]*@", "//", url.partition("?")[0])  # without passwords and query
        self.channels = 0 if container == "v4l2" else 1
        self.ended_early: str | None = None
        self._input: Any = url if file is None else file
        self._container, self._options = container, options or {}
        if url.startswith("rtsp://"):
            self._options = {"rtsp_transport": "tcp", **self._options}  # many firewalls block UDP
        self._clock = clock
        self._stopping = threading.Event()
        self._sound, self._pictures = AudioDecoder(), VideoDecoder(0.0)

    @property
    def repaired(self) -> int:
        return self._sound.repaired

    def counts(self) -> dict[str, int]:
        return {"repaired_samples": self.repaired} | damage(self._sound, self._pictures)

    def stop(self) -> None:
        """Deliver no further blocks."""
        self._stopping.set()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of 40 ms, audio float32 [1, 640] with video frames; of a camera, video frames alone.

        If the sound stops while pictures go on, silence takes its place, and a block's notice says so.
        Raises MediaError if the stream cannot be opened.
        """
        try:
            container = self._open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = _unknown_host(self.name, error) or _failure_text(error, f"no answer for {OPEN_TIMEOUT_S:.0f} s")
            raise MediaError(f"{self.name}: cannot be opened ({reason})") from None
        with container:
            yield from self._blocks(container)

    def _open(self) -> av.container.InputContainer:
        return self._open_input(self._input, self._container, LIMITS | self._options)

    def _open_input(
        self, file: Any, container: str | None, options: dict[str, str], io_open: Callable[..., Any] | None = None
    ) -> av.container.InputContainer:
        return open_container(
            file,
            format=container,
            options=options,
            timeout=(OPEN_TIMEOUT_S, PACKET_TIMEOUT_S),
            io_open=io_open,
        )

    def _finite(self, container: av.container.InputContainer) -> bool:
        """True if the end of the stream is expected: a recording has a known duration, a live stream has not."""
        return bool(container.duration)

    def _blocks(self, container: av.container.InputContainer) -> Iterator[Block]:
        film, notice = limited_film(container, live=True)
        if not self.channels and film is None:
            raise MediaError(f"{self.name}: {notice or 'has no pictures'}")
        streams: list[Any] = [] if film is None else [film]
        if self.channels:
            (track, *_), reason = usable_tracks(container, self.name)
            streams.append(container.streams.audio[track])
            if (count := len(container.streams.audio)) > 1:
                told = f"{count} audio tracks: number {track + 1} is analysed ({reason})"
                notice = told if notice is None else f"{told}; {notice}"
        zero = clock_zero(container) if self._finite(container) else None
        self._sound = sound = AudioDecoder(None, zero, container.format.name not in UNTIMED)
        self._pictures = pictures = VideoDecoder(0.0)
        shown: deque[VideoFrame] = deque(maxlen=MAX_FRAMES_PER_BLOCK)
        held: Samples = np.zeros((self.channels, 0), np.float32)
        number = done = 0
        gap = _SoundGap(self._clock)
        first_picture: float | None = None  # its time stamp, in seconds
        try:
            for packet in container.demux(streams):
                if self._stopping.is_set():
                    return
                is_film = film is not None and packet.stream.index == film.index
                if is_film:
                    if sound.start is not None:
                        pictures.start = sound.start
                    elif self.channels and first_picture is None and packet.pts is not None:
                        pictures.start = first_picture = float(packet.pts * packet.time_base)  # until there is sound
                    shown += pictures.read(packet)
                for samples in sound.silence(gap.due() if self.channels else 0.0) if is_film else sound.read(packet):
                    if not is_film:
                        gap.close()
                    held = np.concatenate([held, samples], 1)
                    while held.shape[1] >= BLOCK_SAMPLES and not self._stopping.is_set():
                        due = notice, gap.take_notice(), sound.take_notice(), pictures.take_notice()
                        notice = "; ".join(filter(None, due)) or None
                        yield Block(number, done / RATE, held[:, :BLOCK_SAMPLES], tuple(shown), notice=notice)
                        number, done, held = number + 1, done + BLOCK_SAMPLES, held[:, BLOCK_SAMPLES:]
                        notice = None
                        shown.clear()
                if sound.damaged >= MAX_UNDECODED_PACKETS and not sound.has_decoded:
                    break
                if not self.channels and shown:
                    yield Block(number, shown[0].time, held, tuple(shown))
                    number += 1
                    shown.clear()
            if held.shape[1]:
                yield Block(number, done / RATE, held, tuple(shown))
            if sound.damaged and not sound.has_decoded:
                self.ended_early = UNDECODABLE
            elif not self._finite(container):
                self.ended_early = ENDED
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.ended_early = _failure_text(error, f"no packet for {PACKET_TIMEOUT_S:.0f} s")


class _SoundGap:
    """Time since the last sound of a stream whose pictures go on."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._until = clock, clock.now()
        self._is_open = False
        self._notice: str | None = None

    def close(self) -> None:
        """A sound has come."""
        self._until = self._clock.now()
        if self._is_open:
            self._is_open, self._notice = False, "there is sound again"

    def due(self) -> float:
        """Seconds of silence to fill in now: none before the sound has been missing for long."""
        missing = self._clock.now() - self._until
        if not self._is_open:
            if missing < SOUND_TIMEOUT_S:
                return 0.0
            self._is_open = True
            self._notice = f"pictures come, and for {missing:.0f} s no sound: silence takes its place"
        self._until += missing
        return missing

    def take_notice(self) -> str | None:
        """The message that is due: once when a gap opens, once when it closes."""
        notice, self._notice = self._notice, None
        return notice


def _unknown_host(url: str, error: Exception) -> str | None:
    """Text of a failure because a URL's host has no address, which FFmpeg tells as an error of input; None of another
    failure."""
    host = urlsplit(url).hostname if "://" in url else None
    if host is None or not (isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EIO):
        return None
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as unknown:
        return f"no address of {host} is known: {unknown.strerror}"
    except (OSError, ValueError):  # a name that cannot be one
        return None
    return None


def _failure_text(error: Exception, timeout_text: str) -> str:
    """Text of a failure; PyAV reports its own timeouts as ExitError."""
    return timeout_text if isinstance(error, TimeoutError | av.error.ExitError) else error_text(error)
