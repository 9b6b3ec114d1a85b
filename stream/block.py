"""The units of media: blocks, which sources deliver, and utterances, into which speech is cut."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Sample rate in Hz of all audio inside the system."""

Samples = NDArray[np.float32]
"""Audio at `RATE`, float32 with full scale ±1: [n] for one channel, [channels, n] for several."""

BLOCK_SAMPLES = RATE // 25
"""Samples in a block (40 ms). A block is processed when it is complete, so its length adds to every label's delay."""


@dataclass(frozen=True)
class VideoFrame:
    """One video frame and its time."""

    time: float
    """Seconds on the media clock."""
    image: NDArray[np.uint8]
    """[height, width, 3] RGB."""
    channel: int | None = None
    """Audio channel whose speaker it shows; None if it may show any speaker."""


@dataclass(frozen=True)
class Block:
    """A piece of media, rarely longer than `BLOCK_SAMPLES`. The blocks of a source are in order and without gaps."""

    number: int
    start: float
    """Time of the first sample, in seconds on the media clock."""
    samples: Samples
    """Audio, float32 [channels, n] at `RATE`."""
    frames: tuple[VideoFrame, ...] = ()
    """Video frames taken during the block."""
    dropped: float = 0.0
    """Seconds of audio lost just before this block (a microphone that was not read in time, say), not replaced."""
    lag: float = 0.0
    """Delay of the block against the media clock, in seconds."""
    notice: str | None = None
    """Message about the source (connection lost, connected again), to be published before this block, which may be
    empty."""


@dataclass(frozen=True)
class Utterance:
    """Contiguous speech of one speaker. Times in seconds on the media clock."""

    channel: int
    start: float
    """Time of the first sample, including the pre-roll."""
    end: float
    """End of speech, without the silence that followed."""
    samples: Samples
    """Mono audio, float32 [n] at `RATE`, from `start` to slightly after `end`."""
    confirmed: float
    """Media time at which the end was detected."""
    speaker: str | None = None
    """Name of the speaker, if turns were annotated or the channel has a name."""
    frames: tuple[VideoFrame, ...] = field(default=(), repr=False)
    onset: float | None = None
    """Start of speech, after the pre-roll; None = `start`."""
    voice: int | None = None
    """Number of the local speaker, where several are told apart on the channel (`stream.speech.local_speakers`)."""
    alone: tuple[tuple[float, float], ...] | None = None
    """Stretches in which nobody else speaks, in seconds from `start`; None = all of it."""
    silenced: tuple[tuple[float, float], ...] = ()
    """Stretches in which only others speak, and the samples are 0, in seconds from `start`."""

    @property
    def spoken(self) -> float:
        """Duration of the speech in seconds, from its onset to its end."""
        return self.end - (self.start if self.onset is None else self.onset)
