"""Training on words as a recognizer writes them: the shipped graph with and without, on a transcript and on recognized
words."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from model.evaluation.lab import Lab, score_dev, table
from model.evaluation.recognized_words import FULL_STOPS, WRITINGS, as_recognized, in_place
from model.fusion.checkpoint import tuned_of
from model.progress import Silent
from model.training.config import load_config
from model.training.experiment import configure, views
from model.training.prepared import Prepared, prepare
from model.training.train import train

BASE = ("base", "as said")
ARMS = {
    "transcript alone": (0.0, False, False),
    "rewritten": (0.3, False, False),
    "rewritten, and told (meld)": (0.3, True, False),
    "recognized by base, and told": (0.3, True, True),
}
"""Share of the dialogues in words as a recognizer writes them; whether the network is told which these are; whether
they were really said and recognized (40 minutes on one core, once), or rewritten by `model.training.noise.rewrite`."""


def rewritten_words(lab: Lab) -> str:
    """Scores on dev as it was written, with full stops, and as Whisper base recognizes it. Returns a Markdown table."""
    cells = {name: lab.measure("rewritten-words", name, partial(_run, lab, *arm)) for name, arm in ARMS.items()}
    columns = {
        f"{name} {score}": f"{name}: {title}"
        for name in ("transcript", "full stops", "base")
        for score, title in (("accuracy", "accuracy"), ("weighted_f1", "weighted F1"), ("ece", "ECE"))
    }
    return table(cells, columns)


def _run(lab: Lab, share: float, told: bool, said: bool, seed: int) -> dict[str, float]:
    config, tuned = load_config(lab.corpus), tuned_of(lab.corpus)
    config = replace(config, text=replace(config.text, recognized=told))
    recipe = replace(config.recipe, rewritten_share=share)
    labels, training, validation = lab.pair
    network = configure(config, labels, training)
    seen = views(training, labels, network, tuned, recipe, lab.progress, config.teacher)
    if said:
        dialogues = in_place(training, as_recognized(lab, *BASE, training=True), recognized=True)
        recognized = prepare(dialogues, labels, network, tuned, lab.progress, experts=False)
        seen = [*seen[:-1], replace(seen[-1], conversations=recognized.conversations)]

    def dev(words: list[str], recognized: bool) -> Prepared:
        return prepare(in_place(validation, words, recognized), labels, network, tuned, lab.progress)

    transcript = [row.text for dialogue in validation for row in dialogue.rows]
    written = dev(transcript, recognized=False)
    model = train(network, recipe, seen, written, seed, Silent())
    tables = {
        "transcript": written,
        "full stops": dev([WRITINGS[FULL_STOPS](text) for text in transcript], recognized=True),
        "base": dev(as_recognized(lab, *BASE), recognized=True),
    }
    return {
        f"{name} {score}": float(np.round(value, 4))
        for name, one in tables.items()
        for score, value in score_dev(model, one).items()
    }
