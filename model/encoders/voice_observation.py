"""Result of listening to the sound of one utterance, words aside. (Separate from the encoders, whose libraries import
slowly.)"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
SoundName = Literal["laughter", "crying", "sigh"]


@dataclass(frozen=True)
class Sound:
    """A sound of a person that is no word."""

    name: SoundName
    start: float
    end: float
    """Seconds from the utterance's first sample."""
    probability: float
    """The highest in this stretch, 0 … 1."""


@dataclass(frozen=True)
class VoiceObservation:
    """The sound of one utterance."""

    arousal: float | None = None
    """Intensity of expression, -1 (calm) … 1 (excited); None: too short, or silent."""
    expression: Array | None = None
    """[8] float32 probabilities of `model.labels.RAVDESS`; None like `arousal`."""
    sounds: tuple[Sound, ...] = ()
    """In the order of their starts."""
    states: Array | None = field(default=None, compare=False, repr=False)
    """[1280] float32 from which arousal and expression were judged, to judge them again with Whisper's; None like
    `arousal`."""
