"""Calibration on validation data: softmax temperature and conformal threshold."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def fit_temperature(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """Fit the softmax temperature that minimises cross-entropy (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    logits: [n, C] float; truth: [n] int64 class indices.
    """
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], lr=0.1, max_iter=100)

    def loss() -> float:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits / log_temperature.exp(), truth)
        value.backward()
        return float(value.detach())

    optimizer.step(loss)
    return float(log_temperature.detach().exp())


def conformal_threshold(probabilities: NDArray[np.float64], truth: NDArray[np.int64], coverage: float) -> float:
    """Split-conformal threshold (LAC; Sadinle et al. 2019, arXiv 1609.00451): the set {y : p(y) >= threshold} contains
    the true class with probability `coverage` (0 … 1).

    probabilities: [n, C] float64; truth: [n] int64. The guarantee assumes exchangeable data, which utterances of the
    same conversation are only approximately.
    """
    of_truth = np.sort(probabilities[np.arange(len(truth)), truth])
    rank = int(np.floor((len(of_truth) + 1) * (1 - coverage)))
    return float(of_truth[max(rank - 1, 0)])
