"""A track that somebody sends us piece by piece (a browser, a program), over connections that may be lost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from stream.block import Block
from stream.errors import MediaError
from stream.sources.network import ENDED, NetworkSource

CONTAINERS = {"webm": "matroska", "pcm": "s16le"}
SAMPLE_RATES = range(8_000, 96_001)  # Hz, of PCM
MAX_CONNECTIONS = 8  # of a track, that wait to be read one after the other
MAX_BUFFERED_BYTES = 1 << 20  # bytes that wait to be decoded before the sender has to


class BytePipe:
    """Bytes from an event loop to the thread that decodes them."""

    def __init__(self) -> None:
        self.over = False
        """The sender said that the track is at its end."""
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.closed = False
        self._changed = threading.Condition()

    @property
    def full(self) -> bool:
        return self._size > MAX_BUFFERED_BYTES

    def write(self, piece: bytes) -> None:
        with self._changed:
            self._pieces.append(piece)
            self._size += len(piece)
            self._changed.notify()

    def close(self, over: bool) -> None:
        """Nothing more comes; `over`: because the track is at its end, not because the connection was lost."""
        with self._changed:
            self.closed, self.over = True, over
            self._changed.notify()

    def read(self, size: int = MAX_BUFFERED_BYTES, /) -> bytes:
        """Up to `size` bytes as soon as there are any; b"" at the end."""
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
    """The connections of one track, one after the other, each a source of its own (see `reconnecting`)."""

    def __init__(self, name: str, video: bool = False, patience: float = 60.0) -> None:
        """patience: seconds that the first connection may take to come."""
        self.name, self.video, self.patience = name, video, patience
        self._current: tuple[str, NetworkSource, BytePipe] | None = None
        self._waiting: deque[tuple[NetworkSource, BytePipe]] = deque()
        self.over = False
        """It ended before anybody listened."""
        self._first = True
        self._changed = threading.Condition()

    def attach(self, connection: str, form: str, rate: int = 16_000) -> None:
        """A sender is here; the one before it, if nobody noticed its end, is lost.

        form: "webm" or "pcm" (16 bit, little-endian, mono, `rate` Hz). Raises MediaError.
        """
        if form not in CONTAINERS:
            raise MediaError(f"format {form!r}: one of {', '.join(CONTAINERS)}")
        if rate not in SAMPLE_RATES:
            raise MediaError(f"rate {rate}: between {SAMPLE_RATES[0]} and {SAMPLE_RATES[-1]} Hz")
        pipe = BytePipe()
        # Raw samples carry no header, so FFmpeg need not look ahead; of WebM it reads the header only.
        options = {"sample_rate": str(rate), "ch_layout": "mono"} if form == "pcm" else {"probesize": "4096"}
        source = NetworkSource(self.name, CONTAINERS[form], options, pipe)
        with self._changed:
            if len(self._waiting) >= MAX_CONNECTIONS:
                raise MediaError(f"{self.name}: {MAX_CONNECTIONS} connections of this track wait to be heard already")
            if self._current is not None:
                self._current[2].close(over=False)
            self._current = (connection, source, pipe)
            self._waiting.append((source, pipe))
            self._changed.notify()

    def feed(self, connection: str, piece: bytes) -> None:
        """Take bytes. Raises MediaError when another connection has taken over."""
        self._pipe(connection).write(piece)

    def full(self, connection: str) -> bool:
        """Whether so much waits that the sender should. Raises MediaError when another connection has taken over."""
        return self._pipe(connection).full

    def detach(self, connection: str, over: bool) -> None:
        """The sender is gone; `over`: for good, also when this is the first that is heard of it (it was connected to a
        process that was killed)."""
        with self._changed:
            if self._current is not None and self._current[0] == connection:
                self._current[2].close(over)
                self._current = None
            elif self._current is None and not self._waiting:
                self.over |= over
                self._changed.notify()

    def connect(self) -> PushedSource:
        """The next connection. Raises MediaError when there has been one and no other is here yet."""
        with self._changed:
            if not self._first and not self._waiting:
                raise MediaError(f"{self.name}: not connected")
            self._first = False
        return PushedSource(self)

    def take(self, timeout: float) -> tuple[NetworkSource, BytePipe] | None:
        """The connection to read, when one has come within so many seconds, or as soon as none will."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.over, timeout)
            return self._waiting.popleft() if self._waiting else None

    def _pipe(self, connection: str) -> BytePipe:
        with self._changed:
            if self._current is None or self._current[0] != connection:
                raise MediaError(f"{self.name}: another connection sends this track now")
            return self._current[2]


class PushedSource:
    """One connection of a pushed track, from its first bytes to its end."""

    channels = 1
    split = False
    repaired = 0

    def __init__(self, track: PushedTrack) -> None:
        self.name, self.video = track.name, track.video
        self.ended_early: str | None = None
        self._track = track
        self._stopping = threading.Event()
        self._pipe: BytePipe | None = None

    def stop(self) -> None:
        """Deliver no further block."""
        self._stopping.set()
        if self._pipe is not None:
            self._pipe.close(over=True)

    def __iter__(self) -> Iterator[Block]:
        """Blocks of 40 ms, with pictures if the track has any. Raises MediaError when nobody connects, or what comes
        cannot be read."""
        waited = 0.0
        while (taken := self._track.take(timeout=0.2)) is None:
            waited += 0.2
            if self._stopping.is_set() or self._track.over:
                return
            if waited > self._track.patience:
                raise MediaError(f"{self.name}: nobody sent anything within {self._track.patience:.0f} s")
        source, self._pipe = taken
        yield from source
        if source.ended_early not in (None, ENDED):  # what came could not be read to its end
            self.ended_early = source.ended_early
        elif not self._pipe.over:
            self.ended_early = "the connection was lost" if self._pipe.closed else source.ended_early
