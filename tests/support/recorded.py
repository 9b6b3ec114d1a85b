"""Recorded sessions with clicks and flashes at known times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from stream.block import RATE, Block, VideoFrame
from stream.sources.recording import Recorder
from tests.support.conversations import started
from tests.support.events import ended

PIECE = RATE // 25


class Scripted:
    """Blocks of 40 ms at the times of a script, with clicks of one channel, and a flash of the first camera."""

    name, split, video, live, repaired, ended_early = "scripted", True, True, True, 0, None

    def __init__(
        self,
        spans: list[tuple[float, float]],
        clicks: list[tuple[float, int]],
        channels: int,
        flash: float | None = None,
    ) -> None:
        self.spans, self.clicks, self.channels, self.flash = spans, clicks, channels, flash

    def counts(self) -> dict[str, int]:
        return {}

    def stop(self) -> None:
        pass

    def __iter__(self) -> Iterator[Block]:
        number = 0
        for begin, end in self.spans:
            for first in range(round(begin * RATE), round(end * RATE), PIECE):
                samples = np.zeros((self.channels, PIECE), np.float32)
                for time, channel in self.clicks:
                    at = round(time * RATE) - first
                    if 0 <= at < PIECE:
                        samples[channel, at : at + 32] = 0.9
                start = first / RATE
                frames: tuple[VideoFrame, ...] = ()
                if self.flash is not None and number % 3 == 0:
                    bright = 255 if self.flash <= start < self.flash + 0.3 else 0
                    frames = (VideoFrame(start, np.full((48, 64, 3), bright, np.uint8), 0),)
                yield Block(number, start, samples, frames)
                number += 1


def record(folder: Path, source: Scripted, **change) -> Recorder:
    recorder = Recorder(source, folder, {}, {})
    for _ in recorder:
        pass
    recorder.event(started(**change))
    recorder.event(ended("s"))
    return recorder


def played(path: Path) -> np.ndarray:
    """The samples [n] at 48 kHz, at the places that their time stamps say."""
    found = np.zeros(0, np.float32)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            at = max(0, round(float(frame.time) * 48_000))
            piece = frame.to_ndarray().reshape(-1)
            found = np.concatenate([found[:at], np.zeros(max(0, at - len(found)), np.float32), piece])
    return found


def clicks_of(path: Path) -> list[float]:
    """Seconds at which a click is heard."""
    loud = np.flatnonzero(np.abs(played(path)) > 0.1) / 48_000
    return [float(each) for n, each in enumerate(loud) if not n or each - loud[n - 1] > 0.2]
