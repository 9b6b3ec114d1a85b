"""Label sets of the public conversation corpora: fine emotions and the coarse sentiments beside them."""

from __future__ import annotations

from dataclasses import dataclass

SENTIMENTS = ("negative", "neutral", "positive")


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


def label_set_of(emotions: set[str]) -> LabelSet:
    """The known label set that contains all of `emotions`.

    Raises ValueError, naming the strangers, when no corpus has them all.
    """
    for labels in LABEL_SETS.values():
        if emotions <= set(labels.emotions):
            return labels
    known = ", ".join(sorted(LABEL_SETS))
    raise ValueError(f"emotions {', '.join(sorted(emotions))} belong to none of the label sets {known}")
