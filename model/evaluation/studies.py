"""The studies of model/RESULTS.md: effect and cost of each part of the network.

`undertone study NAME` runs one. Each cell of a table is a mean over seeds with a 95 % t-interval, on dev, selected on
dev: the cells are comparable with each other, and optimistic as absolute figures. Measured cells are not repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from model.encoders.text import TextConfig
from model.evaluation.lab import EPOCHS, UNBOUNDED_WINDOW, Lab, score_reader, table
from model.fusion.config import MODULES
from model.progress import Progress, Silent
from model.training.config import TrainingConfig, leave_out, load_config
from model.training.train import train


def ablation(lab: Lab) -> str:
    """The whole network, and the network without one part at a time. Returns a Markdown table."""
    parts = ("", *MODULES, "coarse", "consistency", "alignment_loss", "noise", "prosody", "tuning")
    cells = {}
    for part in parts:
        name = f"without {part}" if part else "everything"
        config = leave_out(lab.config, [part] if part else [])
        cells[name] = lab.measure("ablation", name, lambda seed, c=config: lab.train_and_score(c, seed))  # type: ignore[misc]
    return table(cells)


def grid(lab: Lab) -> str:
    """Alignment x multi-task learning: the effect of each with and without the other. Returns a Markdown table."""
    cells = {}
    alignments: dict[str, tuple[str, ...]] = {
        "no alignment": ("alignment", "alignment_loss"),
        "alignment": ("alignment_loss",),
        "alignment and its loss": (),
    }
    tasks: dict[str, tuple[str, ...]] = {"emotion alone": ("coarse",), "emotion and sentiment": ()}
    for alignment, left_out in alignments.items():
        for task, left_out_too in tasks.items():
            config = leave_out(lab.config, [*left_out, *left_out_too])
            name = f"{alignment}; {task}"
            cells[name] = lab.measure("grid", name, lambda seed, c=config: lab.train_and_score(c, seed))  # type: ignore[misc]
    return table(cells)


def lookahead(lab: Lab) -> str:
    """A network trained for each lookahead k, up to the paper's offline setting. Returns a Markdown table."""
    cells = {}
    for k in (0, 1, 2, 4, UNBOUNDED_WINDOW):
        config = replace(lab.config, recipe=replace(lab.config.recipe, lookahead=k))
        if k == UNBOUNDED_WINDOW:
            config = replace(config, network=replace(config.network, window=UNBOUNDED_WINDOW))
        name = "k = ∞, window ∞" if k == UNBOUNDED_WINDOW else f"k = {k}"
        cells[name] = lab.measure("lookahead", name, lambda seed, c=config: lab.train_and_score(c, seed))  # type: ignore[misc]
    return table(cells)


class _Recorder(Silent):
    """Records the learning curve of one run."""

    def __init__(self) -> None:
        self.points: list[float] = []

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        self.points.append(values["validation weighted F1"])


def multitask(lab: Lab) -> str:
    """Learning curves with and without the sentiment task (and consistency). Returns a Markdown table and a figure
    link."""
    curves: dict[str, list[dict[str, float]]] = {}
    for task, parts in (("emotion alone", ["coarse"]), ("emotion and sentiment", [])):
        config = leave_out(lab.config, parts)
        config = replace(config, recipe=replace(config.recipe, patience=config.recipe.epochs))

        def run(seed: int, config: TrainingConfig = config) -> dict[str, float]:
            network, train_views, dev = lab.prepared(config)
            recorder = _Recorder()
            train(network, config.recipe, train_views, dev, seed, recorder)
            return {f"epoch {epoch + 1}": value for epoch, value in enumerate(recorder.points)}

        curves[task] = lab.measure("multitask", task, run)
    columns = [f"epoch {n}" for n in (1, 2, 3, 4, 6, EPOCHS)]
    return table(curves, {name: name for name in columns}) + "\n![Learning curves](results/multitask.svg)\n"


def readers(lab: Lab) -> str:
    """The expert "reader" alone, by its encoder, context, rate of learning and start. Returns a Markdown table."""
    small = replace(load_config("meld"), reader=TextConfig(context=12, tokens=128))
    large = load_config("meld-large")
    cells = {}
    for cell, config in (
        ("MiniLM, by labels alone", leave_out(small, ["teacher"])),
        ("MiniLM, taught by three of the last row", small),
    ):
        cells[cell] = lab.measure("readers", cell, partial(score_reader, lab, config))
    for name, context, tokens, rate, sentences in (
        ("8 earlier utterances, rate 3e-4, without GoEmotions", 8, 128, 3e-4, 0),
        ("8, rate 1.5e-4", 8, 128, 1.5e-4, 3),
        ("8, rate 3e-4", 8, 128, 3e-4, 3),
        ("8, rate 6e-4", 8, 128, 6e-4, 3),
        ("16, rate 3e-4", 16, 224, 3e-4, 3),
        ("30, rate 3e-4", 30, 384, 3e-4, 3),
        ("16, rate 6e-4 (meld-large)", 16, 224, 6e-4, 3),
    ):
        assert large.reader is not None and large.adapter is not None
        config = replace(
            large,
            reader=replace(large.reader, context=context, tokens=tokens),
            adapter=replace(large.adapter, rate=rate, sentence_epochs=sentences),
        )
        seeds = 3 if (context, rate) == (16, 6e-4) else None
        cell = f"MPNet, {name}"
        cells[cell] = lab.measure("readers", cell, partial(score_reader, lab, config), seeds)
    return table(cells, {"accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_f1": "macro F1"})


def run_study(name: str, data: Path, out: Path, seeds: int | None, progress: Progress) -> str:
    """Run a study; returns its Markdown, which is also written to out/NAME.md, and its runs to out/NAME.json."""
    from model.evaluation.cost import cost
    from model.evaluation.ensembles import ensembles
    from model.evaluation.graph_worth import graph_worth
    from model.evaluation.module_probes import alignment_alone, graph_alone
    from model.evaluation.recognized_words import recognized_words
    from model.evaluation.rewritten_words import rewritten_words
    from model.evaluation.taught_graph import taught_graph
    from model.evaluation.uncertainty import uncertainty

    studies: dict[str, Callable[[Lab], str]] = {
        "alignment": alignment_alone,
        "relation": graph_alone,
        "multitask": multitask,
        "grid": grid,
        "ablation": ablation,
        "lookahead": lookahead,
        "readers": readers,
        "uncertainty": uncertainty,
        **{f"graph-{corpus}": partial(graph_worth, corpus=corpus) for corpus in GRAPH_CORPORA},
        "ensembles": ensembles,
        "taught-graph": taught_graph,
        "recognized-words": recognized_words,
        "rewritten-words": rewritten_words,
        "cost": cost,
    }
    lab = Lab(data, "meld", out, seeds or STUDIES[name], progress)
    text = studies[name](lab)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    return text


GRAPH_CORPORA = ("meld", "emorynlp", "iemocap")
STUDIES = {
    "alignment": 3,
    "relation": 3,
    "multitask": 3,
    "grid": 3,
    "ablation": 3,
    "lookahead": 3,
    "readers": 1,
    "uncertainty": 5,
    **dict.fromkeys((f"graph-{corpus}" for corpus in GRAPH_CORPORA), 10),
    "ensembles": 5,
    "taught-graph": 3,
    "recognized-words": 5,
    "rewritten-words": 3,
    "cost": 1,
}
"""Default number of seeds of each study."""
