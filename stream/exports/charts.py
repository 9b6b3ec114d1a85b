"""Palette, style and SVG output of all charts, and the charts of the session report, for light and dark pages.

The report's charts contain no text from events except emotions: the page around them names the speakers.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from stream.appearance import APPEARANCES, UNKNOWN, appearance, light_and_dark, valence
from stream.events import Emotion
from stream.exports.labelled import Labelled
from stream.exports.text import plain

# Okabe and Ito's palette, told apart with any color vision.
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#808080"
LINES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#000000")
"""Colors of several lines in one chart, in order; lines differ by `MARKERS` as well."""
MARKERS = "osD^vPX"
TREND = 5  # utterances of the same speaker in the moving average

_TICK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between ticks
_INK = "#0a0b0c"  # placeholder that is replaced by the text color of the page
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "undertone",
    "text.parse_math": False,
    "font.size": 10,
    "hatch.linewidth": 0.8,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}
_drawing = threading.Lock()  # matplotlib's settings are global


@contextmanager
def drawing_style(font_size: float = 10) -> Iterator[None]:
    """Style of all charts. The settings are read while a figure is made and again while it is saved: do both in it."""
    with _drawing, matplotlib.rc_context(_STYLE | {"font.size": font_size}):
        yield


def trend(values: Sequence[float]) -> list[float]:
    """Moving average: the mean of each value and up to TREND - 1 values before it."""
    windows = [values[max(0, end - TREND) : end] for end in range(1, len(values) + 1)]
    return [sum(window) / len(window) for window in windows]


def chart(utterances: Sequence[Labelled], emotions: Sequence[str], duration: float) -> Markup:
    """SVG of one speaker: emotions over time with their counts, and the valence below.

    utterances: of the speaker; emotions: rows of the chart; duration: of the session in seconds.
    """
    entries = [(utterance, utterance.label) for utterance in utterances if utterance.label is not None]
    with drawing_style():
        figure = Figure(figsize=(10, 1.9 + 0.27 * len(emotions)), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(4, 1), height_ratios=(0.27 * len(emotions), 1.2))
        over_time = figure.add_subplot(grid[0, 0])
        below = figure.add_subplot(grid[1, 0], sharex=over_time)
        beside = figure.add_subplot(grid[0, 1], sharey=over_time)
        _timeline(over_time, entries, emotions)
        _valence(below, entries)
        _distribution(beside, [label for _, label in entries], emotions)
        over_time.set_xlim(0, duration)
        below.xaxis.set_major_locator(
            MultipleLocator(next((s for s in _TICK_STEPS_S if s * 8 >= duration), duration / 8))
        )
        return inline_svg(figure)


def _timeline(axes: Axes, entries: Sequence[tuple[Labelled, Emotion]], emotions: Sequence[str]) -> None:
    """Draw one bar per utterance in the row of its emotion, hatched if the label is uncertain."""
    for row, emotion in enumerate(emotions):
        for uncertain in (False, True):
            spans = [
                (utterance.start, utterance.end - utterance.start)
                for utterance, label in entries
                if label.emotion == emotion and label.uncertain == uncertain
            ]
            color = "none" if uncertain else appearance(emotion).light
            axes.broken_barh(
                spans, (row - 0.35, 0.7), facecolor=color, edgecolor=_INK, linewidth=0.7, hatch="////" * uncertain
            )
    axes.set_yticks(range(len(emotions)), [f"{plain(emotion)} {appearance(emotion).symbol}" for emotion in emotions])
    axes.set_ylim(len(emotions) - 0.5, -0.5)
    axes.tick_params(labelbottom=False)
    hide_frame(axes)


def _valence(axes: Axes, entries: Sequence[tuple[Labelled, Emotion]]) -> None:
    times = [(utterance.start + utterance.end) / 2 for utterance, _ in entries]
    values = [valence(label.probabilities) for _, label in entries]
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(times, values, "o", color=GREY, markersize=3)
    axes.plot(times, trend(values), color=_INK, linewidth=1.6)
    axes.set_ylim(-1.1, 1.1)
    axes.set_yticks([-1, 0, 1], ["negative", "0", "positive"])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlabel("time")
    hide_frame(axes)


def _distribution(axes: Axes, labels: Sequence[Emotion], emotions: Sequence[str]) -> None:
    counts = Counter(label.emotion for label in labels)
    colors = [appearance(emotion).light for emotion in emotions]
    numbers = [counts[emotion] for emotion in emotions]
    bars = axes.barh(range(len(emotions)), numbers, color=colors, edgecolor=_INK, linewidth=0.7)
    axes.bar_label(bars, padding=3)
    axes.set_xlim(0, 1.25 * max(1, *numbers))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(labelleft=False)
    axes.set_xlabel("utterances")
    hide_frame(axes)


def clock(seconds: float) -> str:
    """Time as 1:02:03, or 2:03 within the first hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def hide_frame(axes: Axes) -> None:
    """No background, and no lines at the top and on the right."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)


def inline_svg(figure: Figure) -> Markup:
    """SVG for an HTML page, light or dark: no XML declaration, no ids that another drawing has as well, colors that
    follow the page's."""
    drawing = svg_file(figure, transparent=True)
    drawing = re.sub(r'<g id="\w+_\d+">', "<g>", drawing[drawing.index("<svg") :])
    for look in {*APPEARANCES.values(), UNKNOWN}:
        drawing = drawing.replace(look.light, light_and_dark(look))
    return Markup(drawing.replace(_INK, "currentColor").replace("<svg ", '<svg aria-hidden="true" ', 1))  # noqa: S704  # drawn here: words are escaped or outlines


def svg_file(figure: Figure, transparent: bool = False) -> str:
    """A complete SVG document, always the same for the same figure."""
    file = io.StringIO()
    with warnings.catch_warnings():
        # The fonts here only measure a label; the reader's browser draws it.
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        figure.savefig(file, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})
    return file.getvalue()
