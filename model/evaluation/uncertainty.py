"""Trust in a label's uncertainty: conformal sets by class and by speaker, and three rules of abstention.

All of it is cross-fitted: thresholds are fitted on four fifths of the dialogues of dev and measured on the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from model.evaluation.lab import Lab, table
from model.fusion.calibration import certain_from
from model.fusion.checkpoint import networks_of, tuned_of
from model.training.prepared import prepare
from model.training.train import CERTAIN_ACCURACY, predict

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FOLDS = 5
COVERAGES = (0.7, 0.8, 0.9)
SPEAKERS = 6  # those who speak most; the others are too few utterances each

Thresholds = Callable[[Floats, Ints], Floats]
"""From probabilities [n, C] and classes [n] to the probabilities [C] from which a class is in the set."""


def conformal_thresholds(probabilities: Floats, truth: Ints, coverage: float, by_class: bool) -> Floats:
    """[C] float64: the sets {y : p(y) >= threshold of y} hold the true class at the rate `coverage` (0 … 1).

    by_class: of each class, instead of all together. Split conformal sets (LAC; Sadinle et al. 2019, arXiv 1609.00451);
    they assume exchangeable data, which utterances of a conversation are only approximately.
    """
    of_truth, classes = probabilities[np.arange(len(truth)), truth], probabilities.shape[1]
    groups = [of_truth[truth == c] for c in range(classes)] if by_class else [of_truth] * classes
    ranks = [int(np.floor((len(group) + 1) * (1 - coverage))) for group in groups]
    return np.array([np.sort(group)[max(rank - 1, 0)] for group, rank in zip(groups, ranks, strict=True)])


def cross_fitted(probabilities: Floats, truth: Ints, dialogue: Ints, fit: Thresholds) -> Floats:
    """[n, C] float64: the thresholds of each utterance, fitted on the dialogues of other folds.

    probabilities: [n, C]; truth: [n] class indices; dialogue: [n] numbers.
    """
    fold = np.random.default_rng(0).permutation(dialogue.max() + 1)[dialogue] % FOLDS
    out = np.empty_like(probabilities)
    for number in range(FOLDS):
        rest = fold != number
        out[~rest] = fit(probabilities[rest], truth[rest])
    return out


def uncertainty(lab: Lab) -> str:
    """Conformal sets and rules of abstention of the shipped networks on dev. Returns two Markdown tables."""
    labels, _, validation = lab.pair
    speakers = np.array([row.speaker for dialogue in validation for row in dialogue.rows])
    talkative = [name for name, _ in Counter(speakers.tolist()).most_common(SPEAKERS)]

    @cache
    def predicted() -> tuple[list[Floats], Ints, Ints]:
        networks = networks_of(lab.corpus)
        data = prepare(validation, labels, networks[0].config, tuned_of(lab.corpus), lab.progress)
        return [predict(network, data) for network in networks], data.truth, data.dialogue

    def sets(coverage: float, by_class: bool, seed: int) -> dict[str, float]:
        """Coverage of the sets, in percent, and their size."""
        each, truth, dialogue = predicted()
        fit = partial(conformal_thresholds, coverage=coverage, by_class=by_class)
        held = each[seed] >= cross_fitted(each[seed], truth, dialogue, fit)
        hit = held[np.arange(len(truth)), truth]
        groups = {"all": hit, **{name: hit[speakers == name] for name in talkative}}
        groups |= {emotion: hit[truth == c] for c, emotion in enumerate(labels.emotions)}
        return {"size": float(held.sum(1).mean())} | {name: 100 * float(rows.mean()) for name, rows in groups.items()}

    def rule(certain: Rule, seed: int) -> dict[str, float]:
        """Accuracy with and without the uncertain ones, in percent, and errors that are called certain by class."""
        each, truth, dialogue = predicted()
        kept, wrong = certain(each[seed], truth, dialogue), each[seed].argmax(1) != truth
        missed = {emotion: (kept & wrong)[truth == c] for c, emotion in enumerate(labels.emotions)}
        rows = {"certain": kept, "right": ~wrong[kept], "right of uncertain": ~wrong[~kept], **missed}
        return {name: 100 * float(values.mean()) for name, values in rows.items()}

    seeds, runs = len(networks_of(lab.corpus)), {}
    for coverage in COVERAGES:
        for by_class in (False, True):
            cell = f"{100 * coverage:.0f} %, {'a threshold a class' if by_class else 'one threshold'}"
            runs[cell] = lab.measure("uncertainty", cell, partial(sets, coverage, by_class), seeds)
    groups = ("all", *talkative, *labels.emotions)
    of_sets = table(runs, {"size": "emotions in the set"} | {name: name for name in groups})
    cells = {name: lab.measure("uncertainty", name, partial(rule, certain), seeds) for name, certain in RULES.items()}
    columns = {"certain": "certain, %", "right": "accuracy of these", "right of uncertain": "of the others"}
    columns |= {emotion: f"{emotion}: certain and wrong" for emotion in labels.emotions}
    return f"{of_sets}\n{table(cells, columns)}"


def _size(probabilities: Floats, thresholds: Floats) -> Ints:
    """[n]: number of classes that reach their thresholds. Both [n, C]."""
    size: Ints = np.count_nonzero(probabilities >= thresholds, axis=1)
    return size


def by_probability(probabilities: Floats, truth: Ints, dialogue: Ints) -> Bools:
    """[n]: the label's probability is at least that of labels which are mostly right (as served)."""

    def fit(probabilities: Floats, truth: Ints) -> Floats:
        return np.full(probabilities.shape[1], certain_from(probabilities, truth, CERTAIN_ACCURACY))

    found: Bools = _size(probabilities, cross_fitted(probabilities, truth, dialogue, fit)) > 0
    return found


def by_set(probabilities: Floats, truth: Ints, dialogue: Ints, by_class: bool = False) -> Bools:
    """[n]: the conformal set has one emotion."""
    fit = partial(conformal_thresholds, coverage=CERTAIN_ACCURACY, by_class=by_class)
    found: Bools = _size(probabilities, cross_fitted(probabilities, truth, dialogue, fit)) == 1
    return found


def by_class_set(probabilities: Floats, truth: Ints, dialogue: Ints) -> Bools:
    """[n]: the conformal set with a threshold for each class has one emotion."""
    return by_set(probabilities, truth, dialogue, by_class=True)


Rule = Callable[[Floats, Ints, Ints], Bools]
RULES: dict[str, Rule] = {
    "probability of the label": by_probability,
    "one conformal set": by_set,
    "a conformal threshold a class": by_class_set,
}
"""Rules by which labels are certain. From probabilities [n, C], classes [n] and numbers [n] of the dialogues."""
