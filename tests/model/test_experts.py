from __future__ import annotations

import numpy as np

from model.experts import fit_experts


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
