"""What a recognizer of speech gives back: words with times, languages, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
MAX_WORDS_PER_S = 7.0  # words a second
MAX_REPEATS = 5  # of the same words in a row, from which on it is the recognizer that stammers
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """One word; times in seconds from the utterance's first sample."""

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
    """The language that the words were taken for, such as "en"; None: not known."""
    languages: dict[str, float] | None = None
    """Probability of each language; None: the recognizer cannot tell, as it knows one alone."""


class Asr(Protocol):
    """Speech to words, several utterances (of whichever sessions) at once."""

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Transcription]:
        """utterances: [n] float32 each, 16 kHz; language: a code such as "en", None to detect it."""
        ...


def believable(text: str, seconds: float) -> bool:
    """Whether words can have been said in so many seconds of speech, and do not go round in a circle."""
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
