"""Honest probabilities: temperature and conformal threshold, fitted on validation data."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def fit_temperature(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """The temperature that minimises cross-entropy (Guo et al. 2017). logits [n, C], truth [n]."""
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
    """Split-conformal threshold (LAC; Sadinle et al. 2019): {y : p(y) >= threshold} holds the truth in `coverage`.

    probabilities [n, C]; exchangeable validation data assumed, which conversations are only roughly.
    """
    own = np.sort(probabilities[np.arange(len(truth)), truth])
    rank = int(np.floor((len(own) + 1) * (1 - coverage)))
    return float(own[max(rank - 1, 0)])
