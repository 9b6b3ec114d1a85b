"""Live sources that PyAV opens: RTSP, RTMP, HTTP, HLS, SRT, UDP and TCP streams, and cameras."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from stream.block import BLOCK, RATE, Block, Samples, VideoFrame
from stream.errors import MediaError
from stream.sources.decoding import LIMITS, MAX_FRAMES_PER_BLOCK, AudioDecoder, VideoDecoder, check_limits, error_text

if TYPE_CHECKING:
    from _typeshed import SupportsRead

OPEN_TIMEOUT_S, PACKET_TIMEOUT_S = 10.0, 5.0  # seconds to wait for an answer, and for the next packet
ENDED = "the sender ended the stream"


class NetworkSource:
    """One connection to a URL (or a camera), from the moment it is opened until it ends, breaks or is stopped."""

    repaired = 0
    split = False
    video = True

    def __init__(
        self,
        url: str,
        container: str | None = None,
        options: dict[str, str] | None = None,
        file: SupportsRead[bytes] | None = None,
    ) -> None:
        """url: whatever FFmpeg opens; container: its format where the URL does not say ("v4l2" for a camera).

        file: read instead of the URL, which then is only a name.
        """
        self.name = re.sub("//[^/]*@", "//", url.partition("?")[0])  # without what may be a secret
        self.channels = 0 if container == "v4l2" else 1
        self.ended_early: str | None = None
        self._opened: Any = url if file is None else file
        self._container, self._options = container, options or {}
        if url.startswith("rtsp://"):
            self._options = {"rtsp_transport": "tcp", **self._options}  # over UDP, firewalls eat every other stream
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Deliver no further block."""
        self._stopping.set()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of 40 ms with their pictures, of a camera pictures alone. Raises MediaError when nothing opens."""
        try:
            container = self._open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            why = _why(error, f"no answer for {OPEN_TIMEOUT_S:.0f} s")
            raise MediaError(f"{self.name}: cannot be opened ({why})") from None
        with container:
            if self.channels and not container.streams.audio:
                raise MediaError(f"{self.name}: has no audio track")
            if self.channels and container.streams.audio[0].codec_context is None:
                raise MediaError(f"{self.name}: the audio is of a kind that cannot be decoded")
            check_limits(container, self.name)
            yield from self._blocks(container)

    def _open(self) -> av.container.InputContainer:
        return self._opened_with(self._opened, self._container, LIMITS | self._options)

    def _opened_with(
        self, what: Any, form: str | None, options: dict[str, str], io_open: Callable[..., Any] | None = None
    ) -> av.container.InputContainer:
        return av.open(
            what,
            format=form,
            options=options,
            timeout=(OPEN_TIMEOUT_S, PACKET_TIMEOUT_S),
            metadata_errors="replace",
            io_open=io_open,
        )

    def _finite(self, container: av.container.InputContainer) -> bool:
        """Whether it may just end: of a recording on a web server the duration is known, of a live stream not."""
        return bool(container.duration)

    def _blocks(self, container: av.container.InputContainer) -> Iterator[Block]:
        seen = [stream for stream in container.streams.video if stream.codec_context is not None]
        streams = [*container.streams.audio[: self.channels], *seen[:1]]
        sound, pictures = AudioDecoder(), VideoDecoder(0.0)
        shown: deque[VideoFrame] = deque(maxlen=MAX_FRAMES_PER_BLOCK)
        held: Samples = np.zeros((self.channels, 0), np.float32)
        number = done = 0
        try:
            for packet in container.demux(streams):
                if self._stopping.is_set():
                    return
                for frame in self._decoded(packet):
                    if isinstance(frame, av.VideoFrame):
                        pictures.start = sound.start if sound.start is not None else pictures.start
                        shown += pictures.take(frame)
                    elif isinstance(frame, av.AudioFrame):
                        for samples in sound.take(frame):
                            held = np.concatenate([held, samples], 1)
                            while held.shape[1] >= BLOCK and not self._stopping.is_set():
                                yield Block(number, done / RATE, held[:, :BLOCK], tuple(shown))
                                number, done, held = number + 1, done + BLOCK, held[:, BLOCK:]
                                shown.clear()
                if not self.channels and shown:
                    yield Block(number, shown[0].time, held, tuple(shown))
                    number += 1
                    shown.clear()
            if held.shape[1]:
                yield Block(number, done / RATE, held, tuple(shown))
            if not self._finite(container):
                self.ended_early = ENDED
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.ended_early = _why(error, f"no packet for {PACKET_TIMEOUT_S:.0f} s")

    def _decoded(self, packet: av.Packet) -> list[Any]:
        """The frames of a packet; of a damaged picture none, for the sound goes on."""
        try:
            return list(packet.decode())
        except av.error.FFmpegError:
            if packet.stream.type != "video":
                raise
            return []


def _why(error: Exception, waited: str) -> str:
    """A failure in words; PyAV's own time limit shows as an exit that somebody requested."""
    return waited if isinstance(error, TimeoutError | av.error.ExitError) else error_text(error)
