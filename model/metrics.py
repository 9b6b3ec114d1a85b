"""Scores of conversational emotion recognition, with intervals over dialogues.

scikit-learn and SciPy are imported where they are used: they belong to the extras `train` and `bench`, and this module
is loaded without them, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NAMES = {"accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_f1": "macro F1", "uar": "UAR", "ece": "ECE"}
"""Titles of the headline scores."""


def uar(truth: Ints, guess: Ints) -> float:
    """Unweighted average recall, 0 … 1, over the classes that occur in the truth. truth, guess: [n] class indices."""
    from sklearn.metrics import recall_score

    return float(recall_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0))


def ece(truth: Ints, probabilities: Floats, bins: int = 15) -> float:
    """Expected calibration error of the most likely class, 0 … 1, with bins of equal width (Guo et al. 2017, eq. 3).

    truth: [n] class indices; probabilities: [n, C].
    """
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[bin_of == b].mean() - correct[bin_of == b].mean()) * (bin_of == b).mean()
        for b in np.unique(bin_of)
    ]
    return float(sum(gaps))


def ece_if_calibrated(probabilities: Floats, draws: int = 100, seed: int = 0) -> float:
    """Mean ECE, 0 … 1, of a perfectly calibrated model on as many utterances: labels are drawn from its probabilities.

    probabilities: [n, C].
    """
    rng, cumulated = np.random.default_rng(seed), probabilities.cumsum(1)
    drawn = [(cumulated > rng.random((len(cumulated), 1))).argmax(1) for _ in range(draws)]
    return float(np.mean([ece(truth, probabilities) for truth in drawn]))


def t_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half-width of the 95 % t-interval of independent runs; the half-width of a single run is 0."""
    from scipy import stats

    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"mean": round(float(np.mean(values)), 2), "half_width_95": round(half, 2)}


def scores(truth: Ints, probabilities: Floats) -> dict[str, float]:
    """The headline scores `NAMES` of one run, in percent. truth: [n] class indices; probabilities: [n, C].

    Accuracy is called "weighted accuracy" in this literature; macro F1 and UAR are over the classes in the truth.
    """
    from sklearn.metrics import precision_recall_fscore_support

    guess, classes = probabilities.argmax(1), np.arange(probabilities.shape[1])
    _, recall, f1, support = precision_recall_fscore_support(truth, guess, labels=classes, zero_division=0)
    values = {
        "accuracy": (truth == guess).mean(),
        "weighted_f1": np.average(f1, weights=support),
        "macro_f1": f1[support > 0].mean(),
        "uar": recall[support > 0].mean(),
        "ece": ece(truth, probabilities),
    }
    return {name: round(100 * float(value), 2) for name, value in values.items()}


def with_intervals(truth: Ints, probabilities: Floats, dialogue: Ints, resamples: int = 500) -> dict[str, Any]:
    """`scores`, and for each name a `name_95`: 95 % percentile bootstrap over dialogues.

    truth: [n] class indices; probabilities: [n, C]; dialogue: [n] numbers of the dialogues.
    """
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(dialogue == d) for d in np.unique(dialogue)]
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate([members[d] for d in rng.integers(len(members), size=len(members))])
        drawn.append(scores(truth[rows], probabilities[rows]))
    bounds = {
        f"{name}_95": [round(float(b), 2) for b in np.percentile([run[name] for run in drawn], [2.5, 97.5])]
        for name in drawn[0]
    }
    return scores(truth, probabilities) | bounds


def plain_words(text: str) -> str:
    """Words in lower case, without punctuation and without what stands in brackets (sounds and remarks)."""
    spoken = re.sub(r"[\[<(][^\])>]*[\])>]", " ", text.lower().replace("’", "'"))
    return " ".join(re.sub(r"[^\w' ]", " ", spoken).split())


def word_error_rate(reference: Sequence[str], recognized: Sequence[str]) -> float:
    """Words substituted, deleted and inserted, by words of the reference: 0 … 1, or more when many are inserted.

    reference, recognized: words of each recording.
    """
    from jiwer import wer

    return float(wer([plain_words(words) for words in reference], [plain_words(words) for words in recognized]))
