"""Does the graph earn its place? The network against one that sees each utterance by itself, with the shipped encoders.

Both are trained by the corpus's recipe, and compared as a whole and where a past should help.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from model.evaluation.lab import Lab
from model.fusion.checkpoint import identity, shipped, tuned_of
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.network import FusionGCN
from model.training.config import leave_out, load_config
from model.training.experiment import configure, read_pair, trained, tune, views
from model.training.noise import vocabulary, with_word_errors, with_wrong_speakers
from model.training.prepared import Prepared, cache_folder, prepare
from model.training.train import predict

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
LATE = 10  # utterances before one that is late in its dialogue
CROWD = 4  # speakers of a dialogue of many
RESAMPLES = 2000
ALL = "all"
ARMS = {"graph": (), "each by itself": ("context", "revision", "slots", "relations")}
"""Names of the networks, and what each is without."""


def graph_worth(lab: Lab, corpus: str) -> str:
    """Weighted F1 on dev of a corpus with and without the graph. Returns a Markdown table.

    The encoders are those of the shipped checkpoint; where none is shipped (IEMOCAP), they are tuned here, and the
    networks learn from labels alone.
    """
    config = load_config(corpus)
    labels, training, dialogues = read_pair(lab.data / corpus)
    if corpus in shipped():
        tuned = tuned_of(corpus)
    else:
        config = leave_out(config, ["teacher"])  # it is not here
        tuned = tune(config, labels, training, dialogues, _work(repr(config)), lab.progress)
    full = configure(config, labels, training)
    seen = views(training, labels, full, tuned, config.recipe, lab.progress, config.teacher)
    garbled = with_word_errors(dialogues, 0.15, vocabulary(dialogues), seed=0)
    confused = with_wrong_speakers(dialogues, 0.2, seed=0)
    dev, wrong_words, wrong_speakers = (
        prepare(table, labels, full, tuned, lab.progress) for table in (dialogues, garbled, confused)
    )
    guesses: dict[str, list[dict[str, Ints]]] = {}
    for arm, parts in ARMS.items():
        without = leave_out(config, list(parts))
        network = replace(full, without=without.without, layers=0 if parts else full.layers)
        work = _work(
            repr((identity(corpus) if corpus in shipped() else config, config.recipe, config.teacher, network))
        )
        guesses[arm] = []
        for seed in range(lab.seeds):
            model = trained(work / f"{seed}.safetensors", network, config.recipe, seen, dev, seed, lab.progress)
            run = {
                ALL: _labels(model, dev),
                "15 % wrong words": _labels(model, wrong_words),
                "half of the words missing": _labels(model, _half_without_words(dev)),
                "20 % wrong speakers": _labels(model, wrong_speakers),
            }
            guesses[arm].append(run | ({"without the reader": _labels(_alone(model), dev)} if full.experts else {}))
    position = np.concatenate([np.arange(len(dialogue.rows)) for dialogue in dialogues])
    speakers = np.repeat(
        [len({row.speaker for row in dialogue.rows}) for dialogue in dialogues], dev.length.astype(int)
    )
    groups = {
        f"{LATE} or more utterances before": position >= LATE,
        f"{CROWD} or more speakers": speakers >= CROWD,
    }
    for runs in guesses.values():
        for run in runs:
            run |= {name: np.where(rows, run[ALL], -1) for name, rows in groups.items() if rows.any()}
    return _table(guesses, dev)


def _work(settings: str) -> Path:
    """The folder of what was trained with these settings."""
    folder = cache_folder() / f"graph-worth-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _half_without_words(data: Prepared) -> Prepared:
    """The same table, in which every second utterance, by chance, has no words."""
    rng = np.random.default_rng(0)

    def without_words(one: UtteranceFeatures) -> UtteranceFeatures:
        if rng.random() < 0.5:
            return one
        rest = {name: values for name, values in one.features.items() if name != "text"}
        return replace(one, features=rest, expert_posteriors={})

    conversations = [[without_words(one) for one in conversation] for conversation in data.conversations]
    return Prepared(conversations, data.emotion, data.sentiment)


def _alone(model: FusionGCN) -> FusionGCN:
    """The same network, without its expert."""
    other = copy.deepcopy(model)
    other.expert_weight.zero_()
    return other


def _labels(model: FusionGCN, data: Prepared) -> Ints:
    labels: Ints = predict(model, data).argmax(1)
    return labels


def _table(guesses: Mapping[str, list[dict[str, Ints]]], dev: Prepared) -> str:
    """Means over the seeds; the difference with its 95 % interval by a bootstrap over dialogues, drawn alike for both
    arms."""
    lines = ["| | " + " | ".join(ARMS) + " | difference |", "|---|---|---|---|"]
    for condition in guesses["graph"][0]:
        counts = [
            np.array([_confusions(dev, run[condition]) for run in guesses[arm]]) for arm in ARMS
        ]  # each [seeds, dialogues, C, C]
        rng, dialogues = np.random.default_rng(0), counts[0].shape[1]
        weights = rng.multinomial(dialogues, np.full(dialogues, 1 / dialogues), RESAMPLES)
        drawn = [weighted_f1(np.einsum("rd,sdij->rsij", weights, each, optimize=True)).mean(1) for each in counts]
        low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
        first, second = (weighted_f1(each.sum(1)).mean() for each in counts)
        lines.append(f"| {condition} | {first:.2f} | {second:.2f} | {first - second:+.2f} ({low:+.2f} … {high:+.2f}) |")
    return "\n".join(lines) + "\n"


def _confusions(dev: Prepared, guess: Ints) -> Floats:
    """[dialogues, C, C] float64 counts by truth and guess; a guess of -1 does not count."""
    classes = range(int(dev.truth.max()) + 1)
    per_dialogue = [dev.dialogue == number for number in range(len(dev.conversations))]
    chosen = [rows & (guess >= 0) for rows in per_dialogue]
    empty = np.zeros((len(classes), len(classes)))
    return np.array(
        [confusion_matrix(dev.truth[rows], guess[rows], labels=classes) if rows.any() else empty for rows in chosen],
        dtype=np.float64,
    )


def weighted_f1(confusion: Floats) -> Floats:
    """[…] float64, in percent, of confusion matrices […, C, C] by truth and guess."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, guessed = confusion.sum(-1), confusion.sum(-2)
    f1 = 2 * hits / np.maximum(support + guessed, 1)
    mean: Floats = 100 * (f1 * support).sum(-1) / np.maximum(support.sum(-1), 1)  # no utterance: 0
    return mean
