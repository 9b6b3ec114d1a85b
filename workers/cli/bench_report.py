"""The commands about all benchmarks together: run them, report them, compare two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.console.errors import RUNTIME, USAGE, fail, one_line_errors
from workers.console.options import comma_separated
from workers.console.terminal import Terminal, print_json


def register(bench: typer.Typer) -> None:
    """Add these commands to `undertone bench`."""
    bench.command("all")(all_)
    bench.command()(report)
    bench.command()(compare)


def all_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of results.")] = Path("bench.json"),
    only: Annotated[str, typer.Option(help="These benchmarks, comma-separated. [default: all]")] = "",
    without: Annotated[str, typer.Option("--except", help="Not these, comma-separated.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The results on stdout, too.")] = False,
) -> None:
    """Run every benchmark and write one file of results.

    The file (JSON) is written anew after each, so Ctrl-C keeps what is done. What cannot run here (no data, a package
    that is not installed) is skipped, and the file says why. Exit code 1 when one failed.
    """
    import signal

    # Whoever ends us ends the benchmark that runs in a process of its own, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        import json
        from functools import partial

        from workers.bench.report.results import write_results
        from workers.bench.report.suite import chosen, run_all
        from workers.console.progress import console_progress

        try:
            parts = chosen(comma_separated(only), comma_separated(without))
        except ValueError as error:
            raise fail(error, USAGE) from None
        if not file.parent.is_dir():
            raise fail(f"{file.parent}: no such folder", USAGE)
        with console_progress() as progress:
            results = run_all(parts, progress, partial(write_results, file=file))
            progress.tell(f"written to {file}")
        if as_json:
            print_json(json.dumps(results, indent=1, ensure_ascii=False))
        if any("failed" in part for part in results["parts"].values()):
            raise typer.Exit(RUNTIME)


def report(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of `undertone bench all`.")] = Path("bench.json"),
    out: Annotated[Path, typer.Option(help="Folder for BENCHMARKS.md and benchmarks/*.svg.")] = Path("deploy"),
) -> None:
    """Write a file of results as BENCHMARKS.md, with tables and plots."""
    with one_line_errors():
        from workers.bench.report.report import write_report
        from workers.bench.report.results import read_results

        for written in write_report(read_results(file), out):
            print(written)


def compare(
    old: Annotated[Path, typer.Argument(help="A file of `undertone bench all`.")],
    new: Annotated[Path, typer.Argument(help="A later one.")],
    tolerance: Annotated[float, typer.Option(min=0, help="The share by which a figure may change: 0.2 = 20 %.")] = 0.2,
) -> None:
    """Tell what became better or worse between two runs; exit code 1 when something became worse.

    Times are compared in the time that the same fixed piece of work took on that machine at that moment, so that a
    slower machine is no regression; errors, scores and memory as they are.
    """
    with one_line_errors():
        from workers.bench.report.compare import compare as compare_results
        from workers.bench.report.results import read_results
        from workers.console.tables import rows_table

        told = compare_results(read_results(old), read_results(new))
        changes = told.beyond(tolerance)
        console = Terminal()
        if changes:
            rows = [
                {
                    "": "worse" if change.worse > 1 else "better",
                    "row": change.row,
                    "figure": change.figure,
                    "old": change.old,
                    "new": change.new,
                    "× as bad": f"{change.worse:.2f}",
                }
                for change in changes
            ]
            console.print(rows_table(f"Changed by more than {100 * tolerance:.0f} %", rows))
        for line in (*(f"failed: {line}" for line in told.failed), *told.one_sided):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        worse = sum(change.worse > 1 for change in changes)
        print(f"{len(told.changes)} figures: {worse} worse, {len(changes) - worse} better")
        if worse or told.failed:
            raise typer.Exit(RUNTIME)
