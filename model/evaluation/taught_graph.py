"""The shipped graph by its targets: labels, its teachers' posteriors, and weights of the rare classes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from model.evaluation.lab import Lab, score_dev, table
from model.fusion.checkpoint import tuned_of
from model.metrics import NAMES
from model.progress import Silent
from model.training.config import load_config
from model.training.experiment import configure, views
from model.training.prepared import prepare
from model.training.train import train

ARMS = ((0.0, 0.25), (0.7, 0.25), (1.0, 0.25), (0.7, 0.4), (0.7, 0.5))
"""(share of the teachers' posterior in the target, power of the class weights)"""


def taught_graph(lab: Lab) -> str:
    """Scores on dev, pooled with the reader, whose encoders are those of the shipped checkpoint. Returns a Markdown
    table."""
    config, tuned = load_config(lab.corpus), tuned_of(lab.corpus)
    labels, training, validation = lab.pair
    network = configure(config, labels, training)

    def run(share: float, power: float, seed: int) -> dict[str, float]:
        assert config.teacher is not None
        recipe, teaching = replace(config.recipe, class_weight_power=power), replace(config.teacher, share=share)
        seen = views(training, labels, network, tuned, recipe, lab.progress, teaching)
        dev = prepare(validation, labels, network, tuned, lab.progress)
        return score_dev(train(network, recipe, seen, dev, seed, Silent()), dev)

    cells = {}
    for share, power in ARMS:
        cell = f"posterior {share}, class weights to the power {power}"
        cells[cell] = lab.measure("taught-graph", cell, partial(run, share, power))
    return table(cells, NAMES)
