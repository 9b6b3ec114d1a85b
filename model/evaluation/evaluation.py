"""`undertone evaluate`: scores of a checkpoint on a table, as it is and under the noise of live use."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from model.data.tables import Dialogue, labelled_rows, read_table
from model.fusion.checkpoint import CheckpointError, identity, networks_of, tuned_of
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.network import FusionGCN
from model.metrics import ece_if_calibrated, scores, t_interval, with_intervals
from model.progress import Progress
from model.training.noise import vocabulary, with_word_errors, with_wrong_speakers
from model.training.prepared import Prepared, prepare
from model.training.train import predict

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
LOOKAHEADS = (0, 1, 2, 4)
MISSING = tuple(tenths / 10 for tenths in range(8))
WORD_ERRORS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
WRONG_SPEAKERS = (0.0, 0.05, 0.1, 0.2, 0.3)
WINDOWS = (1, 2, 3, 5, 10)
MISSING_DRAWS = 5  # of absent modalities, averaged
WORD_DRAWS = 2  # of wrong words, averaged; each encodes all texts again
CALIBRATION_BINS = 10
KEPT = (50, 70, 90, 100)  # percent of the labels that are kept on the abstention curve


def evaluate(checkpoint: str, table: Path, progress: Progress, full: bool = False) -> dict[str, Any]:
    """Score a checkpoint on a conversation table; the report is JSON-serialisable.

    full: add lookahead, modality subsets, missing modalities, word errors, wrong speakers and window sizes. Raises
    CheckpointError when the table has another label set, TableError for a table that cannot be read.
    """
    networks = networks_of(checkpoint)
    model = networks[0]
    labels, dialogues = read_table(table)
    if labels.emotions != model.config.emotions:
        raise CheckpointError(
            f"checkpoint {checkpoint} labels {', '.join(model.config.emotions)}; "
            f"{table} is labelled with {', '.join(labels.emotions)}"
        )
    tuned = tuned_of(checkpoint)

    def prepare_table(table: Sequence[Dialogue]) -> Prepared:
        return prepare(table, labels, model.config, tuned, progress)

    data = prepare_table(dialogues)
    truth, probabilities = data.truth, predict(model, data)
    report: dict[str, Any] = {
        "checkpoint": identity(checkpoint),
        "table": table.name,
        "utterances": len(truth),
        "dialogues": len(dialogues),
        "emotions": list(labels.emotions),
        "provisional": with_intervals(truth, probabilities, data.dialogue),
        "final": with_intervals(truth, predict(model, data, revised=True), data.dialogue),
        "majority": scores(truth, np.eye(len(labels.emotions))[np.full(len(truth), np.bincount(truth).argmax())]),
        "per_class": _per_class(truth, probabilities, labels.emotions),
        "confusion": confusion_matrix(truth, probabilities.argmax(1), labels=range(len(labels.emotions))).tolist(),
        "shift": shifts(dialogues, truth, probabilities.argmax(1)),
        "position": by_position(dialogues, truth, probabilities.argmax(1)),
        "speakers": by_speakers(dialogues, truth, probabilities.argmax(1)),
        "ece_if_calibrated": round(100 * ece_if_calibrated(probabilities), 2),
        "calibration": _calibration(truth, probabilities, labels.emotions),
        "uncertain": _uncertain(truth, probabilities, float(model.certain_from)),
    }
    if len(networks) > 1:
        runs = [scores(truth, predict(network, data)) for network in networks]
        report["over_seeds"] = {n: t_interval([run[n] for run in runs]) for n in runs[0]} | {"runs": len(runs)}
    if full:
        report |= _robustness(networks, data, dialogues, prepare_table, progress)
    return report


def _robustness(
    networks: Sequence[FusionGCN],
    data: Prepared,
    dialogues: Sequence[Dialogue],
    prepare_table: Callable[[Sequence[Dialogue]], Prepared],
    progress: Progress,
) -> dict[str, Any]:
    """Mean scores of the networks (one a seed) with more context, with less context, and with noisy input."""
    truth, config = data.truth, networks[0].config

    def run(prepared: Prepared, lookahead: int = 0, window: int = config.window) -> dict[str, float]:
        windowed = [with_window(network, window) for network in networks]
        return _mean([scores(truth, predict(network, prepared, lookahead=lookahead)) for network in windowed])

    longest = int(data.length.max())
    curve = [{"k": str(k), **run(data, k)} for k in LOOKAHEADS]
    curve.append({"k": "∞", **run(data, longest, longest + 1)})
    progress.tell("lookahead done")
    sizes = (*(w for w in WINDOWS if w < config.window), config.window)
    windows = [{"window": size, **run(data, window=size)} for size in sizes]
    names = config.modalities
    subsets = [
        {"modalities": list(modalities), **run(without_modalities(data, set(names) - set(modalities)))}
        for size in range(1, len(names) + 1)
        for modalities in combinations(names, size)
    ]

    def missing(rate: float) -> dict[str, float]:
        return _mean([run(with_missing(data, names, rate, seed)) for seed in range(MISSING_DRAWS)])

    def misrecognized(wer: float) -> dict[str, float]:
        return _mean([run(prepare_table(with_word_errors(dialogues, wer, words, seed))) for seed in range(WORD_DRAWS)])

    without = [{"rate": rate, **missing(rate)} for rate in MISSING]
    progress.tell("windows and modalities done")
    words = vocabulary(dialogues)
    garbled = [{"wer": wer, **misrecognized(wer)} for wer in WORD_ERRORS]
    progress.tell("word errors done")
    mistaken = [
        {"rate": rate, **run(prepare_table(with_wrong_speakers(dialogues, rate, 0)))} for rate in WRONG_SPEAKERS
    ]
    return {
        "lookahead": curve,
        "window": windows,
        "subsets": subsets,
        "missing": without,
        "word_errors": garbled,
        "wrong_speakers": mistaken,
    }


def _mean(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([run[name] for run in runs])), 2) for name in runs[0]}


def with_window(model: FusionGCN, size: int) -> FusionGCN:
    """The same network, with shared weights, with another window W."""
    other = copy.copy(model)
    other.config = replace(model.config, window=size, revision=min(model.config.revision, size - 1))
    return other


def without_modalities(data: Prepared, names: set[str]) -> Prepared:
    """The same utterances with some modalities absent."""
    conversations = [
        [_with_only(one, [name for name in one.features if name not in names]) for one in conversation]
        for conversation in data.conversations
    ]
    return Prepared(conversations, data.emotion, data.sentiment)


def _with_only(one: UtteranceFeatures, modalities: Sequence[str]) -> UtteranceFeatures:
    """The utterance with only these modalities; without text the reader has no posterior."""
    features = {name: one.features[name] for name in modalities}
    return replace(one, features=features, expert_posteriors=one.expert_posteriors if "text" in modalities else {})


def with_missing(data: Prepared, names: Sequence[str], rate: float, seed: int) -> Prepared:
    """Each modality of each utterance is absent with probability `rate`, but never the last one (as in GCNet, Lian
    2023)."""
    rng = np.random.default_rng(seed)

    def thinned(one: UtteranceFeatures) -> UtteranceFeatures:
        remaining = [name for name in names if name in one.features and rng.random() >= rate]
        if not remaining and one.features:
            remaining = [sorted(one.features)[rng.integers(len(one.features))]]
        return _with_only(one, remaining)

    conversations = [[thinned(one) for one in conversation] for conversation in data.conversations]
    return Prepared(conversations, data.emotion, data.sentiment)


def shifts(dialogues: Sequence[Dialogue], truth: Ints, guess: Ints) -> dict[str, dict[str, float]]:
    """Scores of "shift", utterances whose emotion differs from the speaker's previous one, and of "no shift".

    truth, guess: [n] class indices of the utterances with a label in order. A speaker's first utterance belongs to
    neither, nor does the one after context.
    """
    kinds = []
    for dialogue in dialogues:
        last: dict[str, str] = {}
        for row in dialogue.rows:
            before = last.get(row.speaker)
            if row.is_labelled:
                kinds.append("" if not before else "shift" if before != row.emotion else "no shift")
            last[row.speaker] = row.emotion
    return _by_group(kinds, ("shift", "no shift"), truth, guess)


def by_position(dialogues: Sequence[Dialogue], truth: Ints, guess: Ints) -> dict[str, dict[str, float]]:
    """Scores by the number of utterances before. truth, guess: [n] class indices of those with a label in order."""
    before = np.concatenate([np.arange(len(dialogue.rows)) for dialogue in dialogues])[labelled_rows(dialogues)]
    names = ("none", "1 to 3", "4 to 9", "10 and more")
    return _by_group([names[n] for n in np.digitize(before, (1, 4, 10))], names, truth, guess)


def by_speakers(dialogues: Sequence[Dialogue], truth: Ints, guess: Ints) -> dict[str, dict[str, float]]:
    """Scores by the number of people in the dialogue. truth, guess: [n] class indices of the utterances with a label in
    order."""
    names = ("1", "2", "3", "4 and more")
    people = [
        len({row.speaker for row in dialogue.rows})
        for dialogue in dialogues
        for row in dialogue.rows
        if row.is_labelled
    ]
    return _by_group([names[min(n, 4) - 1] for n in people], names, truth, guess)


def _by_group(group: Sequence[str], names: Sequence[str], truth: Ints, guess: Ints) -> dict[str, dict[str, float]]:
    """Number of utterances, accuracy and weighted F1 of each group that has any. All [n]."""
    outcome = {}
    for name in names:
        rows = np.flatnonzero(np.array(group) == name)
        if len(rows):
            weighted = f1_score(truth[rows], guess[rows], average="weighted", zero_division=0)
            outcome[name] = {
                "utterances": len(rows),
                "accuracy": round(100 * float(accuracy_score(truth[rows], guess[rows])), 2),
                "weighted_f1": round(100 * float(weighted), 2),
            }
    return outcome


def _per_class(truth: Ints, probabilities: Floats, emotions: Sequence[str]) -> dict[str, dict[str, float]]:
    columns = precision_recall_fscore_support(
        truth, probabilities.argmax(1), labels=range(len(emotions)), zero_division=0
    )
    return {
        emotion: {
            "precision": round(100 * float(precision), 1),
            "recall": round(100 * float(recall), 1),
            "f1": round(100 * float(f1), 1),
            "support": int(support),
        }
        for emotion, precision, recall, f1, support in zip(emotions, *columns, strict=True)
    }


def _reliability(predicted: Floats, correct: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Reliability diagram: predicted probability [n] against observed frequency of `correct` [n], in equal-mass
    bins."""
    order = np.argsort(predicted, kind="stable")
    return [
        {
            "said": round(float(predicted[rows].mean()), 4),
            "happened": round(float(correct[rows].mean()), 4),
            "n": len(rows),
        }
        for rows in np.array_split(order, CALIBRATION_BINS)
        if len(rows)
    ]


def _calibration(truth: Ints, probabilities: Floats, emotions: Sequence[str]) -> dict[str, Any]:
    def curve(predicted: Floats, correct: NDArray[np.bool_]) -> dict[str, Any]:
        """ECE in percent and bins of probabilities [n] and their outcomes [n]."""
        bins = _reliability(predicted, correct)
        gap = sum(b["n"] * abs(b["said"] - b["happened"]) for b in bins) / len(truth)
        return {"ece": round(100 * gap, 2), "bins": bins}

    overall = curve(probabilities.max(1), probabilities.argmax(1) == truth)
    per_class = {emotion: curve(probabilities[:, c], truth == c) for c, emotion in enumerate(emotions)}
    return {"winning class": overall} | per_class


def _uncertain(truth: Ints, probabilities: Floats, threshold: float) -> dict[str, Any]:
    """Share of uncertain labels, accuracy with and without them, and ("most probable") accuracy of so many percent of
    the labels, those that are most probable; all in percent."""
    certain = probabilities.max(1) >= threshold
    correct = probabilities.argmax(1) == truth
    ranked = correct[np.argsort(-probabilities.max(1), kind="stable")]
    kept = {str(share): ranked[: max(1, len(ranked) * share // 100)] for share in KEPT}
    return {
        "share": round(100 * float((~certain).mean()), 1),
        "accuracy_certain": round(100 * float(correct[certain].mean()), 2) if certain.any() else 0.0,
        "accuracy_uncertain": round(100 * float(correct[~certain].mean()), 2) if (~certain).any() else 0.0,
        "most probable": {share: round(100 * float(rows.mean()), 2) for share, rows in kept.items()},
    }
