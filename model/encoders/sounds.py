"""Sounds of a person that are no words: laughter, crying and sighs, heard by YAMNet.

YAMNet (Google; a MobileNet, Howard et al. 2017, arXiv 1704.04861) was trained on AudioSet (Gemmeke et al. 2017); its
card is in model/encoders/weights/sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoders.transcription import RATE
from model.encoders.voice_observation import Sound, SoundName

Array = NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "weights" / "sounds" / "yamnet.onnx"
WINDOW = 15_600  # samples that the network takes at once, 0.975 s
HOP = 7_680  # samples from one window to the next, 0.48 s
CLASSES: dict[SoundName, slice] = {"laughter": slice(0, 6), "crying": slice(6, 10), "sigh": slice(10, 11)}
"""Positions in the network's output: six kinds of laughter, four of crying, one sigh."""
# By `undertone bench sounds`. The highest score for laughter in any speech there is 0.09; for crying 0.13 in everyday
# speech, 0.45 in acted fear; for sighs 0.05 in everyday speech, but 0.95 for an actor's audible breath.
MIN_SCORES: dict[SoundName, float] = {"laughter": 0.2, "crying": 0.3, "sigh": 0.5}


class SoundDetector:
    """Finds laughter, crying and sighs in an utterance. No state between utterances."""

    def __init__(self, score: Callable[[Array], Array] | None = None) -> None:
        """score: maps a window [15600] float32 at 16 kHz to [11] float32 scores, 0 … 1, in the order of `CLASSES`;
        None = the shipped network."""
        self._score = score or _network()

    def __call__(self, samples: Array) -> tuple[Sound, ...]:
        """The sounds of an utterance [n] float32 at 16 kHz, in the order of their starts."""
        if not samples.any():
            return ()
        starts, scores = self.scores(samples)
        seconds = len(samples) / RATE
        found = [sound for name in CLASSES for sound in _stretches(name, starts, scores, seconds)]
        return tuple(sorted(found, key=lambda sound: (sound.start, sound.end)))

    def scores(self, samples: Array) -> tuple[list[int], Array]:
        """Windows of an utterance [n] float32 at 16 kHz: their first samples, and scores [windows, 11] float32, 0 … 1.

        The last window ends with the utterance; one that is shorter than a window is followed by silence.
        """
        last = max(0, len(samples) - WINDOW)
        starts = [*range(0, last, HOP), last]
        padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
        return starts, np.stack([self._score(padded[start : start + WINDOW]) for start in starts])


def _stretches(name: SoundName, starts: list[int], scores: Array, seconds: float) -> Iterator[Sound]:
    """Neighbouring windows with a sound, as one. scores: [windows, 11]; seconds: length of the utterance."""
    best = scores[:, CLASSES[name]].max(1)
    for present, group in groupby(range(len(starts)), lambda window: bool(best[window] >= MIN_SCORES[name])):
        if present:
            windows = list(group)
            end = min(seconds, (starts[windows[-1]] + WINDOW) / RATE)
            yield Sound(name, starts[windows[0]] / RATE, end, float(best[windows].max()))


def _network() -> Callable[[Array], Array]:
    from model.encoders.onnx_session import session_of

    session = session_of(WEIGHTS)

    def score(window: Array) -> Array:
        scores: Array = session.run(None, {"waveform": window[None]})[0][0]
        return scores

    return score
