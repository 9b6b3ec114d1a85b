"""Conformal sets and rules of abstention, on labels that are drawn from the probabilities."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from model.evaluation.uncertainty import RULES, conformal_thresholds, cross_fitted

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet((4, 2, 1, 0.5), 6000)
TRUTH = np.array([RNG.choice(4, p=p) for p in PROBABILITIES])
DIALOGUE = np.arange(6000) // 10


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_cover_as_promised(by_class: bool) -> None:
    """All classes together; with a threshold for each class also the rare one."""
    fit = partial(conformal_thresholds, coverage=0.8, by_class=by_class)
    thresholds = cross_fitted(PROBABILITIES, TRUTH, DIALOGUE, fit)
    hit = (thresholds <= PROBABILITIES)[np.arange(6000), TRUTH]
    assert hit.mean() == pytest.approx(0.8, abs=0.02)
    assert bool(hit[TRUTH == 3].mean() == pytest.approx(0.8, abs=0.05)) is by_class


def test_a_threshold_is_not_fitted_on_what_it_is_measured_on() -> None:
    """Dialogues whose classes nobody could guess change the thresholds of the others, not their own."""
    flipped = TRUTH.copy()
    flipped[DIALOGUE == 7] = PROBABILITIES[DIALOGUE == 7].argmin(1)
    fit = partial(conformal_thresholds, coverage=0.8, by_class=False)
    before, after = (cross_fitted(PROBABILITIES, truth, DIALOGUE, fit) for truth in (TRUTH, flipped))
    own = DIALOGUE == 7
    assert (before[own] == after[own]).all() and (before[~own] != after[~own]).any()


def test_the_probability_of_the_label_is_the_best_rule() -> None:
    right = PROBABILITIES.argmax(1) == TRUTH
    kept = {name: rule(PROBABILITIES, TRUTH, DIALOGUE) for name, rule in RULES.items()}
    best = kept["probability of the label"]
    assert right[best].mean() == pytest.approx(0.7, abs=0.03)
    for name, certain in kept.items():
        most = np.argsort(-PROBABILITIES.max(1))[: certain.sum()]
        assert right[certain].mean() <= right[most].mean() + 1e-9, name
