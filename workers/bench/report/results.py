"""The file of all results: written by `undertone bench all`, read by `report` and `compare`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from workers.console.tables import Rows  # imports PyTorch

Tables: TypeAlias = "dict[str, Rows]"
Results = dict[str, Any]
"""{"schema": 1, "taken": ISO time, "machine": {…}, "parts": {name: {"seconds", "yardstick_ms", "tables"}}}; a part
without figures has "skipped" (a missing requirement) or "failed" (an error) instead of "tables"."""


class ResultsError(Exception):
    """An invalid file of results; the message is one line."""

    exit_code, http_status = 2, 422


def write_results(results: Results, file: Path) -> None:
    """Write the file atomically."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(file)


def read_results(file: Path) -> Results:
    """Read and validate a file of results. Raises ResultsError and FileNotFoundError."""
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{file}: not JSON ({error})") from None
    if not isinstance(results, dict) or not isinstance(results.get("parts"), dict):
        raise ResultsError(f"{file}: no results of `undertone bench all`")
    if results.get("schema") != 1:
        raise ResultsError(f"{file}: schema {results.get('schema')!r}, this version reads 1")
    if not isinstance(results.get("machine"), dict) or not isinstance(results.get("taken"), str):
        raise ResultsError(f"{file}: does not say when or on what machine it was taken")
    for name, part in results["parts"].items():
        if not isinstance(part, dict) or not ({"skipped", "failed"} & set(part) or _measured(part)):
            raise ResultsError(f"{file}: part {name!r} has neither tables nor a reason")
    return results


def _measured(part: dict[str, Any]) -> bool:
    tables, unit = part.get("tables"), part.get("yardstick_ms")
    return (
        isinstance(unit, int | float)
        and unit > 0
        and isinstance(tables, dict)
        and all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in tables.values())
    )


def tables_of(results: Results, part: str) -> Tables:
    """The tables of a part; empty when it was not measured."""
    tables: Tables = results["parts"].get(part, {}).get("tables", {})
    return tables
