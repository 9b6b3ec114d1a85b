"""The plots of BENCHMARKS.md: small SVG files, identical for identical figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stream.exports.charts import LINES, MARKERS, drawing_style, hide_frame, svg_file

if TYPE_CHECKING:
    from workers.console.tables import Rows


PUBLISHED_MS = {
    "DialogueGCN": (3.4, 14.6, 33),
    "COGMEN": (15, 24, 51),
    "GraphSmile": (9, 23, 54),
    "DAG-ERC": (17, 58, 175),
    "SDT": (50, 64, 178),
}
"""Published milliseconds for a new utterance at `PUBLISHED_LENGTHS`, of models that re-run the whole dialogue."""
PUBLISHED_LENGTHS = (10, 50, 100)


@dataclass(frozen=True)
class Plot:
    """A plot of one table."""

    part: str
    table: str
    title: str
    draw: Callable[[Axes, Rows], None]
    """Draws the rows. Raises KeyError for rows of another version."""


def svg(plot: Plot, rows: Rows) -> str | None:
    """The plot as an SVG document; None for rows that this version cannot draw."""
    if not rows:
        return None
    with drawing_style(font_size=9):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        hide_frame(axes)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        try:
            plot.draw(axes, rows)
        except KeyError:
            return None
        axes.set_title(plot.title, fontsize=10, loc="left")
        return svg_file(figure)


def _curves(
    x: str, y: str, by: str | None, xlabel: str, ylabel: str, log: bool = False
) -> Callable[[Axes, Rows], None]:
    """Drawing function: lines of y over x, one for each value of `by`."""

    def draw(axes: Axes, rows: Rows) -> None:
        for n, name in enumerate(dict.fromkeys(row[by] if by else "" for row in rows)):
            points = [(row[x], row[y]) for row in rows if (not by or row[by] == name) and row.get(y) is not None]
            axes.plot(*zip(*points, strict=True), color=LINES[n % 7], marker=MARKERS[n % 7], markersize=4, label=name)
        if log:
            axes.set_xscale("log", base=2)
            axes.set_xticks(
                sorted({row[x] for row in rows}), [f"{each:,}" for each in sorted({row[x] for row in rows})]
            )
            axes.minorticks_off()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_ylim(bottom=0)
        if by:
            axes.legend(frameon=False)

    return draw


def _step(axes: Axes, rows: Rows) -> None:
    """Cost of a new utterance over the conversation's length, beside re-runs of the whole dialogue."""
    lines = (("a step, as it is done", "step after"), ("the same network, re-run", "re-run over"))
    for n, (name, start) in enumerate(lines):
        points = []
        for row in rows:
            found = re.fullmatch(rf"{start} ([\d,]+)", row["work"])
            if found:
                points.append((int(found[1].replace(",", "")), row["ms, median"]))
        if points:
            axes.plot(
                *zip(*points, strict=True), color=LINES[n], marker=MARKERS[n], markersize=5, linewidth=2, label=name
            )
    for n, (name, milliseconds) in enumerate(PUBLISHED_MS.items(), 2):
        axes.plot(
            PUBLISHED_LENGTHS, milliseconds, color=LINES[n], marker=MARKERS[n], markersize=4, linewidth=1,
            linestyle="--", label=f"{name}, elsewhere",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="utterances that went before", ylabel="ms for a new utterance")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _stages(axes: Axes, rows: Rows) -> None:
    """A stacked bar of the stages of the time to label for each configuration."""
    stages = ("queue", "asr", "encode", "graph", "publish")
    names = [f"{row['words']},\n{'ahead' if row['ahead'] == 'yes' else 'not ahead'}" for row in rows]
    parts = {"end-silence": [row["in all p50"] - row["over p50"] for row in rows]}
    parts["block and the rest"] = [max(0.0, row["over p50"] - sum(row[s] for s in stages)) for row in rows]
    parts |= {stage: [row[stage] for row in rows] for stage in stages if any(row[stage] >= 1 for row in rows)}
    left = np.zeros(len(rows))
    for (name, widths), color in zip(parts.items(), ("#bbbbbb", *LINES), strict=False):
        axes.barh(names, widths, left=left, color=color, edgecolor="white", linewidth=0.8, label=name)
        left += widths
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="ms from the end of speech to the label at a subscriber, medians")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _memory(axes: Axes, rows: Rows) -> None:
    """Two bars for each process: memory in the first and in the last third of the hours."""
    names = [f"{row['process']} {row['pid']}" for row in rows]
    for n, (column, color) in enumerate((("MB first third", LINES[5]), ("MB last third", LINES[0]))):
        places = np.arange(len(rows)) + 0.4 * n
        axes.barh(places, [row[column] for row in rows], height=0.4, color=color, label=column.removeprefix("MB "))
    axes.set_yticks(np.arange(len(rows)) + 0.2, names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="MB")
    axes.legend(frameon=False)


PLOTS = {
    "step": Plot("graph", "graph", "A new utterance's cost as a conversation grows", _step),
    "batching": Plot(
        "batching", "batching", "Steps a second by sessions that wait at the same time",
        _curves("sessions", "steps/s", None, "sessions", "steps/s", log=True),
    ),
    "latency": Plot("latency", "latency", "Time to label by stage", _stages),
    "capacity": Plot(
        "capacity", "capacity", "Time to label by sessions at once",
        _curves("sessions", "p95", "words", "sessions", "ms over the end-silence, 95 % of labels", log=True),
    ),
    "longevity": Plot("longevity", "longevity", "Memory in the first and the last third of the hours", _memory),
}  # fmt: skip
"""Plots by name of the file."""
