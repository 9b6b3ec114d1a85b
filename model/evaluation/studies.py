"""The studies behind model/RESULTS.md: which part of the network does what, and what it costs.

`undertone study NAME` runs one; every cell of a table is a mean over seeds with a 95 % t-interval, on dev, selected on
dev (so the cells are comparable with each other, and optimistic as absolute figures). Cells that are done are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from model.evaluation.lab import EPOCHS, UNBOUNDED_WINDOW, Lab, table
from model.fusion.config import MODULES
from model.progress import Progress, Silent
from model.training.config import TrainingConfig, leave_out
from model.training.experiment import over_seeds
from model.training.train import train


def ablation(lab: Lab) -> str:
    """Everything, and everything but one part."""
    parts = ("", *MODULES, "coarse", "consistency", "alignment_loss", "noise", "prosody", "tuning")
    cells = {}
    for part in parts:
        name = f"without {part}" if part else "everything"
        config = leave_out(lab.config, [part] if part else [])
        cells[name] = lab.measure("ablation", name, lambda seed, c=config: lab.train_and_score(c, seed))  # type: ignore[misc]
    return table(cells)


def grid(lab: Lab) -> str:
    """Alignment x multi-task learning: what each is worth with and without the other."""
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
    """A network trained for each lookahead k, down to the paper's offline setting (everything in sight)."""
    cells = {}
    for k in (0, 1, 2, 4, UNBOUNDED_WINDOW):
        config = replace(lab.config, recipe=replace(lab.config.recipe, lookahead=k))
        if k == UNBOUNDED_WINDOW:
            config = replace(config, network=replace(config.network, window=UNBOUNDED_WINDOW))
        name = "k = ∞, window ∞" if k == UNBOUNDED_WINDOW else f"k = {k}"
        cells[name] = lab.measure("lookahead", name, lambda seed, c=config: lab.train_and_score(c, seed))  # type: ignore[misc]
    return table(cells)


class _Recorder(Silent):
    """Keeps the learning curve of one run."""

    def __init__(self) -> None:
        self.points: list[float] = []

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        self.points.append(values["validation weighted F1"])


def multitask(lab: Lab) -> str:
    """Learning curves of emotion alone and of emotion with sentiment (and their consistency)."""
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
    _plot_curves(curves, lab.out / "multitask.svg")
    shown = [f"epoch {n}" for n in (1, 2, 3, 4, 6, EPOCHS)]
    return table(curves, {name: name for name in shown}) + "\n![Learning curves](results/multitask.svg)\n"


def _plot_curves(curves: Mapping[str, Sequence[dict[str, float]]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, runs in curves.items():
        summary = over_seeds(runs)
        mean = [value["mean"] for value in summary.values()]
        half = [value["half_width_95"] for value in summary.values()]
        epochs = range(1, len(mean) + 1)
        axes.plot(epochs, mean, label=name)
        low, high = ([m + sign * h for m, h in zip(mean, half, strict=True)] for sign in (-1, 1))
        axes.fill_between(epochs, low, high, alpha=0.2)
    axes.set(xlabel="epoch", ylabel="weighted F1 on dev, %")
    axes.legend()
    figure.savefig(file)


def run_study(name: str, data: Path, out: Path, seeds: int | None, progress: Progress) -> str:
    """Run a study; returns its Markdown, which is also in out/NAME.md."""
    from model.evaluation.cost import cost
    from model.evaluation.module_probes import alignment_alone, graph_alone

    studies: dict[str, Callable[[Lab], str]] = {
        "alignment": alignment_alone,
        "relation": graph_alone,
        "multitask": multitask,
        "grid": grid,
        "ablation": ablation,
        "lookahead": lookahead,
        "cost": cost,
    }
    lab = Lab(data, "meld", out, seeds or STUDIES[name], progress)
    text = studies[name](lab)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    return text


STUDIES = {"alignment": 3, "relation": 3, "multitask": 3, "grid": 3, "ablation": 3, "lookahead": 3, "cost": 1}

"""Each study's own number of seeds."""
