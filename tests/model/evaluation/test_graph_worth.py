"""The study of the graph's worth: its score, and its table of a tiny corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from model.data.tables import read_table, write_table
from model.evaluation import graph_worth
from model.evaluation.lab import Lab
from model.progress import Silent


def test_weighted_f1_of_confusions_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(4, size=(2, 3, 200))
    confusions = np.array([confusion_matrix(t, g, labels=range(5)) for t, g in zip(truth, guess, strict=True)])
    expected = [100 * f1_score(t, g, average="weighted", zero_division=0) for t, g in zip(truth, guess, strict=True)]
    assert graph_worth.weighted_f1(confusions.astype(float)) == pytest.approx(expected)


@pytest.mark.data
@pytest.mark.integration
def test_each_condition_has_its_row(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, dialogues = read_table(data / "emorynlp" / "train.csv")
    write_table(tmp_path / "emorynlp" / "train.csv", "train", dialogues[:12])
    write_table(tmp_path / "emorynlp" / "dev.csv", "dev", dialogues[12:24])
    text = graph_worth.graph_worth(Lab(tmp_path, "meld", tmp_path / "results", 1, Silent()), "emorynlp")
    rows = [line.split("|") for line in text.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == [
        "all", "15 % wrong words", "half of the words missing", "20 % wrong speakers", "without the reader",
        "10 or more utterances before", "4 or more speakers",
    ]  # fmt: skip
    for row in rows:
        assert float(row[2]) - float(row[3]) == pytest.approx(float(row[4].split("(")[0]), abs=0.011)
