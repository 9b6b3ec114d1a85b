"""`undertone bench report`: BENCHMARKS.md with its plots, from a file of results."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from workers.bench.report.plots import PLOTS, PUBLISHED_LENGTHS, PUBLISHED_MS, svg
from workers.bench.report.results import Results, tables_of

if TYPE_CHECKING:
    from workers.console.tables import Rows

TEMPLATE = "BENCHMARKS.md.j2"
GPU, PAGE = "gpu.json", "page.json"  # what deploy/gpu_check.py and deploy/page_check.py wrote
PLOTTED = "benchmarks"  # the plots' folder, beside the page


def write_report(results: Results, folder: Path) -> list[Path]:
    """Write folder/BENCHMARKS.md and folder/benchmarks/*.svg, identical for identical results. Returns the written
    files."""
    (folder / PLOTTED).mkdir(parents=True, exist_ok=True)
    page = _Page(results, folder)
    # The page is Markdown, of figures that were measured here.
    environment = Environment(  # noqa: S701
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    calls = {"table": page.table, "tables": page.tables, "plot": page.plot, "others": page.others}
    checked = {
        name: json.loads(files("workers.bench.report").joinpath(file).read_text(encoding="utf-8"))
        for name, file in {"gpu": GPU, "page": PAGE}.items()
    }
    environment.globals |= calls | checked | {"markdown": markdown}
    template = environment.from_string(files("workers.bench.report").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    elsewhere: Rows = [
        {"model": name} | {f"after {n}": ms for n, ms in zip(PUBLISHED_LENGTHS, taken, strict=True)}
        for name, taken in PUBLISHED_MS.items()
    ]
    text = template.render(machine=results["machine"], taken=results["taken"][:10], elsewhere=elsewhere)
    file = folder / "BENCHMARKS.md"
    file.write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")
    return [file, *page.drawn]


class _Page:
    """Functions that the template calls."""

    def __init__(self, results: Results, folder: Path) -> None:
        self._results, self._folder = results, folder
        self._shown: set[str] = set()
        self.drawn: list[Path] = []

    def table(self, part: str, name: str, *without: str) -> str:
        """A table in Markdown without some columns; or a line with the reason for its absence."""
        self._shown.add(part)
        rows = tables_of(self._results, part).get(name)
        if rows:
            return markdown([{key: row[key] for key in row if key not in without} for row in rows])
        entry: dict[str, str] = self._results["parts"].get(part, {})
        reason = entry.get("skipped") or entry.get("failed")
        return f"*Not measured on this machine{f' ({reason})' if reason else ''}.*"

    def tables(self, part: str) -> str:
        """All tables of a part; or a line with the reason for their absence."""
        names = tables_of(self._results, part) or [part]
        return "\n\n".join(self.table(part, name) for name in names)

    def plot(self, name: str) -> str:
        """An image in Markdown; empty when its table was not measured."""
        plot, file = PLOTS[name], self._folder / PLOTTED / f"{name}.svg"
        rows = tables_of(self._results, plot.part).get(plot.table, [])
        drawing = svg(plot, rows)
        if drawing is None:
            file.unlink(missing_ok=True)
            return ""
        file.write_text(drawing, encoding="utf-8")
        self.drawn.append(file)
        return f"![{plot.title}]({PLOTTED}/{name}.svg)"

    def others(self) -> list[str]:
        """Parts that the template has not shown up to here."""
        return [part for part in self._results["parts"] if part not in self._shown]


def markdown(rows: Rows) -> str:
    """A Markdown table with a column for each key of any row; empty cells for missing keys."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[column.replace("_", " ") for column in columns], ["---" for _ in columns]]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and value >= 1000:
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")
