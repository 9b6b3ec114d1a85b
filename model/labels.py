"""Label sets of the public conversation corpora: fine emotions and the coarse sentiments beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SENTIMENTS = ("negative", "neutral", "positive")
RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The eight emotions of the voice encoder's data, in the order of its file names (01 … 08)."""


@dataclass(frozen=True)
class LabelSet:
    """The fine labels of a corpus, in the order of the model's outputs."""

    name: str
    emotions: tuple[str, ...]


LABEL_SETS = {
    labels.name: labels
    for labels in (
        LabelSet("meld", ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")),
        LabelSet("iemocap", ("frustrated", "neutral", "angry", "sad", "excited", "happy")),
        LabelSet("emorynlp", ("neutral", "joyful", "scared", "mad", "peaceful", "powerful", "sad")),
    )
}


SENTIMENT = {
    "meld": {"joy": "positive", "neutral": "neutral"},
    "emorynlp": {"joyful": "positive", "peaceful": "positive", "powerful": "positive", "neutral": "neutral"},
    "iemocap": {"happy": "positive", "excited": "positive", "neutral": "neutral"},
}
"""Sentiment by label set and emotion, where it is not annotated; emotions that are not named are negative (MELD's
surprise, which is annotated either way, too)."""
SYNONYMS = {
    "happy": "joy",
    "sad": "sadness",
    "angry": "anger",
    "fearful": "fear",
    "disgusted": "disgust",
    "surprised": "surprise",
    "calm": "neutral",
}
"""Names of RAVDESS' and FER-2013's classes in Ekman's label set, which is MELD's."""


def translate(names: Sequence[str], posterior: Array, emotions: Sequence[str]) -> Array | None:
    """Map a posterior over `names` to one over `emotions`, merging synonyms.

    posterior: [len(names)] float32. Returns [len(emotions)] float32, or None when either side has a class that the
    other lacks.
    """
    translated = [SYNONYMS.get(name, name) for name in names]
    if set(translated) != set(emotions):
        return None
    sums = [sum(p for name, p in zip(translated, posterior, strict=True) if name == emotion) for emotion in emotions]
    return np.array(sums, np.float32)


def label_set_of(emotions: set[str]) -> LabelSet:
    """The label set of the corpora that contains all of `emotions`.

    Raises ValueError when no corpus has them all.
    """
    for labels in LABEL_SETS.values():
        if emotions <= set(labels.emotions):
            return labels
    known = ", ".join(sorted(LABEL_SETS))
    raise ValueError(f"emotions {', '.join(sorted(emotions))} belong to none of the label sets {known}")
