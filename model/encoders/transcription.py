"""Result of speech recognition: words with times and confidences, and languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RATE = 16_000  # Hz, of all audio that the encoders take
MAX_WORDS_PER_S = 7.0  # faster is no human speech
MAX_REPEATS = 5  # of the same words in a row; more come from a decoder in a loop
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """One word; `start` and `end` in seconds from the utterance's first sample."""

    text: str
    start: float
    end: float
    probability: float
    """The recognizer's own confidence, 0 … 1."""


@dataclass(frozen=True)
class Transcription:
    """The words of one utterance; none for silence, noise and music."""

    text: str = ""
    words: tuple[Word, ...] = ()
    language: str | None = None
    """Code of the language in which the words were recognized, such as "en"; None: unknown."""
    languages: dict[str, float] | None = None
    """Probability of each language; None: the recognizer knows only one."""
    states: Samples | None = field(default=None, compare=False, repr=False)
    """[1024] float32 of the recognizer's encoder for `model.encoders.voice`: mean over time, then standard deviation.
    None where the recognizer is another one than that reads, or runs on a GPU."""


class Asr(Protocol):
    """A speech recognizer: a batch of utterances, of any sessions, to their words."""

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Transcription]:
        """Recognize utterances [n] float32 at 16 kHz; language: a code such as "en", None to detect it."""
        ...


def believable(text: str, seconds: float) -> bool:
    """True when a text is possible in this many seconds of speech and does not repeat itself in a loop."""
    words = text.lower().split()
    if len(words) > 4 + MAX_WORDS_PER_S * seconds:
        return False
    for size in range(1, 7):
        run = 1
        for position in range(size, len(words) - size + 1, size):
            run = run + 1 if words[position : position + size] == words[position - size : position] else 1
            if run >= MAX_REPEATS:
                return False
    return True
