"""Reports of training, for a person."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from model.metrics import NAMES

Rows = list[dict[str, Any]]


def rows_table(title: str, rows: Rows) -> Table:
    """Rows that share their keys (missing ones stay empty), for a person: numbers to the right."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        words = any(isinstance(row.get(column), str) for row in rows)
        table.add_column(column.replace("_", " "), justify="left" if words else "right")
    for row in rows:
        table.add_row(*(Text(str(row.get(column, ""))) for column in columns))
    return table


def train_table(report: dict[str, Any]) -> Table:
    """The report of `model.training.experiment.train_command`."""
    title = Text(f"{report['data']}, {report['seeds']} seeds, dev (selected on it)")
    table = Table(title=title, title_justify="left")
    for column in ("", *NAMES.values()):
        table.add_column(column, justify="left" if not column else "right")
    for title_, key in (("as the speaker stops", "provisional"), ("final", "final")):
        cells = [f"{report[key][name]['mean']:.2f} ± {report[key][name]['half_width_95']:.2f}" for name in NAMES]
        table.add_row(f"fusion-GCN, {title_}", *cells)
    for name, values in report.get("baselines", {}).items():
        table.add_row(name, *(f"{values[n]:.2f}" if n in values else "" for n in NAMES))
    return table
