"""Reports of `undertone evaluate` (a self-contained HTML page, JSON, a table for the terminal) and figures of
studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from model.metrics import NAMES
from model.training.experiment import over_seeds
from stream.exports.charts import GREY, LINES, drawing_style, inline_svg, svg_file

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Undertone: {{ r.checkpoint }} on {{ r.table }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
figure { margin: 1.5rem 0 } figcaption { color: #555 } svg { max-width: 100%; height: auto }
</style>
<h1>{{ r.checkpoint }} on {{ r.table }}</h1>
<p>{{ r.utterances }} utterances of {{ r.dialogues }} dialogues. Percent; intervals are 95 % bootstrap over dialogues.
If the checkpoint was selected on this table (its card says on what), the figures are optimistic. Labels are perceived
expression. So few utterances show an ECE of {{ r.ece_if_calibrated }} even of a perfectly calibrated model.</p>
<table><tr><th></th>{% for title in names.values() %}<th>{{ title }}</th>{% endfor %}</tr>
{% for title, key in (("as the speaker stops", "provisional"), ("final", "final")) %}<tr><td>{{ title }}</td>
{% for n in names %}<td>{{ "%.2f"|format(r[key][n]) }} <small>({{ "%.1f"|format(r[key][n ~ "_95"][0]) }} …
{{ "%.1f"|format(r[key][n ~ "_95"][1]) }})</small></td>{% endfor %}</tr>{% endfor %}
<tr><td>majority class</td>{% for n in names %}<td>{{ "%.2f"|format(r.majority[n]) }}</td>{% endfor %}</tr>
{% if r.over_seeds %}<tr><td>over {{ r.over_seeds.runs }} seeds (± 95 % t-interval)</td>{% for n in names %}
<td>{{ "%.2f"|format(r.over_seeds[n].mean) }} ± {{ "%.2f"|format(r.over_seeds[n].half_width_95) }}</td>{% endfor %}</tr>
{% endif %}</table>
<h2>Classes</h2>
<table><tr><th></th><th>precision</th><th>recall</th><th>F1</th><th>utterances</th></tr>
{% for emotion, c in r.per_class.items() %}<tr><td>{{ emotion }}</td><td>{{ c.precision }}</td><td>{{ c.recall }}</td>
<td>{{ c.f1 }}</td><td>{{ c.support }}</td></tr>{% endfor %}</table>
{% for title, key in groups %}<h2>{{ title }}</h2>
<table><tr><th></th><th>utterances</th><th>accuracy</th><th>weighted F1</th></tr>
{% for kind, s in r[key].items() %}<tr><td>{{ kind }}</td><td>{{ s.utterances }}</td><td>{{ s.accuracy }}</td>
<td>{{ s.weighted_f1 }}</td></tr>{% endfor %}</table>
{% endfor %}<h2>Uncertainty</h2>
<table><tr><th>the most probable labels</th><th>accuracy</th></tr>
{% for share, accuracy in r.uncertain["most probable"].items() %}<tr><td>{{ share }} %</td><td>{{ accuracy }}</td></tr>
{% endfor %}</table>
<p>{{ r.uncertain.share }} % are called uncertain; accuracy {{ r.uncertain.accuracy_certain }} without them,
{{ r.uncertain.accuracy_uncertain }} on them.</p>
{% if r.subsets %}<h2>Modalities</h2>
<p>This table and the curves at the end are means over {{ r.over_seeds.runs if r.over_seeds else 1 }} networks that
differ by their seed.</p>
<table><tr><th></th><th>accuracy</th><th>weighted F1</th></tr>
{% for s in r.subsets %}<tr><td>{{ s.modalities|join(", ") }}</td><td>{{ s.accuracy }}</td><td>{{ s.weighted_f1 }}</td>
</tr>{% endfor %}</table>{% endif %}
{% for caption, figure in figures %}<figure>{{ figure }}<figcaption>{{ caption }}</figcaption></figure>{% endfor %}
</html>
"""

GROUPS = (
    ("Emotion shifts: against the same speaker's previous utterance", "shift"),
    ("Position: by the number of utterances before", "position"),
    ("By the number of people in the conversation", "speakers"),
)
CURVES = (
    ("lookahead", "k", "later utterances in sight", "Lookahead: networks trained without, shown wider masks."),
    ("window", "window", "earlier utterances in sight", "Window W: the same networks with less of the past."),
    (
        "missing",
        "rate",
        "rate of absent modalities",
        "Missing modalities: each absent with this chance, never the last.",
    ),
    ("word_errors", "wer", "word error rate", "Wrong words, in the utterance and in what the text encoder remembers."),
    ("wrong_speakers", "rate", "rate of wrong speakers", "Utterances given to another speaker of the dialogue."),
)


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write folder/report.json and folder/report.html. report: of `model.evaluation.evaluation.evaluate`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with drawing_style():
        figures = [
            ("Confusions: rows are the annotated emotion, in percent of it.", _confusion(report)),
            (
                "Calibration: predicted probability and observed frequency, in ten bins of equal mass.",
                _calibration(report),
            ),
        ]
        figures += [(caption, _curve(report[k], x, label)) for k, x, label, caption in CURVES if k in report]
    page = Environment(autoescape=True).from_string(PAGE).render(r=report, names=NAMES, groups=GROUPS, figures=figures)
    (folder / "report.html").write_text(page, encoding="utf-8")


def _confusion(report: dict[str, Any]) -> Markup:
    counts = np.array(report["confusion"])
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "black")
    emotions = report["emotions"]
    axes.set_xticks(range(len(emotions)), emotions, rotation=45, ha="right")
    axes.set_yticks(range(len(emotions)), emotions)
    axes.set(xlabel="predicted", ylabel="annotated")
    return inline_svg(figure)


def _calibration(report: dict[str, Any]) -> Markup:
    curves = report["calibration"]
    columns = 4
    figure = Figure(figsize=(10, 2.6 * -(-len(curves) // columns)), layout="constrained")
    grid: Sequence[Axes] = figure.subplots(-(-len(curves) // columns), columns, squeeze=False).flatten().tolist()
    for axes, (name, curve) in zip(grid, curves.items(), strict=False):
        predicted = [point["said"] for point in curve["bins"]]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        observed = [point["happened"] for point in curve["bins"]]
        axes.plot(predicted, observed, color=LINES[0], marker="o", markersize=3)
        axes.set_title(f"{name} (ECE {curve['ece']:.1f})", fontsize=10)
    for axes in grid[len(curves) :]:
        axes.set_axis_off()
    return inline_svg(figure)


def _curve(points: Sequence[dict[str, Any]], x: str, label: str) -> Markup:
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    places = [str(point[x]) for point in points]
    for name, color in zip(("accuracy", "weighted_f1", "macro_f1"), LINES, strict=False):
        axes.plot(places, [point[name] for point in points], color=color, marker="o", label=NAMES[name])
    axes.set(xlabel=label, ylabel="%")
    axes.legend()
    return inline_svg(figure)


def write_learning_curves(folder: Path) -> None:
    """Draw folder/multitask.svg from the runs of the study in folder/multitask.json."""
    curves = json.loads((folder / "multitask.json").read_text(encoding="utf-8"))
    with drawing_style():
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.subplots()
        for (name, runs), color in zip(curves.items(), LINES, strict=False):
            summary = over_seeds(runs).values()
            mean = np.array([value["mean"] for value in summary])
            half = np.array([value["half_width_95"] for value in summary])
            epochs = np.arange(1, len(mean) + 1)
            axes.plot(epochs, mean, color=color, label=name)
            axes.fill_between(epochs, mean - half, mean + half, color=color, alpha=0.2)
        axes.set(xlabel="epoch", ylabel="weighted F1 on dev, %")
        axes.legend()
        (folder / "multitask.svg").write_text(svg_file(figure), encoding="utf-8")


def evaluation_table(report: dict[str, Any]) -> Table:
    """The headline scores and the F1 of each class as a table for the terminal."""
    title = Text(f"{report['checkpoint']} on {report['table']}, {report['utterances']} utterances")
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    table.add_column("as the speaker stops (95 % over dialogues)", justify="right")
    table.add_column("final", justify="right")
    for name, written in NAMES.items():
        cells = []
        for label in ("provisional", "final"):
            low, high = report[label][f"{name}_95"]
            cells.append(f"{report[label][name]:.2f} ({low:.2f} … {high:.2f})")
        table.add_row(written, *cells)
    for emotion, scores in report["per_class"].items():
        table.add_row(Text(f"F1 {emotion}"), f"{scores['f1']:.1f}", "")
    return table
