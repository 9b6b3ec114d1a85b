"""Media that a client (a browser, a program) sends piece by piece, over connections that may be lost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av

from stream.block import Block
from stream.clock import Clock, MonotonicClock
from stream.errors import MediaError
from stream.sources.arrival import BytePipe, PcmSource
from stream.sources.network import ENDED, NetworkSource

CONTAINERS = {"webm": "matroska", "pcm": "s16le"}  # FFmpeg's name by format
HEAD_BYTES = 8  # of a connection, which tell its format
HEADER_BYTES, HEADER_S = 16 << 10, 10.0  # of WebM, within which its header has come; FFmpeg looks at 4 KB
MAGIC = {  # position and value of the bytes by which formats are known
    "WebM": (0, b"\x1aE\xdf\xa3"), "MP4": (4, b"ftyp"), "Ogg": (0, b"OggS"), "FLAC": (0, b"fLaC"), "MP3": (0, b"ID3"),
}  # fmt: skip
SAMPLE_RATES = range(8_000, 96_001)  # supported rates of PCM in Hz
MAX_CONNECTIONS = 8  # connections of one track that wait to be read in turn


class WebmSource(NetworkSource):
    """WebM of one connection."""

    opened = False
    """True once the header has been read."""

    def _open(self) -> av.container.InputContainer:
        container = super()._open()
        self.opened = True
        return container


@dataclass
class Connection:
    """One connection of a track, which is a source of its own."""

    id: str
    format: str
    source: WebmSource | PcmSource
    pipe: BytePipe
    failure: str | None = None
    """Reason why its data cannot be read."""
    head: bytes | None = b""
    """Its first bytes, until there are enough to tell their format; then None."""

    def write(self, piece: bytes) -> None:
        """Add bytes for the reader, unless their beginning is that of another format: then `failure` says so."""
        if self.head is not None:
            piece = self.head + piece
            self.head = piece if len(piece) < HEAD_BYTES else None
            if self.head is not None:
                return
            if reason := _foreign(piece, self.format):
                self.fail(reason)
                return
        self.pipe.write(piece)

    def check(self) -> None:
        """Let it fail if there is enough of it and no beginning: FFmpeg would look for one to the end."""
        if not self.source.opened and self.pipe.written > HEADER_BYTES and self.pipe.age > HEADER_S:
            self.fail("its header cannot be read: start a new recorder and connect again")

    def fail(self, reason: str | None) -> None:
        """Its data cannot be read; whoever sends it is told."""
        self.failure = self.failure or reason
        self.pipe.close(is_final=self.pipe.is_final)


def _foreign(head: bytes, format: str) -> str | None:
    """Reason why data that begin like this are not of the format; None if they may be."""
    found = next((name for name, (first, magic) in MAGIC.items() if head[first:].startswith(magic)), None)
    if format == "pcm":
        return None if found is None else f"this is {found} and no PCM: connect with the format that it has"
    if found is None:
        return "no WebM header, which only a recorder's first chunk has: start a new recorder and connect again"
    return None if found == "WebM" else f"this is {found} and no WebM: send WebM or PCM"


class PushedTrack:
    """One track and its successive connections, each of which is a source of its own (see `reconnecting`)."""

    def __init__(self, name: str, video: bool = False, patience: float = 60.0, clock: Clock = MonotonicClock()) -> None:
        """patience: seconds to wait for the first connection."""
        self.name, self.video, self.patience = name, video, patience
        self._clock = clock
        self._current: Connection | None = None
        self._waiting: deque[Connection] = deque()
        self.ended = False
        """True if the sender declared the end before the track was read."""
        self._first = True
        self._changed = threading.Condition()

    def attach(self, connection: str, format: str, rate: int = 16_000) -> None:
        """Register a new connection, which replaces the current one.

        format: "webm" or "pcm" (16 bit, little-endian, mono, `rate` Hz). Raises MediaError.
        """
        if format not in CONTAINERS:
            raise MediaError(f"format {format!r}: one of {', '.join(CONTAINERS)}")
        if rate not in SAMPLE_RATES:
            raise MediaError(f"rate {rate}: between {SAMPLE_RATES[0]} and {SAMPLE_RATES[-1]} Hz")
        pipe = BytePipe(self._clock)
        source: WebmSource | PcmSource
        if format == "pcm":
            source = PcmSource(rate, pipe, self._clock)
        else:  # of which FFmpeg reads the header only
            source = WebmSource(self.name, CONTAINERS[format], {"probesize": "4096"}, pipe, self._clock)
        with self._changed:
            if len(self._waiting) >= MAX_CONNECTIONS:
                raise MediaError(f"{self.name}: {MAX_CONNECTIONS} connections of this track are waiting already")
            if self._current is not None:
                self._current.pipe.close(is_final=False)
            self._current = Connection(connection, format, source, pipe)
            self._waiting.append(self._current)
            self._changed.notify()

    def feed(self, connection: str, piece: bytes) -> None:
        """Add bytes from a connection. Raises MediaError as `full` does."""
        self._find(connection).write(piece)
        self._find(connection)  # the piece may have been refused

    def full(self, connection: str) -> bool:
        """True if the sender should wait.

        Raises MediaError if another connection has replaced this one, or its data cannot be read.
        """
        return self._find(connection).pipe.full

    def detach(self, connection: str, is_final: bool) -> None:
        """The sender has disconnected; is_final: the track has ended.

        An unknown connection can end the track too, because it may have been attached to a process that was killed.
        """
        with self._changed:
            if self._current is not None and self._current.id == connection:
                self._current.pipe.close(is_final)
                self._current = None
            elif self._current is None and not self._waiting:
                self.ended |= is_final
                self._changed.notify()

    def connect(self) -> PushedSource:
        """A source for the next connection. Raises MediaError if there has been one and no other has come yet."""
        with self._changed:
            if not self._first and not self._waiting:
                raise MediaError(f"{self.name}: not connected")
            self._first = False
        return PushedSource(self)

    def next_connection(self, timeout: float) -> Connection | None:
        """The next connection to read; None if none comes within `timeout` seconds or the track has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.ended, timeout)
            return self._waiting.popleft() if self._waiting else None

    def _find(self, connection: str) -> Connection:
        with self._changed:
            if self._current is None or self._current.id != connection:
                raise MediaError(f"{self.name}: another connection has replaced this one")
            self._current.check()
            if self._current.failure is not None:
                raise MediaError(f"{self.name}: {self._current.failure}")
            return self._current


class PushedSource:
    """The source of one connection of a pushed track."""

    channels = 1
    split = False
    live = True

    def __init__(self, track: PushedTrack) -> None:
        self.name, self.video = track.name, track.video
        self.ended_early: str | None = None
        self._track = track
        self._stopping = threading.Event()
        self._pipe: BytePipe | None = None
        self._source: WebmSource | PcmSource | None = None

    @property
    def repaired(self) -> int:
        return 0 if self._source is None else self._source.repaired

    def counts(self) -> dict[str, int]:
        return {} if self._source is None else self._source.counts()

    def stop(self) -> None:
        """Deliver no further blocks."""
        self._stopping.set()
        if self._pipe is not None:
            self._pipe.close(is_final=True)

    def __iter__(self) -> Iterator[Block]:
        """Blocks of 40 ms, audio float32 [1, 640], with video frames if the track has any.

        Raises MediaError if no sender connects in time or its data cannot be read.
        """
        waited = 0.0
        while (connection := self._track.next_connection(timeout=0.2)) is None:
            waited += 0.2
            if self._stopping.is_set() or self._track.ended:
                return
            if waited > self._track.patience:
                raise MediaError(f"{self.name}: no sender connected within {self._track.patience:.0f} s")
        self._pipe, self._source = connection.pipe, connection.source
        reason: str | None
        try:
            yield from self._source
            reason = self._source.ended_early
        except MediaError as error:
            if self._pipe.is_final and connection.head is None and connection.failure is None:
                raise  # nobody will send it better
            reason = str(error).removeprefix(f"{self.name}: ")
        was_read = reason in (None, ENDED) and self._pipe.closed
        if not was_read and connection.head is None:
            connection.fail(reason if reason not in (None, ENDED) else "its data ended before the connection")
        self.ended_early = connection.failure
        if connection.failure is None and not self._pipe.is_final:
            self.ended_early = "the connection was lost"
