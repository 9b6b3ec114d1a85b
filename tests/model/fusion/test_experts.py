from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.fusion.checkpoint import load_step, resolve
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.experts import MAX_JOINING_WEIGHT, fit_experts
from model.fusion.incremental import IncrementalLabeller


def test_an_expert_that_knows_something_is_believed_and_a_guesser_is_not() -> None:
    rng = np.random.default_rng(0)
    n, classes = 1500, 4
    truth = rng.integers(classes, size=n)
    dialogue = np.arange(n) // 10

    def posterior(strength: float) -> np.ndarray:
        logits = rng.normal(size=(n, classes))
        logits[np.arange(n), truth] += strength
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    network = posterior(1.0)
    experts = np.stack([posterior(1.0), posterior(0.0)], 1)
    experts[rng.random(n) < 0.3, 0] = 0  # often it has nothing to say
    weights, prior = fit_experts(network, experts, truth, dialogue)
    assert weights[0] > 0.5 and weights[1] < 0.05
    assert np.allclose(prior.sum(1), 1)


def test_experts_that_join_later_are_believed_by_half_at_most() -> None:
    """A posterior that is sharper than it should be would like a weight over 1."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    posteriors = np.full((600, 1, 3), 0.3)
    right = rng.random(600) < 0.95
    posteriors[np.arange(600), 0, np.where(right, truth, (truth + 1) % 3)] = 0.4
    probabilities, dialogue = np.full((600, 3), 1 / 3), np.arange(600) // 10
    free, _ = fit_experts(probabilities, posteriors, truth, dialogue)
    joined, _ = fit_experts(probabilities, posteriors, truth, dialogue, joining=True)
    assert free[0] > 1 and joined[0] == pytest.approx(MAX_JOINING_WEIGHT)


def test_an_expert_joins_a_trained_network(tmp_path: Path) -> None:
    """It moves labels towards its opinion, has its share in the contribution, and is silent without an opinion."""
    fitted = {"face": {"weight": 0.8, "prior": dict.fromkeys(load_step("meld").config.emotions, 1 / 7)}}
    for folder, experts in (("alone", {}), ("joined", fitted)):
        shutil.copytree(resolve("meld"), tmp_path / folder)
        (tmp_path / folder / "experts.json").write_text(json.dumps(experts))
    alone, joined = load_step(str(tmp_path / "alone")), load_step(str(tmp_path / "joined"))
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=width).astype(np.float32) for name, width in alone.config.inputs.items()}
    happy = np.array([0.05, 0.7, 0.05, 0.05, 0.05, 0.05, 0.05], np.float32)
    plain = (
        IncrementalLabeller(alone)
        .step([IncrementalLabeller(alone).new_state()], [UtteranceFeatures(features, 0)])[0]
        .prediction
    )
    labeller = IncrementalLabeller(joined)
    silent = labeller.step([labeller.new_state()], [UtteranceFeatures(features, 0)])[0].prediction
    assert list(silent.emotion.values()) == pytest.approx(list(plain.emotion.values()), abs=1e-6)
    assert "visual" not in silent.contribution
    seen = labeller.step([labeller.new_state()], [UtteranceFeatures(features, 0, {"face": happy})])[0].prediction
    assert seen.emotion["joy"] > plain.emotion["joy"]
    moved = 0.5 * sum(abs(seen.emotion[name] - plain.emotion[name]) for name in plain.emotion)
    assert seen.contribution["visual"] == pytest.approx(moved, abs=1e-5)
    assert sum(seen.contribution.values()) == pytest.approx(1, abs=1e-6)


def test_a_look_at_an_unfinished_utterance_changes_nothing() -> None:
    labeller = IncrementalLabeller(load_step("meld"))
    rng, config = np.random.default_rng(0), labeller.config
    utterances = [
        UtteranceFeatures(
            {name: rng.normal(size=width).astype(np.float32) for name, width in config.inputs.items()}, n % 2
        )
        for n in range(6)
    ]
    calm, watched = labeller.new_state(), labeller.new_state()
    for utterance in utterances:
        one = labeller.step([calm], [utterance])[0]
        peeked = labeller.step([watched], [utterance], commit=False)[0]
        assert peeked.final is None and watched.count == calm.count - 1
        assert labeller.step([watched], [utterance])[0].prediction == one.prediction == peeked.prediction
