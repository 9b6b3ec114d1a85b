"""Scores against their definitions, calibration, and labelling without scikit-learn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from model import metrics
from model.fusion.calibration import NEVER, certain_from, fit_temperature
from model.metrics import scores, with_intervals

CLASSES = 4
labels = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60)


def f1_by_definition(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> NDArray[np.float64]:
    """[CLASSES] F1; 0 for a class that is neither in the truth nor in the guess."""
    hits = np.bincount(truth[truth == guess], minlength=CLASSES)
    total = np.bincount(truth, minlength=CLASSES) + np.bincount(guess, minlength=CLASSES)
    return 2 * hits / np.maximum(total, 1)


@given(labels)
def test_scores_agree_with_their_definitions(pairs) -> None:
    truth, guess = np.array(pairs).T
    f1, present = f1_by_definition(truth, guess), np.unique(truth)
    accuracy = (truth == guess).mean()
    weighted = (f1 * np.bincount(truth, minlength=CLASSES) / len(truth)).sum()
    uar = np.mean([(guess[truth == label] == label).mean() for label in present])
    assert abs(accuracy_score(truth, guess) - accuracy) < 1e-12
    assert abs(f1_score(truth, guess, average="weighted", zero_division=0) - weighted) < 1e-12
    assert abs(metrics.uar(truth, guess) - uar) < 1e-12
    scored = scores(truth, np.eye(CLASSES)[guess])
    expected = {"accuracy": accuracy, "weighted_f1": weighted, "macro_f1": f1[present].mean(), "uar": uar}
    for name, value in expected.items():
        assert abs(scored[name] - 100 * value) <= 0.005 + 1e-9, name


@pytest.mark.integration
def test_serving_and_labelling_need_no_scikit_learn() -> None:
    """It belongs to the extras `train` and `bench`; a plain installation has none."""
    code = """
import sys
sys.modules["sklearn"] = None  # an import of it fails now
import importlib, pkgutil
import model.encoders, model.fusion, model.metrics
import workers.cluster, workers.console, workers.gateway, workers.session
for package in (model.encoders, model.fusion, workers.session, workers.cluster, workers.console, workers.gateway):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import workers.cli.app
from model.fusion.checkpoint import load_step
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller
labeller = IncrementalLabeller(load_step("meld"))
labeller.step([labeller.new_state()], [UtteranceFeatures({}, 0)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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


def test_labels_from_the_fitted_probability_on_are_as_often_right_as_promised() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 8000)
    truth = np.array([rng.choice(4, p=p) for p in probabilities])
    threshold = certain_from(probabilities[:4000], truth[:4000], 0.7)
    kept = probabilities[4000:].max(1) >= threshold
    right = probabilities[4000:].argmax(1) == truth[4000:]
    assert right[kept].mean() == pytest.approx(0.7, abs=0.03) and right.mean() < 0.6
    assert 0.2 < kept.mean() < 0.9
    assert certain_from(probabilities, truth, 0.0) == probabilities.max(1).min(), "all of them"
    assert certain_from(probabilities, (probabilities.argmax(1) + 1) % 4, 0.7) == NEVER
