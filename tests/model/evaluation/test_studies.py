"""The studies run, on a little of MELD and with the encoder as it is; what is measured is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.data.tables import read_table, write_table
from model.encoders.text import TextConfig
from model.evaluation.lab import Lab, score_reader
from model.evaluation.module_probes import alignment_alone, graph_alone
from model.evaluation.studies import grid, lookahead, multitask
from model.progress import Silent
from model.training.adapt import AdapterRecipe
from model.training.config import Network, TrainingConfig
from model.training.train import Recipe

TINY = TrainingConfig("meld", network=Network(hidden=16), recipe=Recipe(epochs=8, noise_share=0, rate=2e-3))


@pytest.fixture
def lab(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, dialogues = read_table(data / "meld" / "train.csv")
    write_table(tmp_path / "meld" / "train.csv", "train", dialogues[:30])
    write_table(tmp_path / "meld" / "dev.csv", "dev", dialogues[30:40])
    lab = Lab(tmp_path, "meld", tmp_path / "results", 1, Silent())
    lab.__dict__["config"] = TINY  # instead of the shipped one, which wants a tuned encoder
    return lab


@pytest.mark.data
@pytest.mark.integration
def test_every_study_makes_its_table(lab: Lab) -> None:
    assert "co-attention and gate; prosody of another utterance" in alignment_alone(lab)
    assert "adaptive adjacency" in graph_alone(lab)
    assert "results/multitask.svg" in multitask(lab) and (lab.out / "multitask.json").exists()
    lab.__dict__["config"] = replace(TINY, recipe=replace(TINY.recipe, epochs=1))
    assert grid(lab).count("\n") == 8
    assert "k = ∞" in lookahead(lab)
    kept = json.loads((lab.out / "grid.json").read_text())
    name = "alignment; emotion alone"
    kept[name][0]["accuracy"] = 12.34
    (lab.out / "grid.json").write_text(json.dumps(kept))
    assert f"| {name} | 12.34" in grid(lab), "a cell that was measured is not measured again"


@pytest.mark.data
@pytest.mark.integration
def test_a_reader_is_tuned_and_scored_alone(lab: Lab) -> None:
    config = replace(
        TINY,
        reader=TextConfig(context=2, tokens=32),
        adapter=AdapterRecipe(rank=2, epochs=1, sentence_epochs=0),
    )
    found = lab.measure("readers", "tiny", lambda seed: score_reader(lab, config, seed), 2)
    assert len(found) == 2 and all(0 < run["accuracy"] <= 100 for run in found)
    assert found[0] == score_reader(lab, config, 0), "the seed decides, and a tuned reader is not tuned again"
