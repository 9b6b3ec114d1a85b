"""Scores of conversational emotion recognition, with intervals over dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def accuracy(truth: Ints, guess: Ints) -> float:
    """Share of utterances labelled right (called "weighted accuracy" in this literature)."""
    return float((truth == guess).mean())


def f1_per_class(truth: Ints, guess: Ints, classes: int) -> NDArray[np.float64]:
    """[classes] F1; 0 for a class that neither stands in the truth nor is guessed."""
    hits = np.bincount(truth[truth == guess], minlength=classes)
    total = np.bincount(truth, minlength=classes) + np.bincount(guess, minlength=classes)
    return np.asarray(2 * hits / np.maximum(total, 1), dtype=np.float64)


def weighted_f1(truth: Ints, guess: Ints, classes: int) -> float:
    """F1 averaged over the classes, weighted by how often each is true."""
    weights = np.bincount(truth, minlength=classes) / len(truth)
    return float((f1_per_class(truth, guess, classes) * weights).sum())


def macro_f1(truth: Ints, guess: Ints, classes: int) -> float:
    """F1 averaged over the classes that occur in the truth."""
    return float(f1_per_class(truth, guess, classes)[np.unique(truth)].mean())


def uar(truth: Ints, guess: Ints) -> float:
    """Unweighted average recall over the classes that occur in the truth."""
    return float(np.mean([(guess[truth == label] == label).mean() for label in np.unique(truth)]))


def ece(truth: Ints, probabilities: NDArray[np.float64], bins: int = 15) -> float:
    """Expected calibration error of the winning class, equal-width bins (Guo et al. 2017)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in np.unique(place)
    ]
    return float(sum(gaps))


def ece_if_calibrated(probabilities: NDArray[np.float64], draws: int = 100, seed: int = 0) -> float:
    """The ECE that so many utterances show of a perfectly calibrated model: labels drawn from its own probabilities."""
    rng, cumulated = np.random.default_rng(seed), probabilities.cumsum(1)
    drawn = [(cumulated > rng.random((len(cumulated), 1))).argmax(1) for _ in range(draws)]
    return float(np.mean([ece(truth, probabilities) for truth in drawn]))


def t_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half-width of the 95 % t-interval of independent runs; 0 for a single one."""
    from scipy import stats  # of the extra `train`; serving does without

    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"mean": round(float(np.mean(values)), 2), "half_width_95": round(half, 2)}


def scores(truth: Ints, probabilities: Floats) -> dict[str, float]:
    """The headline scores of one run, in percent."""
    guess, classes = probabilities.argmax(1), probabilities.shape[1]
    values = {
        "accuracy": accuracy(truth, guess),
        "weighted_f1": weighted_f1(truth, guess, classes),
        "macro_f1": macro_f1(truth, guess, classes),
        "uar": uar(truth, guess),
        "ece": ece(truth, probabilities),
    }
    return {name: round(100 * value, 2) for name, value in values.items()}


def with_intervals(truth: Ints, probabilities: Floats, dialogue: Ints, resamples: int = 500) -> dict[str, Any]:
    """`scores`, and for each name a `name_95`: 95 % percentile bootstrap over dialogues."""
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


NAMES = {"accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_f1": "macro F1", "uar": "UAR", "ece": "ECE"}
