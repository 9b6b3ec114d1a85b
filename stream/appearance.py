"""Appearance of each emotion wherever labels are shown: the page, the terminal, the report.

The names come from the checkpoint (`model.labels`, `SessionStarted.emotions`); this table only says how they look. Any
two of one label set differ in their symbol and pattern, and in color by more than 12 in CAM02-UCS, also as people see
them who lack one kind of cone; on the page's grounds, light and dark, each has a contrast of 3:1 or more
(tests/stream/test_appearance.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Pattern = Literal["plain", "dots", "circles", "horizontal", "vertical", "grid", "checks", "diamonds"]


@dataclass(frozen=True)
class Appearance:
    """Valence, symbol, colors and pattern of an emotion."""

    valence: Literal[-1, 0, 1]
    symbol: str
    """One character, shown with the color, so that color is never all that tells emotions apart."""
    light: str
    """Color on a light ground, "#rrggbb"."""
    dark: str
    """Color on a dark ground."""
    pattern: Pattern
    """Drawn over the color where a symbol has no room."""


_BY_NAMES: dict[tuple[str, ...], Appearance] = {
    ("neutral", "calm"): Appearance(0, "○", "#656b78", "#7c7f83", "plain"),
    ("joy", "joyful", "happy"): Appearance(1, "▲", "#b57f19", "#ffd54d", "dots"),
    ("excited",): Appearance(1, "△", "#ea48ab", "#ff6db3", "circles"),
    ("peaceful",): Appearance(1, "◎", "#137857", "#1bb280", "diamonds"),
    ("powerful",): Appearance(1, "★", "#98319b", "#cc67b8", "checks"),
    ("surprise", "surprised"): Appearance(0, "◆", "#6d1acb", "#c77af8", "vertical"),
    ("anger", "angry", "mad"): Appearance(-1, "■", "#be2238", "#d92631", "grid"),
    ("frustrated",): Appearance(-1, "□", "#522314", "#c59a77", "checks"),
    ("disgust", "disgusted"): Appearance(-1, "◇", "#3d570f", "#95b134", "diamonds"),
    ("sadness", "sad"): Appearance(-1, "▼", "#3189ff", "#98c2e7", "horizontal"),
    ("fear", "fearful", "scared"): Appearance(-1, "▽", "#210e59", "#9a39e9", "circles"),
}
APPEARANCES = {name: look for names, look in _BY_NAMES.items() for name in names}
"""By the name of the emotion, for the label sets of the shipped checkpoints and of the voice and face encoders."""
UNKNOWN = Appearance(0, "•", "#656b78", "#7c7f83", "plain")
"""For a label that is not in the table."""


def appearance(emotion: str) -> Appearance:
    """Appearance of an emotion, `UNKNOWN` for one that is not in the table."""
    return APPEARANCES.get(emotion, UNKNOWN)


def light_and_dark(look: Appearance) -> str:
    """The color as a CSS value that follows the page's color scheme."""
    return f"light-dark({look.light}, {look.dark})"


def valence(probabilities: Mapping[str, float]) -> float:
    """Probability of positive emotions minus that of negative ones, -1 … 1; other labels do not count."""
    return sum(appearance(emotion).valence * share for emotion, share in probabilities.items())
