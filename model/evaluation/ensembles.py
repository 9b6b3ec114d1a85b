"""The networks of several seeds together: the mean of their posteriors, and of their weights."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch

from model.evaluation.lab import Lab, table
from model.fusion.checkpoint import networks_of, tuned_of
from model.fusion.network import FusionGCN
from model.metrics import scores
from model.training.prepared import Prepared, prepare
from model.training.train import calibrate, predict


def ensembles(lab: Lab) -> str:
    """Scores on dev of a shipped checkpoint's networks, one by one and together. Returns a Markdown table."""
    labels, _, validation = lab.pair

    @cache
    def prepared() -> tuple[list[FusionGCN], Prepared]:
        networks = networks_of(lab.corpus)
        return networks, prepare(validation, labels, networks[0].config, tuned_of(lab.corpus), lab.progress)

    def alone(seed: int) -> dict[str, float]:
        networks, dev = prepared()
        return scores(dev.truth, predict(networks[seed], dev))

    def posteriors(_: int) -> dict[str, float]:
        networks, dev = prepared()
        return scores(dev.truth, np.mean([predict(network, dev) for network in networks], 0))

    def weights(_: int) -> dict[str, float]:
        networks, dev = prepared()
        merged = copy.deepcopy(networks[0])
        states = [network.state_dict() for network in networks]
        merged.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
        calibrate(merged, dev)
        return scores(dev.truth, predict(merged, dev))

    cells = {
        "one network": lab.measure("ensembles", "one network", alone, len(networks_of(lab.corpus))),
        "mean of all posteriors": lab.measure("ensembles", "mean of all posteriors", posteriors, 1),
        "mean of all weights": lab.measure("ensembles", "mean of all weights", weights, 1),
    }
    return table(cells, {"accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_f1": "macro F1", "ece": "ECE"})
