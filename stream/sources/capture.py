"""Recording from a device of this machine: the part that all ways to it share."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress

import numpy as np

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples

MAX_BLOCKS = 100  # blocks (4 s) queued for a slow reader; beyond that the oldest are dropped and counted
OVERFLOW = "the sound card lost samples: this machine is too busy to read its buffer in time"
STALLED_S = 5  # seconds without a block after which a device counts as lost; even silence arrives in blocks


class CaptureSource:
    """Blocks that the thread of a sound library delivers, until `stop()`. A subclass opens the device."""

    repaired = 0
    video = False
    live = True

    def __init__(self, name: str, channels: int) -> None:
        self.name, self.channels, self.split = name, channels, channels > 1
        self.ended_early: str | None = None
        self._queue: queue.Queue[Samples] = queue.Queue(MAX_BLOCKS)
        self._rest: Samples = np.zeros((channels, 0), np.float32)
        self._lost = 0
        self._notice: str | None = None
        self._stopping = threading.Event()

    def opened(self) -> AbstractContextManager[object]:
        """Open the device, which then calls `receive` and, at its end, `finish`. Raises MediaError."""
        raise NotImplementedError

    def receive(self, samples: Samples, overflowed: bool) -> None:
        """Queue samples, float32 [n, channels]; overflowed: some were lost before them."""
        if overflowed:
            self.tell(OVERFLOW)
        # Copied, because the library uses its buffer again.
        self._rest = np.concatenate([self._rest, samples.T], 1)
        while self._rest.shape[1] >= BLOCK_SAMPLES:
            self._put(self._rest[:, :BLOCK_SAMPLES])
            self._rest = self._rest[:, BLOCK_SAMPLES:]

    def _put(self, block: Samples) -> None:
        """Queue a block; the oldest gives way when the queue is full."""
        while True:
            try:
                self._queue.put_nowait(block)
                return
            except queue.Full:
                with suppress(queue.Empty):
                    self._lost += self._queue.get_nowait().shape[1]

    def tell(self, notice: str) -> None:
        """Say something about the device with the next block."""
        self._notice = notice

    def finish(self, reason: str) -> None:
        """The device delivers no more; reason: why, unless it was stopped."""
        if not self._stopping.is_set():
            self.ended_early = reason
        self._stopping.set()

    def counts(self) -> dict[str, int]:
        return {"repaired_samples": self.repaired}

    def stop(self) -> None:
        """Stop recording; blocks recorded before are still delivered."""
        self._stopping.set()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of 40 ms, audio float32 [channels, 640]. Raises MediaError if the device cannot be opened."""
        number = done = silent = 0
        # Opened here and not before, so that nobody is recorded before the session has started.
        with self.opened():
            try:
                while not (self._stopping.is_set() and self._queue.empty()):
                    try:
                        samples = self._queue.get(timeout=0.2)
                    except queue.Empty:
                        silent += 1
                        if silent * 0.2 >= STALLED_S:
                            self.ended_early = f"the microphone delivered no audio for {STALLED_S} s"
                            return
                        continue
                    silent = 0
                    lost, self._lost = self._lost, 0
                    notice, self._notice = self._notice, None
                    lag = self._queue.qsize() * BLOCK_SAMPLES / RATE
                    yield Block(number, (done + lost) / RATE, samples, dropped=lost / RATE, lag=lag, notice=notice)
                    number, done = number + 1, done + lost + samples.shape[1]
            finally:
                self._stopping.set()
