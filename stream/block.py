"""The pieces that flow: blocks of media into the segmenter, utterances out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Samples a second of every array of sound inside the system; float32 with full scale ±1."""

Samples = NDArray[np.float32]

BLOCK = RATE // 25
"""Samples of a block, 40 ms: it is heard when it is whole, so its length is part of every label's delay."""


@dataclass(frozen=True)
class VideoFrame:
    """One picture and the moment it was taken."""

    time: float
    """Seconds on the media clock."""
    image: NDArray[np.uint8]
    """[height, width, 3] RGB."""
    channel: int | None = None
    """Of the audio channel whose speaker it shows; None when it may show any of them."""


@dataclass(frozen=True)
class Block:
    """A stretch of media, seldom longer than `BLOCK`, in order and without gaps."""

    number: int
    start: float
    """Seconds on the media clock of the first sample."""
    samples: Samples
    """[channels, n] at `stream.RATE`."""
    frames: tuple[VideoFrame, ...] = ()
    """Video frames taken during the block."""
    dropped: float = 0.0
    """Seconds of audio lost just before this block (a microphone nobody emptied in time), replaced by nothing."""
    lag: float = 0.0
    """Seconds by which the block came later than the media clock wanted."""
    notice: str | None = None
    """What happened to the source just before this block (lost, back again), for whoever listens. Such a block may be
    empty."""


@dataclass(frozen=True)
class Utterance:
    """One speaker's contiguous speech. Times in seconds on the media clock."""

    channel: int
    start: float
    """First sample kept, pre-roll included."""
    end: float
    """End of speech, without the silence that confirmed it."""
    samples: Samples
    """[n] mono, from `start`, with a little padding after `end`."""
    confirmed: float
    """Media time at which the end was known."""
    speaker: str | None = None
    """Named when turns were given or a channel has a name."""
    frames: tuple[VideoFrame, ...] = field(default=(), repr=False)
    onset: float | None = None
    """First moment of speech, after the pre-roll; None = `start`."""

    @property
    def spoken(self) -> float:
        """Seconds from the onset to the end of speech."""
        return self.end - (self.start if self.onset is None else self.onset)
