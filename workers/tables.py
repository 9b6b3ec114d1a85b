"""Reports of training, for a person."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from model.card import NAMES


def train_table(report: dict[str, Any]) -> Table:
    """The report of `model.experiment.train_command`."""
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
