"""Result of the face analysis of one utterance. (Separate from `model.encoders.faces`, whose libraries import
slowly.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


@dataclass(frozen=True)
class FaceObservation:
    """The speaker's face in the pictures of one utterance."""

    frames: int
    """Number of analysed pictures."""
    faces: int
    """Number of different faces that were tracked through them."""
    visible: float = 0.0
    """Share of the pictures that show the speaker's face, 0 … 1."""
    quality: float = 0.0
    """Mean quality of the face crops, 0 … 1: size, sharpness, frontality, detector score."""
    speaking: float | None = None
    """Several faces: share of the speaker's in all mouth motion that goes with the voice; 1 / faces is chance. Else
    None."""
    expression: Array | None = None
    """[7] float32 probabilities of `EXPRESSIONS`, closer to uniform for crops of low quality."""
    reason: str | None = None
    """Reason for a missing expression."""
