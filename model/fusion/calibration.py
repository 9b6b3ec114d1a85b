"""Calibration on validation data: softmax temperature, and the probability from which a label is certain."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

NEVER = 2.0  # above any probability


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


def certain_from(probabilities: NDArray[np.float64], truth: NDArray[np.int64], accuracy: float) -> float:
    """The lowest probability of the most likely class from which on labels are right at the rate `accuracy` (0 … 1).

    probabilities: [n, C] float64; truth: [n] int64. 2.0 where no label is: none is certain then. Selective
    classification by the softmax response (Geifman & El-Yaniv 2017, arXiv 1705.08500), without its bound.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    order = np.argsort(-confidence, kind="stable")
    rate = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(rate >= accuracy)
    return float(confidence[order[enough[-1]]]) if len(enough) else NEVER
