from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workers.bench.report.compare import compare
from workers.bench.report.figures import FIGURES
from workers.bench.report.report import markdown, write_report
from workers.bench.report.results import Results, ResultsError, read_results, write_results
from workers.cli.app import app

RESULTS: Results = {
    "schema": 1,
    "taken": "2026-01-02T03:04:05+00:00",
    "machine": {"cpu": "Abacus", "cores": 2, "memory_gb": 8.0, "gpu": None, "commit": "abc"},
    "parts": {
        "vad": {"seconds": 1.0, "skipped": "UNDERTONE_DATA is not set"},
        "asr": {
            "seconds": 2.0,
            "yardstick_ms": 1.0,
            "tables": {"asr": [{"asr": "a|b", "recordings": "x", "WER": 10.0, "times_real_time": 1500}]},
        },
        "voice": {
            "seconds": 1.0,
            "yardstick_ms": 1.0,
            "tables": {"voice": [{"encoder": "v", "clips": "c", "condition": "d", "UAR, 8 classes": "66.4 (60 … 72)"}]},
        },
        "latency": {
            "seconds": 3.0,
            "yardstick_ms": 1.0,
            "tables": {
                "latency": [
                    {"words": "transcript", "ahead": "no", "in all p50": 750, "over p50": 250, "queue": 0.1,
                     "asr": 0.0, "encode": 160.0, "graph": 2.0, "publish": 2.0},
                ]
            },
        },
        "graph": {
            "seconds": 4.0,
            "yardstick_ms": 1.0,
            "tables": {
                "graph": [
                    {"work": "step after 10", "ms, median": 0.5},
                    {"work": "step after 1,000", "ms, median": 0.5},
                    {"work": "re-run over 100", "ms, median": 10.0},
                    {"work": "one session's state, KiB", "figure": 171},
                ],
            },
        },
        "batching": {
            "seconds": 4.0,
            "yardstick_ms": 1.0,
            "tables": {"batching": [{"sessions": 1, "steps/s": 700}, {"sessions": 64, "steps/s": 5000}]},
        },
        "capacity": {
            "seconds": 4.0,
            "yardstick_ms": 1.0,
            "tables": {
                "capacity": [
                    {"words": words, "sessions": sessions, "p95": 100 * sessions, "held": "yes"}
                    for words in ("transcript", "base")
                    for sessions in (1, 2, 3)
                ]
            },
        },
        "longevity": {
            "seconds": 4.0,
            "yardstick_ms": 1.0,
            "tables": {
                "longevity": [
                    {"process": "redis", "pid": 7, "MB first third": 10.5, "MB last third": 11.0, "flat": "yes"}
                ]
            },
        },
        "novelty": {"seconds": 1.0, "yardstick_ms": 1.0, "tables": {"stars": [{"star": "Vega", "light": True}]}},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "no JSON", "[]", "{}", '{"parts": {}}', '{"schema": 2, "parts": {}}', '{"schema": 1, "parts": {}}',
        '{"schema": 1, "taken": "", "machine": {}, "parts": {"vad": {}}}',
        '{"schema": 1, "taken": "", "machine": {}, "parts": {"vad": {"yardstick_ms": 0, "tables": {}}}}',
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_one_line_and_exit_code_2(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ResultsError, match="bad.json"):
        read_results(file)
    for command in (["report", str(file)], ["compare", str(file), str(file)], ["report", str(tmp_path / "none")]):
        done = CliRunner().invoke(app, ["bench", *command])
        assert done.exit_code == 2
        assert done.stderr.startswith("undertone: ") and done.stderr.count("\n") == 1


def test_the_report_has_the_tables_and_the_plots(tmp_path: Path) -> None:
    written = write_report(RESULTS, tmp_path)
    page = (tmp_path / "BENCHMARKS.md").read_text()
    assert "2 cores of Abacus" in page
    assert "*Not measured on this machine (UNDERTONE_DATA is not set).*" in page
    assert "| a\\|b | x | 10.0 | 1,500 |" in page
    assert "| v | d | 66.4 (60 … 72) |" in page
    assert "| step after 1,000 | 0.5 |" in page
    assert "## `undertone bench novelty`" in page and "| Vega | yes |" in page, "a part that the template does not know"
    drawn = sorted(path.name for path in (tmp_path / "benchmarks").iterdir())
    assert drawn == [f"{name}.svg" for name in ("batching", "capacity", "latency", "longevity", "step")]
    assert {path.name for path in written} == {"BENCHMARKS.md", *drawn}
    for name in drawn:
        assert f"](benchmarks/{name})" in page
    text = (tmp_path / "benchmarks" / "step.svg").read_text()
    assert "DialogueGCN" in text and "the same network, re-run" in text and "<dc:date>" not in text


def test_the_same_results_make_the_same_bytes_and_old_plots_go(tmp_path: Path) -> None:
    first = {path: path.read_bytes() for path in write_report(RESULTS, tmp_path)}
    assert {path: path.read_bytes() for path in write_report(RESULTS, tmp_path)} == first
    fewer = copy.deepcopy(RESULTS)
    for part in ("graph", "batching", "capacity", "longevity"):
        del fewer["parts"][part]
    fewer["parts"]["latency"]["tables"]["latency"] = [{"of": "another version"}]
    assert [path.name for path in write_report(fewer, tmp_path)] == ["BENCHMARKS.md"]
    assert not list((tmp_path / "benchmarks").iterdir())


def test_a_table_has_a_column_for_each_key() -> None:
    rows = [{"a_b": 1, "c": None}, {"c": 1234567, "d": 0.25}]
    assert markdown(rows).splitlines() == [
        "| a b | c | d |", "| --- | --- | --- |", "| 1 |  |  |", "|  | 1,234,567 | 0.25 |",
    ]  # fmt: skip


def changed(part: str, table: str, row: int, **figures: Any) -> Results:
    results = copy.deepcopy(RESULTS)
    results["parts"][part]["tables"][table][row] |= figures
    return results


@pytest.mark.parametrize(
    "new, worse",
    [
        (changed("graph", "graph", 0, **{"ms, median": 0.7}), True),
        (changed("graph", "graph", 0, **{"ms, median": 0.3}), False),
        (changed("batching", "batching", 1, **{"steps/s": 3000}), True),
        (changed("batching", "batching", 1, **{"steps/s": 7000}), False),
        (changed("asr", "asr", 0, WER=13.0), True),
        (changed("asr", "asr", 0, WER=0.0), False),
        (changed("voice", "voice", 0, **{"UAR, 8 classes": "50.0 (40 … 60)"}), True),
        (changed("voice", "voice", 0, **{"UAR, 8 classes": "90.0 (80 … 99)"}), False),
        (changed("latency", "latency", 0, asr=9.0), True),
    ],
)
def test_a_figure_that_became_worse_is_told_and_one_that_became_better_too(new: Results, worse: bool) -> None:
    (change,) = compare(RESULTS, new).beyond(0.2)
    assert (change.worse > 1) is worse
    assert not compare(RESULTS, RESULTS).beyond(0)


def test_a_slower_machine_is_no_regression_but_more_errors_are_on_any() -> None:
    slower = copy.deepcopy(RESULTS)
    for part in slower["parts"].values():
        part["yardstick_ms"] = 2.0
        for rows in part.get("tables", {}).values():
            for row in rows:
                for key in ("ms, median", "encode", "graph"):
                    if key in row:
                        row[key] *= 2
                for key in ("steps/s", "times_real_time"):
                    if key in row:
                        row[key] /= 2
    assert not compare(RESULTS, slower).beyond(0.01)
    assert not compare(slower, RESULTS).beyond(0.01)
    slower["parts"]["asr"]["tables"]["asr"][0]["WER"] = 20.0
    assert [change.figure for change in compare(RESULTS, slower).beyond(0.2)] == ["WER"]
    same_time_on_a_faster_machine = copy.deepcopy(RESULTS)
    same_time_on_a_faster_machine["parts"]["graph"]["yardstick_ms"] = 0.5
    assert len(compare(RESULTS, same_time_on_a_faster_machine).beyond(0.2)) == 3


def test_rounding_is_no_change() -> None:
    assert not compare(RESULTS, changed("latency", "latency", 0, asr=0.1)).beyond(0.2)
    assert not compare(RESULTS, changed("latency", "latency", 0, asr=0.9)).beyond(0.2), "nothing to next to nothing"


def test_what_only_one_file_has_is_listed(tmp_path: Path) -> None:
    new = changed("graph", "graph", 1, work="step after 7")
    del new["parts"]["novelty"]
    new["parts"]["asr"] = {"seconds": 0.1, "failed": "ValueError: a slip"}
    told = compare(RESULTS, new)
    assert told.one_sided == [
        "asr: asr: only in the old file",
        "graph: step after 1,000: only in the old file",
        "graph: step after 7: only in the new file",
        "novelty: stars: only in the old file",
    ]
    assert told.failed == ["asr: ValueError: a slip"]


def test_compare_tells_by_its_exit_code(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_results(RESULTS, old)
    write_results(changed("asr", "asr", 0, WER=12.5), new)
    worse = CliRunner().invoke(app, ["bench", "compare", str(old), str(new)])
    assert worse.exit_code == 1
    assert "WER" in worse.stdout and "1.25" in worse.stdout and "1 worse, 0 better" in worse.stdout
    listed = CliRunner().invoke(app, ["bench", "compare", str(old), str(new), "--json"])
    (change,) = json.loads(listed.stdout)["changes"]
    assert listed.exit_code == 1 and change["figure"] == "WER" and change["worse"] == pytest.approx(1.25)
    assert CliRunner().invoke(app, ["bench", "compare", str(old), str(new), "--tolerance", "0.3"]).exit_code == 0
    better = CliRunner().invoke(app, ["bench", "compare", str(new), str(old), "--tolerance", "0.1"])
    assert better.exit_code == 0 and "0 worse, 1 better" in better.stdout


def test_labels_are_no_figures() -> None:
    for name, figures in FIGURES.items():
        assert figures.labels and not set(figures.labels) & set(figures.kinds), name
