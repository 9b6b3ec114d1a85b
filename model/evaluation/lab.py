"""Common parts of the studies: a prepared corpus, measured cells on disk, and the Markdown table of cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from model.encoders.text import ContextReader, Tuned
from model.fusion.config import FusionConfig
from model.fusion.network import FusionGCN
from model.metrics import scores
from model.progress import Progress, Silent
from model.training.config import TrainingConfig, leave_out, load_config
from model.training.experiment import configure, over_seeds, read_pair, tuned_on_sentences, tuned_reader, views
from model.training.prepared import Prepared, cache_folder, prepare, so_far
from model.training.train import predict, train

EPOCHS = 8
UNBOUNDED_WINDOW = 10_000  # utterances: longer than any dialogue


@dataclass
class Lab:
    """A corpus with its text adapter, and the cells that are measured already."""

    data: Path
    corpus: str
    out: Path
    seeds: int
    progress: Progress
    _prepared: dict[str, tuple[FusionConfig, list[Prepared], Prepared]] = field(default_factory=dict)

    @cached_property
    def config(self) -> TrainingConfig:
        """The corpus's training run, shorter, without its expert and its teacher: the studies are of the graph."""
        config = leave_out(load_config(self.corpus), ["experts", "teacher"])
        return replace(config, recipe=replace(config.recipe, epochs=EPOCHS))

    @cached_property
    def pair(self) -> Any:
        """(label set, training dialogues, validation dialogues)."""
        return read_pair(self.data / self.corpus)

    def prepared(self, config: TrainingConfig) -> tuple[FusionConfig, list[Prepared], Prepared]:
        """(network configuration, training views, dev) of a run."""
        labels, training, validation = self.pair
        tuned = Tuned()
        if config.adapter is not None:
            shipped = load_config(self.corpus)  # the adapter is tuned in its reader's input format
            tuned = Tuned(tuned_on_sentences(shipped, config.adapter, self.progress))
        key = repr(
            (config.text, config.modalities, config.recipe.noise_share > 0, config.recipe.rewritten_share > 0, tuned)
        )
        network = configure(config, labels, training)
        if key not in self._prepared:
            train_views = views(training, labels, network, tuned, config.recipe, self.progress)
            dev = prepare(validation, labels, network, tuned, self.progress)
            self._prepared[key] = (network, train_views, dev)
        _, train_views, dev = self._prepared[key]
        return network, train_views, dev

    def measure(
        self, study: str, cell: str, run: Callable[[int], dict[str, float]], seeds: int | None = None
    ) -> list[dict[str, float]]:
        """The scores of a cell, one run a seed; runs that are in out/STUDY.json are not repeated. seeds: of this cell
        instead of the lab's."""
        seeds = self.seeds if seeds is None else seeds
        file = self.out / f"{study}.json"
        stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        runs = stored.setdefault(cell, [])
        for seed in range(len(runs), seeds):
            self.progress.tell(f"{study}: {cell}, seed {seed}")
            runs.append(run(seed))
            self.out.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        return list(runs[:seeds])

    def train_and_score(self, config: TrainingConfig, seed: int) -> dict[str, float]:
        """Provisional scores of one run, and the weighted F1 of its final labels, in percent."""
        network, train_views, dev = self.prepared(config)
        model = train(network, config.recipe, train_views, dev, seed, Silent())
        final = scores(dev.truth, predict(model, dev, revised=True))
        return score_dev(model, dev, config.recipe.lookahead) | {"final_weighted_f1": final["weighted_f1"]}


def score_dev(model: FusionGCN, dev: Prepared, lookahead: int = 0) -> dict[str, float]:
    """Headline scores on dev, in percent."""
    return scores(dev.truth, predict(model, dev, lookahead=lookahead))


def score_reader(lab: Lab, config: TrainingConfig, seed: int) -> dict[str, float]:
    """Headline scores on dev, in percent, of a run's expert "reader" alone, tuned with this seed."""
    assert config.reader is not None and config.adapter is not None
    labels, training, validation = lab.pair
    start = tuned_on_sentences(config, config.adapter, lab.progress)
    settings = hashlib.sha256(repr((lab.corpus, config.reader, config.adapter, config.teacher)).encode()).hexdigest()[
        :12
    ]
    work = cache_folder() / f"reader-{settings}"
    folder = tuned_reader(config, labels, training, validation, start, work, seed, lab.progress)
    read = ContextReader(config.reader, folder, integers=False)
    past = so_far(validation, config.reader.context)
    posteriors = np.concatenate([read(past[first : first + 64]) for first in range(0, len(past), 64)])
    truth = np.array([labels.emotions.index(row.emotion) for dialogue in validation for row in dialogue.rows])
    return scores(truth, posteriors.astype(np.float64))


COLUMNS = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "final_weighted_f1": "final weighted F1",
}


def table(cells: Mapping[str, Sequence[dict[str, float]]], columns: Mapping[str, str] = COLUMNS) -> str:
    """A Markdown table: mean ± half-width of the 95 % t-interval, where there are several runs."""
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, runs in cells.items():
        summary = over_seeds(runs)
        wide = len(runs) > 1
        values = [f"{summary[c]['mean']:.2f}" + wide * f" ± {summary[c]['half_width_95']:.2f}" for c in columns]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"
