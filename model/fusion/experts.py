"""Log-linear pooling of the network's posterior with those of experts (encoders with an emotion posterior of their
own).

p^T ∝ p_gcn · Π (p_expert / prior)^w, with one weight an expert, fitted together with the temperature on data that none
of them was trained on (Heskes 1998, "Selecting weighting factors in logarithmic opinion pools"). The network applies it
(`FusionGCN`, buffers `expert_weight` and `expert_prior`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FOLDS = 5
MAX_JOINING_WEIGHT = 0.5
"""Upper limit of the weight of an expert that joins a trained network. Full evidence would be 1, but such an expert is
fitted on acted speech and posed pictures, which flatter it."""
MODALITY_OF = {"reader": "text", "voice": "audio", "face": "visual"}
"""Modality of each expert."""


def fit_experts(
    probabilities: Floats,
    posteriors: Floats,
    truth: NDArray[np.int64],
    dialogue: NDArray[np.int64],
    joining: bool = False,
) -> tuple[Floats, Floats]:
    """Fit weights [E] >= 0 and priors [E, C] of the experts, float64; the weight of an expert that does not help is 0.

    probabilities: [n, C] float64, the network's calibrated ones; posteriors: [n, E, C] float64, all 0 where an expert
    has none; truth: [n] class indices; dialogue: [n] numbers of the dialogues; joining: the experts join a network that
    is calibrated already, so its temperature stays and no weight exceeds `MAX_JOINING_WEIGHT`.

    An expert helps when, with weights fitted on four fifths of the dialogues, it lowers the cross-entropy of the rest.
    """
    has_posterior = posteriors.sum(-1) > 0
    prior = np.stack([posteriors[has_posterior[:, e], e].mean(0) for e in range(posteriors.shape[1])])
    ratio = np.log(np.maximum(posteriors, 1e-6) / prior) * has_posterior[..., None]
    logits = np.log(np.maximum(probabilities, 1e-12))
    helpful = [e for e in range(len(prior)) if _gain(logits, ratio[:, [e]], truth, dialogue, joining) > 0]
    weights = np.zeros(len(prior))
    if helpful:
        weights[helpful] = _fit(logits, ratio[:, helpful], truth, joining)[1:]
    return weights, prior


def _cross_entropy(fitted: Floats, logits: Floats, ratio: Floats, truth: NDArray[np.int64]) -> float:
    """fitted: [1 + E], the temperature's logarithm, then the weights."""
    from scipy.special import log_softmax

    pooled = log_softmax((logits + np.einsum("e,nec->nc", fitted[1:], ratio)) * np.exp(-fitted[0]), axis=1)
    return float(-pooled[np.arange(len(truth)), truth].mean())


def _fit(logits: Floats, ratio: Floats, truth: NDArray[np.int64], joining: bool) -> Floats:
    from scipy.optimize import minimize

    experts = ratio.shape[1]
    temperature, max_weight = ((0.0, 0.0), MAX_JOINING_WEIGHT) if joining else ((-2.0, 2.0), 2.0)
    start, bounds = np.array([0.0, *[0.1] * experts]), [temperature, *[(0.0, max_weight)] * experts]
    fitted: Floats = minimize(_cross_entropy, start, (logits, ratio, truth), bounds=bounds, method="L-BFGS-B").x
    return fitted


def _gain(logits: Floats, ratio: Floats, truth: NDArray[np.int64], dialogue: NDArray[np.int64], joining: bool) -> float:
    """Mean decrease of cross-entropy by pooling, on dialogues that the weight was not fitted on (cross-validation)."""
    gains = []
    for fold in range(FOLDS):
        rest = dialogue % FOLDS != fold
        alone, pooled = (_fit(logits[rest], those[rest], truth[rest], joining) for those in (ratio[:, :0], ratio))
        held_out, right = logits[~rest], truth[~rest]
        without = _cross_entropy(alone, held_out, ratio[~rest][:, :0], right)
        gains.append(without - _cross_entropy(pooled, held_out, ratio[~rest], right))
    return float(np.mean(gains))
