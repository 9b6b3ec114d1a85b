"""Bytes as they arrive from a sender, and raw samples, which only their arrival places on the clock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples
from stream.clock import Clock, MonotonicClock
from stream.sources.decoding import AudioDecoder

MAX_BUFFERED_BYTES = 1 << 20  # bytes waiting to be decoded, beyond which the sender has to wait
PAUSE_S = (
    0.25  # seconds by which sound arrives late that a sender may have paused; packets of a network scatter by less
)
SETTLE_S = 0.3  # seconds in which a network that hung delivers what it held back
WINDOW_S = 10.0  # seconds in which the earliest arrival is that of a network without delay
MAX_BACKDATED_S = 0.5  # of a piece, by which it begins before its arrival: the next piece has to come in time
POLL_S = 60.0  # seconds after which a thread that waits looks again; whatever comes wakes it before


class BytePipe:
    """Passes bytes from an event loop to the thread that decodes them."""

    def __init__(self, clock: Clock = MonotonicClock()) -> None:
        self.is_final = False
        """True if the sender declared the end of the track."""
        self.closed = False
        """True once no more bytes will come."""
        self.written = 0
        """Bytes that have come."""
        self._clock, self._began = clock, clock.now()
        self._pieces: deque[tuple[bytes, float]] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self._news = threading.Event()

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return self._clock.now() - self._began

    @property
    def full(self) -> bool:
        """True if the sender should wait."""
        return self._size > MAX_BUFFERED_BYTES

    def write(self, piece: bytes) -> None:
        """Add bytes for the reader."""
        with self._lock:
            self._pieces.append((piece, self._clock.now()))
            self._size += len(piece)
            self.written += len(piece)
            self._news.set()

    def close(self, is_final: bool) -> None:
        """No more bytes will come; is_final: because the track has ended, not because the connection was lost."""
        with self._lock:
            self.closed, self.is_final = True, is_final
            self._news.set()

    def read(self, size: int = MAX_BUFFERED_BYTES, /) -> bytes:
        """Read up to `size` bytes as soon as there are any; b"" at the end."""
        while (piece := self.next_piece(None, size)) is None:
            pass
        return piece[0]

    def next_piece(self, until: float | None, size: int = MAX_BUFFERED_BYTES) -> tuple[bytes, float] | None:
        """Up to `size` bytes of the next piece, and when it arrived.

        b"" stands for the end; None means that nothing has come by `until`.
        """
        while True:
            with self._lock:
                if self._pieces:
                    piece, arrival = self._pieces.popleft()
                    if len(piece) > size:
                        self._pieces.appendleft((piece[size:], arrival))
                        piece = piece[:size]
                    self._size -= len(piece)
                    return piece, arrival
                if self.closed:
                    return b"", self._clock.now()
                self._news.clear()
            left = POLL_S if until is None else until - self._clock.now()
            if left <= 0:
                return None
            self._clock.wait(self._news, left)


@dataclass(frozen=True)
class Placed:
    """Samples with their place on the clock."""

    start: int
    """Position of the first sample, in samples since the first that came."""
    samples: Samples
    """float32 [1, n]."""
    arrival: float
    """Time of the last sample, in seconds on the receiver's clock."""


class ArrivalClock:
    """Places samples by the time of their arrival, because nothing else says when they were recorded.

    Samples follow those before them, unless they arrive `PAUSE_S` later than that. Then they are held back for
    `SETTLE_S`. If the delay is made up by then, a network was slow, and they follow those before them. If not, the
    sender had paused: the last of them lies at its arrival. A pause during which the network hung as well cannot be
    told from a longer one.
    """

    def __init__(self) -> None:
        self.due: float | None = None
        """Time at which samples that are held back have to be placed; None if there are none."""
        self._end = 0
        """End of all samples, in samples since the first."""
        self._held: list[Samples] = []
        self._arrival = 0.0
        """Arrival of the last sample."""
        self._leads: deque[tuple[float, float]] = deque()
        """Arrivals within the window, and by how many seconds the samples' clock was ahead of them; decreasing."""

    def add(self, samples: Samples, arrival: float) -> list[Placed]:
        """Take samples, float32 [1, n], that arrived as one piece; returns those that have a place now."""
        placed = self.settle() if self.due is not None and arrival >= self.due else []
        self._held.append(samples)
        self._end += samples.shape[1]
        self._arrival = arrival
        if self._lateness() > PAUSE_S:
            self.due = self.due or arrival + SETTLE_S
            return placed
        lead = self._end / RATE - arrival
        while self._leads and self._leads[0][0] < arrival - WINDOW_S:
            self._leads.popleft()
        while self._leads and self._leads[-1][1] <= lead:
            self._leads.pop()
        self._leads.append((arrival, lead))
        return placed + self._release()

    def settle(self) -> list[Placed]:
        """Place what is held back: nothing has made up for its delay."""
        if not self._held:
            return []
        lateness = self._lateness()
        self._end += round(lateness * RATE)
        self._leads = deque([(self._arrival, self._end / RATE - self._arrival)])
        return self._release()

    def _lateness(self) -> float:
        """Seconds by which the last sample came later than one that follows the others would have."""
        return self._leads[0][1] - (self._end / RATE - self._arrival) if self._leads else 0.0

    def _release(self) -> list[Placed]:
        samples = np.concatenate(self._held, 1)
        self._held, self.due = [], None
        return [Placed(self._end - samples.shape[1], samples, self._arrival)]


class PcmSource:
    """Raw samples of one connection: 16 bit, little-endian, mono."""

    repaired = 0
    opened = True
    """There is no header to be read."""

    def __init__(self, rate: int, pipe: BytePipe, clock: Clock = MonotonicClock()) -> None:
        """rate: in Hz."""
        self.ended_early: str | None = None
        self._rate, self._pipe, self._clock = rate, pipe, clock

    def counts(self) -> dict[str, int]:
        return {"repaired_samples": self.repaired}

    def __iter__(self) -> Iterator[Block]:
        """Blocks of at most 40 ms, audio float32 [1, n], without delay; after a pause of the sender, their start jumps.

        Their lag says when they arrived.
        """
        decoder, arrivals, number, rest, ended = AudioDecoder(), ArrivalClock(), 0, b"", False
        while not ended:
            arrived = self._pipe.next_piece(arrivals.due)
            ended = arrived is not None and not arrived[0]
            if arrived is None or ended:
                placed = arrivals.settle()
            else:
                whole, rest = _whole_samples(rest + arrived[0])
                placed = self._add(decoder, arrivals, whole, arrived[1])
            for block in self._blocks(placed, number):
                yield block
                number = block.number + 1

    def _add(self, decoder: AudioDecoder, arrivals: ArrivalClock, content: bytes, arrival: float) -> list[Placed]:
        if not content:
            return []
        frame = av.AudioFrame.from_ndarray(np.frombuffer(content, "<i2")[None].astype(np.int16), "s16", "mono")
        frame.sample_rate = self._rate
        samples = list(decoder.decode(frame))
        return arrivals.add(np.concatenate(samples, 1), arrival) if samples else []

    def _blocks(self, placed: list[Placed], number: int) -> Iterator[Block]:
        for piece in placed:
            length = piece.samples.shape[1]
            begun = piece.arrival - min(length / RATE, MAX_BACKDATED_S)
            for first in range(0, length, BLOCK_SAMPLES):
                samples = piece.samples[:, first : first + BLOCK_SAMPLES]
                lag = max(0.0, self._clock.now() - begun - (first + samples.shape[1]) / RATE)
                yield Block(number, (piece.start + first) / RATE, samples, lag=lag)
                number += 1


def _whole_samples(content: bytes) -> tuple[bytes, bytes]:
    """Content up to its last whole sample of 16 bit, and the rest."""
    size = len(content) // 2 * 2
    return content[:size], content[size:]
