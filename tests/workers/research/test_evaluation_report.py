"""The page, the JSON and the table of an evaluation, and the figure of a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.evaluation.evaluation import evaluate
from model.progress import Silent
from tests.support.small_corpus import EMOTIONS, small_table, untrained_checkpoint
from workers.research.evaluation_report import CURVES, evaluation_table, write_learning_curves, write_report


def test_the_page_has_every_section_and_needs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    report = evaluate(untrained_checkpoint(tmp_path), small_table(tmp_path), Silent())
    figures = {"accuracy": 50.0, "weighted_f1": 40.0, "macro_f1": 30.0}
    report |= {name: [{x: 0, **figures}, {x: 1, **figures}] for name, x, _, _ in CURVES}
    report["subsets"] = [{"modalities": ["text", "audio"], **figures}]
    write_report(report, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<svg") == 2 + len(CURVES) == 7 and "text, audio" in page
    assert "http-equiv" not in page and "<script" not in page
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report
    assert evaluation_table(report).row_count == 5 + len(EMOTIONS)


def test_the_learning_curves_of_a_study_are_drawn(tmp_path: Path) -> None:
    runs = [{f"epoch {n + 1}": 10.0 * n + seed for n in range(4)} for seed in range(3)]
    (tmp_path / "multitask.json").write_text(json.dumps({"emotion alone": runs, "emotion and sentiment": runs}))
    write_learning_curves(tmp_path)
    drawing = (tmp_path / "multitask.svg").read_text()
    assert "emotion and sentiment" in drawing and "epoch" in drawing
