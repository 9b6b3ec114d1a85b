"""A live source that reconnects after a lost connection."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from stream.block import RATE, Block
from stream.clock import Clock, MonotonicClock
from stream.errors import MediaError
from stream.sources.base import Source


class ReconnectingSource:
    """Reopens a source whenever it breaks, with back-off; the media clock continues during the gap."""

    live = True

    def __init__(
        self,
        connect: Callable[[], Source],
        give_up: float = 300.0,
        seconds: float | None = None,
        first: float = 0.5,
        longest: float = 30.0,
        clock: Clock = MonotonicClock(),
    ) -> None:
        """connect: creates the source for each attempt; give_up: seconds without success after which the source counts
        as ended; seconds: maximum length of media; first, longest: pause between attempts in seconds, which doubles.

        Raises MediaError if the first `connect` fails.
        """
        self._connect, self._give_up, self._first, self._longest = connect, give_up, first, longest
        self._pause, self._seconds, self._clock = first, seconds, clock
        self._source: Source = connect()
        self._stopping = threading.Event()
        self.name, self.channels = self._source.name, self._source.channels
        self.split, self.video = self._source.split, self._source.video
        self.repaired = 0
        self._damaged: Counter[str] = Counter()
        self.reconnects = 0
        self.ended_early: str | None = None

    def counts(self) -> dict[str, int]:
        return {**self._damaged, "repaired_samples": self.repaired, "reconnects": self.reconnects}

    def stop(self) -> None:
        """Stop the source and do not reconnect."""
        self._stopping.set()
        self._source.stop()

    def __iter__(self) -> Iterator[Block]:
        """Blocks on one clock, audio float32 [channels, n]. Before and after a gap, an empty block has a `notice`.

        Raises MediaError if the first connection fails.
        """
        number, clock = 0, 0.0
        lost_at: float | None = None
        while not self._stopping.is_set():
            offset: float | None = None
            reason = ""
            try:
                for block in self._source:
                    gap = 0.0
                    if offset is None:
                        arrived = self._clock.now() - block.samples.shape[1] / RATE
                        gap = 0.0 if lost_at is None else max(0.0, arrived - lost_at)
                        offset = clock + gap - block.start
                        if lost_at is not None:
                            self._pause = self._first
                            self.reconnects += 1
                            yield self._notice(number, clock, f"{self.name} is back after {gap:.1f} s")
                            number, lost_at = number + 1, None
                    frames = tuple(replace(frame, time=frame.time + offset) for frame in block.frames)
                    start = block.start + offset
                    yield replace(block, number=number, start=start, frames=frames, dropped=block.dropped + gap)
                    number, clock = number + 1, start + block.samples.shape[1] / RATE
                    if self._seconds is not None and clock >= self._seconds:
                        self.stop()
                reason = self._source.ended_early or ""
            except MediaError as error:
                if number == 0:
                    raise
                reason = str(error)
            self.repaired += self._source.repaired
            self._damaged.update(self._source.counts())
            if not reason or self._stopping.is_set():
                return
            if lost_at is None:
                lost_at = self._clock.now()
                yield self._notice(number, clock, f"{self.name} is lost: {reason}; trying to reconnect")
                number += 1
            if not self._reconnect(lost_at, clock):
                if self._seconds is not None and clock + self._clock.now() - lost_at >= self._seconds:
                    return
                self.ended_early = f"{self.name}: {reason}; not back within {self._give_up:.0f} s"
                return

    def _reconnect(self, lost_at: float, position: float) -> bool:
        """Pause and create the source again, until it succeeds; False if `give_up` seconds have passed, or the media's
        maximum length, of which `position` seconds had been reached."""
        over = math.inf if self._seconds is None else lost_at + self._seconds - position
        while (now := self._clock.now()) - lost_at < self._give_up and now < over:
            if self._clock.wait(self._stopping, min(self._pause, over - now)):
                break
            self._pause = min(2 * self._pause, self._longest)
            with contextlib.suppress(MediaError):
                self._source = self._connect()
                return True
        return self._stopping.is_set()

    def _notice(self, number: int, clock: float, notice: str) -> Block:
        return Block(number, clock, np.zeros((self.channels, 0), np.float32), notice=notice)
