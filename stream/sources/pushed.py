"""Media that a client (a browser, a program) sends piece by piece, over connections that may be lost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from stream.block import Block
from stream.errors import MediaError
from stream.sources.network import ENDED, NetworkSource

CONTAINERS = {"webm": "matroska", "pcm": "s16le"}  # FFmpeg's name by format
SAMPLE_RATES = range(8_000, 96_001)  # supported rates of PCM in Hz
MAX_CONNECTIONS = 8  # connections of one track that wait to be read in turn
MAX_BUFFERED_BYTES = 1 << 20  # bytes waiting to be decoded, beyond which the sender has to wait


class BytePipe:
    """Passes bytes from an event loop to the thread that decodes them."""

    def __init__(self) -> None:
        self.is_final = False
        """True if the sender declared the end of the track."""
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.closed = False
        """True once no more bytes will come."""
        self._changed = threading.Condition()

    @property
    def full(self) -> bool:
        """True if the sender should wait."""
        return self._size > MAX_BUFFERED_BYTES

    def write(self, piece: bytes) -> None:
        """Add bytes for the reader."""
        with self._changed:
            self._pieces.append(piece)
            self._size += len(piece)
            self._changed.notify()

    def close(self, is_final: bool) -> None:
        """No more bytes will come; is_final: because the track has ended, not because the connection was lost."""
        with self._changed:
            self.closed, self.is_final = True, is_final
            self._changed.notify()

    def read(self, size: int = MAX_BUFFERED_BYTES, /) -> bytes:
        """Read up to `size` bytes as soon as there are any; b"" at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self.closed)
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
                piece = piece[:size]
            self._size -= len(piece)
            return piece


class PushedTrack:
    """One track and its successive connections, each of which is a source of its own (see `reconnecting`)."""

    def __init__(self, name: str, video: bool = False, patience: float = 60.0) -> None:
        """patience: seconds to wait for the first connection."""
        self.name, self.video, self.patience = name, video, patience
        self._current: tuple[str, NetworkSource, BytePipe] | None = None
        self._waiting: deque[tuple[NetworkSource, BytePipe]] = deque()
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
        pipe = BytePipe()
        # PCM has no header, so FFmpeg needs no probing; of WebM it reads the header only.
        options = {"sample_rate": str(rate), "ch_layout": "mono"} if format == "pcm" else {"probesize": "4096"}
        source = NetworkSource(self.name, CONTAINERS[format], options, pipe)
        with self._changed:
            if len(self._waiting) >= MAX_CONNECTIONS:
                raise MediaError(f"{self.name}: {MAX_CONNECTIONS} connections of this track are waiting already")
            if self._current is not None:
                self._current[2].close(is_final=False)
            self._current = (connection, source, pipe)
            self._waiting.append((source, pipe))
            self._changed.notify()

    def feed(self, connection: str, piece: bytes) -> None:
        """Add bytes from a connection. Raises MediaError if another connection has replaced it."""
        self._pipe(connection).write(piece)

    def full(self, connection: str) -> bool:
        """True if the sender should wait. Raises MediaError if another connection has replaced this one."""
        return self._pipe(connection).full

    def detach(self, connection: str, is_final: bool) -> None:
        """The sender has disconnected; is_final: the track has ended.

        An unknown connection can end the track too, because it may have been attached to a process that was killed.
        """
        with self._changed:
            if self._current is not None and self._current[0] == connection:
                self._current[2].close(is_final)
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

    def next_connection(self, timeout: float) -> tuple[NetworkSource, BytePipe] | None:
        """The next connection to read; None if none comes within `timeout` seconds or the track has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.ended, timeout)
            return self._waiting.popleft() if self._waiting else None

    def _pipe(self, connection: str) -> BytePipe:
        with self._changed:
            if self._current is None or self._current[0] != connection:
                raise MediaError(f"{self.name}: another connection has replaced this one")
            return self._current[2]


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
        self._source: NetworkSource | None = None

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
        source, self._pipe = connection
        self._source = source
        yield from source
        if source.ended_early not in (None, ENDED):  # the data could not be read to its end
            self.ended_early = source.ended_early
        elif not self._pipe.is_final:
            self.ended_early = "the connection was lost" if self._pipe.closed else source.ended_early
