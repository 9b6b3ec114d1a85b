"""`undertone bench compare`: figures that became better or worse between two files of results.

Two runs are seldom on equal machines, or under equal load. So times are not compared in seconds but in units of the
yardstick that was timed just before and after their part. Errors, scores and memory are compared as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workers.bench.report.figures import FIGURES, Figures, Kind
from workers.bench.report.results import Results, tables_of

if TYPE_CHECKING:
    from workers.console.tables import Rows


@dataclass(frozen=True)
class Change:
    """One figure that is in both files."""

    row: str
    figure: str
    old: float
    new: float
    """`old` and `new` are as in the files."""
    worse: float
    """Factor by which it is worse, corrected for the machines' speed; below 1 it is better."""


@dataclass
class Comparison:
    """The differences between two files."""

    changes: list[Change] = field(default_factory=list)
    one_sided: list[str] = field(default_factory=list)
    """A line for each table or row that is in only one of them."""
    failed: list[str] = field(default_factory=list)
    """A line for each part that failed in the new file."""

    def beyond(self, tolerance: float) -> list[Change]:
        """Changes by more than this share, the worst first."""
        found = [c for c in self.changes if not 1 / (1 + tolerance) <= c.worse <= 1 + tolerance]
        return sorted(found, key=lambda change: -change.worse)


def compare(old: Results, new: Results) -> Comparison:
    """Compare two files of results. Rows are matched by their labels, at any position in their tables."""
    comparison = Comparison(
        failed=[f"{name}: {part['failed']}" for name, part in new["parts"].items() if "failed" in part]
    )
    for part in dict.fromkeys((*old["parts"], *new["parts"])):
        before, after = tables_of(old, part), tables_of(new, part)
        comparison.one_sided += _one_sided(part, before, after)
        for table in (name for name in before if name in after and name in FIGURES):
            old_rows, new_rows = (_by_label(FIGURES[table], tables[table]) for tables in (before, after))
            comparison.one_sided += _one_sided(table, old_rows, new_rows)
            speed = old["parts"][part]["yardstick_ms"] / new["parts"][part]["yardstick_ms"]
            for label in (label for label in old_rows if label in new_rows):
                comparison.changes += _changes(
                    f"{table}: {label}", FIGURES[table], old_rows[label], new_rows[label], speed
                )
    return comparison


def _one_sided(name: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {entry}: only in the {'old' if entry in old else 'new'} file"
        for entry in dict.fromkeys((*old, *new))
        if entry not in old or entry not in new
    ]


def _by_label(figures: Figures, rows: Rows) -> dict[str, dict[str, Any]]:
    return {", ".join(str(row[label]) for label in figures.labels if label in row): row for row in rows}


def _changes(row: str, figures: Figures, old: dict[str, Any], new: dict[str, Any], speed: float) -> Iterator[Change]:
    """Changes of one row. speed: of the new run's machine relative to the old one's."""
    for column, kind in figures.kinds.items():
        was, now = _number(old.get(column)), _number(new.get(column))
        if was is None or now is None:
            continue
        timed = {Kind.TIME: speed, Kind.SPEED: 1 / speed}.get(kind, 1.0)
        fair = now * timed
        worse = _times(fair, was) if kind in (Kind.TIME, Kind.COST) else _times(was, fair)
        yield Change(row, column, was, now, 1.0 if abs(fair - was) <= _last_place(was, now) else worse)


def _number(value: object) -> float | None:
    """The number with which a value begins, such as 66.4 in "66.4 (60.2 … 72.2)"; None if there is none."""
    found = re.match(r"-?\d+(\.\d+)?", str(value))
    return float(found[0]) if found else None


def _last_place(*values: float) -> float:
    """One unit in the last decimal place of these values: the error of rounding."""
    return min(10.0 ** -len(f"{value:g}".partition(".")[2]) for value in values)


def _times(larger: float, smaller: float) -> float:
    if smaller:
        return larger / smaller
    return math.inf if larger >= 1 else 1.0
