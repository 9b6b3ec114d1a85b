"""Speaker embeddings, and speaker change detection within an utterance.

The network is the GE2E encoder of Wan et al. 2018 (arXiv 1710.10467) with the weights that the package Resemblyzer
contains (Apache-2.0), as an ONNX graph in model/encoders/weights/speaker.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoders.spectrum import power_spectrum
from model.encoders.transcription import RATE

Array = NDArray[np.float32]

WIDTH = 256
WINDOW_FRAMES = 160  # mel frames of 10 ms: the network's input
HOP_FRAMES = 77  # between the windows of a longer utterance
CHANGE_STEP_FRAMES = 40  # between the positions that are tested for a change of speaker
MAX_CHANGE_SIMILARITY = 0.72  # above, the speaker has not changed
MIN_SIMILARITY_DIP = 0.06  # by which the similarity is lower than the highest within 2 s on either side
MIN_PART_S = 1.0  # embeddings of shorter parts are not reliable


class SpeakerEncoder:
    """Maps utterances to unit vectors; the dot product of two is the similarity of their voices."""

    def __init__(self, file: Path = Path(__file__).parent / "weights" / "speaker" / "speaker.onnx") -> None:
        from model.encoders.onnx_session import session_of

        self._session = session_of(file)

    def __call__(self, samples: Array) -> Array:
        """[256] float32 unit vector of an utterance [n] float32 at 16 kHz; a short one is repeated to fill a window."""
        power = self._power(samples)
        return _unit(self._embed_windows(power, range(0, max(1, len(power) - WINDOW_FRAMES + 1), HOP_FRAMES)).mean(0))

    def changes(self, samples: Array) -> list[float]:
        """Seconds into an utterance [n] float32 at 16 kHz at which the speaker changes, in order.

        The 1.6 s before are compared with the 1.6 s after; the deepest minima of their similarity, if below
        `MAX_CHANGE_SIMILARITY`, are changes.
        """
        power = self._power(samples)
        if len(power) < 2 * WINDOW_FRAMES:
            return []
        starts = range(0, len(power) - WINDOW_FRAMES + 1, CHANGE_STEP_FRAMES)
        embeddings = self._embed_windows(power, starts)
        apart = WINDOW_FRAMES // CHANGE_STEP_FRAMES
        alike = (embeddings[:-apart] * embeddings[apart:]).sum(1)
        near = 200 // CHANGE_STEP_FRAMES
        found: list[float] = []
        for n in np.argsort(alike):
            moment = (starts[int(n)] + WINDOW_FRAMES) / 100
            shoulders = alike[max(0, n - near) : n + 1].max(), alike[n : n + near + 1].max()
            if alike[n] < min(MAX_CHANGE_SIMILARITY, min(shoulders) - MIN_SIMILARITY_DIP) and all(
                abs(moment - other) >= MIN_PART_S for other in (*found, 0.0, len(samples) / RATE)
            ):
                found.append(moment)
        return sorted(found)

    def _power(self, samples: Array) -> Array:
        """[frames, BINS] power spectra, at least `WINDOW_FRAMES`; an utterance below -30 dB is amplified to that
        level."""
        level = float(np.sqrt((samples**2).mean())) if len(samples) else 0.0
        louder = max(1.0, 10**-1.5 / max(level, 1e-6))
        power = power_spectrum(np.pad(samples * np.float32(louder), (200, max(200, 600 - len(samples)))))
        return power if len(power) >= WINDOW_FRAMES else np.resize(power, (WINDOW_FRAMES, power.shape[1]))

    def _embed_windows(self, power: Array, starts: range) -> Array:
        """[len(starts), 256] unit vectors of the windows that begin at these frames."""
        windows = np.stack([power[start : start + WINDOW_FRAMES] for start in starts])
        embeddings: Array = self._session.run(None, {"power": windows})[0]
        return embeddings


def narrowband(samples: Array) -> bool:
    """True when an utterance [n] float32 at 16 kHz came over a telephone: less than -42 dB of its power is above 4.3
    kHz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    above = power[round(4300 * len(samples) / RATE) :].sum()
    return bool(above < 10**-4.2 * power.sum())


def _unit(vector: Array) -> Array:
    unit: Array = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return unit
