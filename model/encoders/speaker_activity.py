"""Activity of up to three speakers, frame by frame: the segmentation of pyannote's speaker-diarization-community-1.

The network is PyanNet with powerset classes (Plaquet and Bredin 2023, arXiv 2310.13025); model/encoders/weights/speaker
has the graph and its card.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoders.speaker import WEIGHTS

Array = NDArray[np.float32]

CLASSES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32)
"""[7, 3]: the speakers of each powerset class."""


class SpeakerActivityNet:
    """Activity of up to three speakers in a window of ten seconds."""

    def __init__(self, file: Path = WEIGHTS / "segmentation.onnx") -> None:
        from model.encoders.onnx_session import session_of

        self._session = session_of(file)

    def __call__(self, window: Array) -> Array:
        """Probability that each speaker talks, float32 [589, 3], a frame every 16.9 ms. The speakers' order is another
        one in each window.

        window: [160000] float32 at 16 kHz.
        """
        logarithms: Array = self._session.run(None, {"waveforms": window[None, None]})[0][0]
        activity: Array = np.exp(logarithms) @ CLASSES
        return activity
