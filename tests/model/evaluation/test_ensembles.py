"""The study of several networks together, with the shipped ones, on MELD's dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.tables import read_table, write_table
from model.evaluation.ensembles import ensembles
from model.evaluation.lab import Lab
from model.evaluation.uncertainty import uncertainty
from model.progress import Silent


@pytest.fixture
def lab(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, dialogues = read_table(data / "meld" / "dev.csv")
    for split in ("train", "dev"):
        write_table(tmp_path / "meld" / f"{split}.csv", split, dialogues)
    return Lab(tmp_path, "meld", tmp_path / "results", 5, Silent())


@pytest.mark.data
@pytest.mark.integration
def test_the_mean_of_weights_is_no_network(lab: Lab) -> None:
    """Networks from different seeds have little in common but their shape."""
    rows = [line.split("|") for line in ensembles(lab).splitlines()[2:]]
    weighted_f1 = {row[1].strip(): float(row[3].split("±")[0]) for row in rows}
    assert weighted_f1["mean of all posteriors"] > weighted_f1["mean of all weights"] + 1
    assert weighted_f1["one network"] == pytest.approx(weighted_f1["mean of all posteriors"], abs=2)


@pytest.mark.data
@pytest.mark.integration
def test_uncertainty_has_a_row_for_each_coverage_and_rule(lab: Lab) -> None:
    sets, rules = uncertainty(lab).split("\n\n")
    assert sets.count("\n") == 7 and "| 90 %, a threshold a class |" in sets and "| disgust |" in sets
    assert [line.split("|")[1].strip() for line in rules.splitlines()[2:]] == [
        "probability of the label", "one conformal set", "a conformal threshold a class",
    ]  # fmt: skip
