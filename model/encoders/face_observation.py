"""What the pictures of an utterance showed. (Apart from `model.encoders.faces`, whose libraries are slow to import.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


@dataclass(frozen=True)
class FaceObservation:
    """What an utterance's pictures showed of its speaker."""

    frames: int
    """Pictures looked at."""
    faces: int
    """Different faces followed through them."""
    visible: float = 0.0
    """Share of the pictures that show the speaking face."""
    quality: float = 0.0
    """0 … 1: how large, sharp, frontal and certain its crops are."""
    speaking: float | None = None
    """Where there were several: share of the speaking face in all that mouths do with the voice; 1/faces = a guess."""
    expression: Array | None = None
    """[7] probabilities of `EXPRESSIONS`, flatter the poorer the crops."""
    reason: str | None = None
    """Why there is no expression."""
