"""`undertone train` and `undertone evaluate`: runs over seeds, the comparison with the baselines, the model card."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from model import baselines, metrics, text
from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.fusion import FusionGCN
from model.labels import LabelSet
from model.tables import Dialogue, read_table
from model.train import Prepared, Recipe, configure, fit_prior, predict, prepare, train

T_975 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}  # Student, n - 1 degrees

Tell = Callable[[str], None]


def scores(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """All headline scores of one run, in percent."""
    guess, classes = probabilities.argmax(1), probabilities.shape[1]
    values = {
        "accuracy": metrics.accuracy(truth, guess),
        "weighted_f1": metrics.weighted_f1(truth, guess, classes),
        "macro_f1": metrics.macro_f1(truth, guess, classes),
        "uar": metrics.uar(truth, guess),
        "ece": metrics.ece(truth, probabilities),
    }
    return {name: round(100 * value, 2) for name, value in values.items()}


def over_seeds(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and 95 % t-interval half-width over seeds, for each score."""
    summary = {}
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        half = T_975.get(len(values), 1.96) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        summary[name] = {"mean": round(float(values.mean()), 2), "half_width_95": round(float(half), 2)}
    return summary


def train_command(
    data: Path, out: Path, seeds: int, recipe: Recipe, with_baselines: bool, tell: Tell
) -> dict[str, Any]:
    """Train over seeds on data/train.csv, select on data/dev.csv, keep the best seed in `out`."""
    started = time.monotonic()
    labels, training = read_table(data / "train.csv")
    other, validation = read_table(data / "dev.csv")
    if other != labels:
        raise CheckpointError(f"{data}: train.csv is labelled as {labels.name}, dev.csv as {other.name}")
    prior = fit_prior(training)
    config = configure(labels, prior)
    train_set = prepare(training, labels, prior, config.window, tell)
    dev_set = prepare(validation, labels, prior, config.window, tell)
    truth = np.concatenate(dev_set.emotion)
    runs, finals, best = [], [], None
    for seed in range(seeds):
        model = train(config, recipe, train_set, dev_set, seed, tell)
        runs.append(scores(truth, predict(model, dev_set)))
        finals.append(scores(truth, predict(model, dev_set, revised=True)))
        if best is None or runs[-1]["weighted_f1"] > best[0]:
            best = (runs[-1]["weighted_f1"], seed, model)
    assert best is not None
    _, seed, model = best
    report: dict[str, Any] = {
        "data": f"{labels.name}: {sum(map(len, train_set.heard))} training and {len(truth)} validation utterances",
        "selected_on": "validation (dev); its scores are therefore optimistic",
        "seeds": seeds,
        "provisional": over_seeds(runs),
        "final": over_seeds(finals),
        "runs": runs,
        "shipped_seed": seed,
        "shipped": _single(truth, predict(model, dev_set), dev_set),
        "temperature": round(float(model.temperature), 4),
        "conformal_threshold": round(float(model.conformal_threshold), 4),
        "recipe": asdict(recipe),
        "machine": f"{platform.machine()}, {platform.system()}, CPU",
    }
    for hidden, name in ((("audio",), "text only"), (("text",), "prosody only")):
        if prior is not None:
            report.setdefault("modalities", {})[name] = scores(truth, predict(model, dev_set, hidden=hidden))
    if with_baselines:
        report["baselines"] = _baselines(training, validation, labels, truth, tell)
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    save_checkpoint(model, out, model_card(model, report), report)
    return report


def evaluate_command(checkpoint: str, table: Path, tell: Tell) -> dict[str, Any]:
    """Score a checkpoint on a table. Raises CheckpointError when their label sets differ."""
    model = load_checkpoint(checkpoint)
    labels, dialogues = read_table(table)
    if labels.emotions != model.config.emotions:
        raise CheckpointError(
            f"checkpoint {checkpoint} labels {', '.join(model.config.emotions)}; "
            f"{table} is labelled with {', '.join(labels.emotions)}"
        )
    data = prepare(dialogues, labels, model.config.prosody, model.config.window, tell)
    truth = np.concatenate(data.emotion)
    probabilities = predict(model, data)
    return {
        "checkpoint": checkpoint,
        "table": str(table),
        "utterances": len(truth),
        "provisional": _single(truth, probabilities, data),
        "final": scores(truth, predict(model, data, revised=True)),
        "f1_per_class": dict(
            zip(
                labels.emotions,
                (100 * metrics.f1_per_class(truth, probabilities.argmax(1), len(labels.emotions))).round(1).tolist(),
                strict=True,
            )
        ),
    }


def _single(truth: NDArray[np.int64], probabilities: NDArray[np.float64], data: Prepared) -> dict[str, Any]:
    """One run's scores, with bootstrap intervals over dialogues for accuracy and weighted F1."""
    guess, classes = probabilities.argmax(1), probabilities.shape[1]
    measures: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "accuracy": lambda rows: metrics.accuracy(truth[rows], guess[rows]),
        "weighted_f1": lambda rows: metrics.weighted_f1(truth[rows], guess[rows], classes),
    }
    intervals = {
        f"{name}_95": [round(100 * bound, 2) for bound in metrics.bootstrap(measure, data.dialogue)]
        for name, measure in measures.items()
    }
    return scores(truth, probabilities) | intervals


def _baselines(
    training: list[Dialogue], validation: list[Dialogue], labels: LabelSet, truth: NDArray[np.int64], tell: Tell
) -> dict[str, dict[str, float]]:
    guesses = {
        "majority": baselines.majority(training, validation, labels),
        "tfidf_past_six": baselines.tfidf(training, validation, labels, tell),
    }
    classes = len(labels.emotions)
    return {
        name: {
            "accuracy": round(100 * metrics.accuracy(truth, guess), 2),
            "weighted_f1": round(100 * metrics.weighted_f1(truth, guess, classes), 2),
        }
        for name, guess in guesses.items()
    }


def model_card(model: FusionGCN, report: dict[str, Any]) -> str:
    """The README.md beside the weights, in Hugging Face's layout."""
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shape = asdict(replace(config, prosody=None))
    return f"""---
library_name: undertone
license: apache-2.0
tags: [emotion-recognition-in-conversation]
---
# Undertone fusion-GCN, {config.label_set}

Labels each utterance of a conversation as {", ".join(config.emotions)}, causally (window of {config.window} past
utterances), from text ({text.NAME}) and prosody (Praat). {parameters:,} parameters; no encoder weights inside.

Training data: {report["data"]}. Trained on acted television dialogue; elsewhere expect less. The labels are perceived
expression, not what anybody feels.

Selected on {report["selected_on"]}. Mean ± 95 % t-interval over {report["seeds"]} seeds, in percent:

```json
{json.dumps({key: report[key] for key in ("provisional", "final", "shipped", "baselines") if key in report}, indent=2)}
```

Calibration: temperature {report["temperature"]}, conformal threshold {report["conformal_threshold"]} (both fitted on
validation data). Configuration: `{json.dumps(shape)}`
"""


def train_table(report: dict[str, Any]) -> Table:
    """The report of `train_command`, for a person."""
    table = Table(title=f"{report['data']}, {report['seeds']} seeds, dev (selected on it)", title_justify="left")
    for column in ("", "accuracy", "weighted F1", "macro F1", "UAR", "ECE"):
        table.add_column(column, justify="left" if not column else "right")
    names = ("accuracy", "weighted_f1", "macro_f1", "uar", "ece")
    for title in ("provisional", "final"):
        cells = [f"{report[title][name]['mean']:.2f} ± {report[title][name]['half_width_95']:.2f}" for name in names]
        table.add_row(f"fusion-GCN, {title}", *cells)
    for name, values in (report.get("modalities", {}) | report.get("baselines", {})).items():
        table.add_row(name, *(f"{values[n]:.2f}" if n in values else "" for n in names))
    return table


def evaluation_table(report: dict[str, Any]) -> Table:
    """The report of `evaluate_command`, for a person."""
    table = Table(title=f"{report['checkpoint']} on {report['table']}, {report['utterances']} utterances")
    table.add_column("score")
    table.add_column("provisional (95 % over dialogues)", justify="right")
    table.add_column("final", justify="right")
    for name, value in report["final"].items():
        provisional = report["provisional"]
        interval = provisional.get(f"{name}_95")
        bounds = f" ({interval[0]:.2f} … {interval[1]:.2f})" if interval else ""
        table.add_row(name, f"{provisional[name]:.2f}{bounds}", f"{value:.2f}")
    for emotion, value in report["f1_per_class"].items():
        table.add_row(f"F1 {emotion}", f"{value:.1f}", "")
    return table
