"""Our scores against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from model import metrics
from model.fusion.calibration import conformal_threshold, fit_temperature
from model.metrics import with_intervals

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(labels)
def test_scores_agree_with_scikit_learn(pairs) -> None:
    truth, guess = np.array(pairs).T
    present = np.unique(truth)
    assert metrics.weighted_f1(truth, guess, 4) == pytest.approx(
        f1_score(truth, guess, average="weighted", zero_division=0)
    )
    assert metrics.macro_f1(truth, guess, 4) == pytest.approx(
        f1_score(truth, guess, labels=present, average="macro", zero_division=0)
    )
    assert metrics.uar(truth, guess) == pytest.approx(
        recall_score(truth, guess, labels=present, average="macro", zero_division=0)
    )


def test_calibration_error_of_known_cases() -> None:
    sure = np.eye(2)[[0, 0, 1, 1]]
    assert metrics.ece(np.array([0, 0, 1, 1]), sure) == 0
    assert metrics.ece(np.array([1, 1, 0, 0]), sure) == 1
    assert metrics.ece(np.array([0, 1, 0, 1]), sure) == pytest.approx(0.5)


def test_bootstrap_draws_dialogues_not_rows() -> None:
    guess = np.eye(2)[np.repeat([0, 1], 50)]  # one dialogue all right, one all wrong
    scored = with_intervals(np.zeros(100, np.int64), guess, np.repeat([0, 1], 50))
    assert scored["accuracy"] == 50 and scored["accuracy_95"] == [0, 100]


def test_even_a_calibrated_model_shows_some_error() -> None:
    rng = np.random.default_rng(0)
    few, many = (rng.dirichlet(np.ones(4), n) for n in (200, 20_000))
    assert metrics.ece_if_calibrated(few) > 0.03 > 0.01 > metrics.ece_if_calibrated(many)


def test_temperature_undoes_overconfidence() -> None:
    import torch

    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=rng, dtype=torch.double)
    truth = torch.multinomial(logits.softmax(-1), 1, generator=rng)[:, 0]
    assert fit_temperature(4 * logits, truth) == pytest.approx(4, rel=0.1)


def test_conformal_sets_cover_as_promised() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 8000)
    truth = np.array([rng.choice(4, p=p) for p in probabilities])
    threshold = conformal_threshold(probabilities[:4000], truth[:4000], 0.8)
    covered = probabilities[np.arange(4000, 8000), truth[4000:]] >= threshold
    assert covered.mean() == pytest.approx(0.8, abs=0.03)
