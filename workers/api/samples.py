"""Samples as programs have them: arrays and bytes, any rate, any number of channels."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples
from stream.sources.decoding import SAMPLE_RATES, AudioDecoder
from workers.errors import UsageError

MAX_CHANNELS = 16  # that are pushed: a speaker each
MAX_QUEUED_S = 5.0  # seconds of sound that wait to be analysed, after which who pushes waits
MAX_WAV_BYTES = (1 << 32) - 64  # of samples: a WAV file counts its bytes with 32 bits

Pcm = bytes | NDArray[np.int16] | NDArray[np.floating[Any]]
"""Samples: bytes are 16 bit, little-endian, channels interleaved; arrays [n] or [channels, n], int16, or floating point
with full scale ±1."""


def as_array(pcm: Pcm, channels: int | None = None) -> NDArray[Any]:
    """The samples, int16 or float32 [channels, n].

    channels: that there have to be; None: as many as the array has. Raises UsageError.
    """
    if isinstance(pcm, bytes | bytearray | memoryview):
        count = channels or 1
        if len(pcm) % (2 * count):
            raise UsageError(f"samples: {len(pcm)} bytes are not whole samples of 16 bit and {count} channels")
        return np.frombuffer(pcm, "<i2").reshape(-1, count).T.astype(np.int16)
    samples = np.asarray(pcm)
    if samples.ndim == 1:
        samples = samples[None]
    if samples.ndim != 2 or len(samples) != (channels or len(samples)):
        wanted = "[channels, n]" if channels is None else f"[{channels}, n]"
        raise UsageError(f"samples: an array {wanted} or [n], not {list(np.shape(pcm))}")
    if samples.dtype == np.int16:
        return samples
    if not np.issubdtype(samples.dtype, np.floating):
        raise UsageError(f"samples: int16, or floating point with full scale 1, not {samples.dtype}")
    return samples.astype(np.float32)


def as_wav(pcm: Pcm, rate: int) -> bytes:
    """A WAV file of the samples, in memory. rate: in Hz. Raises UsageError."""
    samples = as_array(pcm)
    check_rate(rate)
    channels, count = samples.shape
    if not 1 <= channels <= MAX_CHANNELS:
        raise UsageError(f"samples: 1 to {MAX_CHANNELS} channels, not {channels}; an array is [channels, n]")
    width = samples.dtype.itemsize
    if (size := channels * count * width) > MAX_WAV_BYTES:
        raise UsageError(f"samples: {size / 2**30:.1f} GB; give a file of them instead")
    if not size:
        raise UsageError("samples: there are none")
    kind = 1 if samples.dtype == np.int16 else 3
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, kind, channels, rate, rate * channels * width,
        channels * width, 8 * width, b"data", size,
    )  # fmt: skip
    return head + samples.T.astype(samples.dtype.newbyteorder("<")).tobytes()


def check_rate(rate: int) -> None:
    """Raises UsageError for a sample rate that is none."""
    if rate not in SAMPLE_RATES:
        raise UsageError(f"rate: {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]} Hz, not {rate}")


class PushedSamples:
    """A source of samples that a program pushes, on a clock that counts them: it waits for the program, and the program
    for it."""

    name = "pushed"
    video = live = False
    ended_early: str | None = None

    def __init__(self, rate: int, channels: int) -> None:
        """rate: in Hz; channels: a speaker each, if more than one. Raises UsageError."""
        check_rate(rate)
        if not 1 <= channels <= MAX_CHANNELS:
            raise UsageError(f"channels: 1 to {MAX_CHANNELS}, not {channels}")
        self.channels, self.split = channels, channels > 1
        self.ended = False
        """True once no more samples are taken."""
        self._rate = rate
        self._layout = av.AudioLayout("mono" if channels == 1 else f"{channels}c")
        self._decoder = AudioDecoder(self._layout)
        self._queue: deque[Samples] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._taken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def repaired(self) -> int:
        return self._decoder.repaired

    def counts(self) -> dict[str, int]:
        return {"repaired_samples": self.repaired}

    async def push(self, pcm: Pcm) -> None:
        """Take samples; waits while more than `MAX_QUEUED_S` of them wait. Raises UsageError."""
        given = as_array(pcm, self.channels)
        samples: Samples = given.astype(np.float32) / np.float32(32768 if given.dtype == np.int16 else 1)
        self._loop = asyncio.get_running_loop()
        if self.ended:
            raise UsageError("push: the session takes no more samples")
        with self._changed:
            self._queue += [samples[:, first : first + self._rate] for first in range(0, samples.shape[1], self._rate)]
            self._queued += samples.shape[1]
            self._changed.notify()
        while self._queued > MAX_QUEUED_S * self._rate and not self.ended:
            self._taken.clear()
            await self._taken.wait()

    def stop(self) -> None:
        """Take no more samples; those taken are still delivered."""
        with self._changed:
            self.ended = True
            self._changed.notify()
        self._wake()

    def discard(self) -> None:
        """Deliver no more samples."""
        with self._changed:
            self._queue.clear()
            self._queued = 0
        self.stop()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of 40 ms, audio float32 [channels, 640]; the last one may be shorter."""
        number, rest = 0, np.zeros((self.channels, 0), np.float32)
        for samples in self._decoded():
            rest = np.concatenate([rest, samples], 1)
            while rest.shape[1] >= BLOCK_SAMPLES:
                yield Block(number, number * BLOCK_SAMPLES / RATE, rest[:, :BLOCK_SAMPLES])
                number, rest = number + 1, rest[:, BLOCK_SAMPLES:]
        if rest.shape[1]:
            yield Block(number, number * BLOCK_SAMPLES / RATE, rest)

    def _decoded(self) -> Iterator[Samples]:
        while (samples := self._next()) is not None:
            frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1), "flt", self._layout)
            frame.sample_rate = self._rate
            yield from self._decoder.decode(frame)
        yield from self._decoder.flush()

    def _next(self) -> Samples | None:
        """The next piece; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self.ended)
            samples = self._queue.popleft() if self._queue else None
            self._queued -= 0 if samples is None else samples.shape[1]
        self._wake()
        return samples

    def _wake(self) -> None:
        """Let who pushes go on."""
        if self._loop is not None:
            with suppress(RuntimeError):  # its loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._taken.set)
