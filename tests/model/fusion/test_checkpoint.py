from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.fusion.checkpoint import CheckpointError, load_checkpoint, load_step, save_checkpoint
from model.fusion.network import FusionGCN
from model.training.collate import collate
from tests.support.fusion import CONFIG, conversation


def test_a_saved_network_comes_back_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Modality order included, although config.json sorts its keys."""
    model = FusionGCN(CONFIG).eval()
    save_checkpoint(model, tmp_path, "# card\n", {"accuracy": 1})
    again = load_checkpoint(str(tmp_path))
    assert again.config == CONFIG
    batch = collate([conversation(0, 8)], CONFIG, [0])
    with torch.inference_mode():
        assert torch.equal(model(batch).emotion, again(batch).emotion)
    assert capsys.readouterr().out == ""
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "model.safetensors", "metrics.json", "README.md",
    }  # fmt: skip


def test_the_shipped_checkpoint_loads_and_is_small() -> None:
    model = load_checkpoint("meld")
    assert model.config.label_set == "meld"
    assert model.config.modalities == ("text", "audio")
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    assert 0.5 < float(model.temperature) < 2


def test_one_of_an_older_version_calls_labels_certain_from_a_half(tmp_path: Path) -> None:
    """It has the threshold of a conformal set instead."""
    save_checkpoint(FusionGCN(CONFIG), tmp_path, "# card\n", {})
    weights = load_file(tmp_path / "model.safetensors")
    weights["conformal_threshold"] = weights.pop("certain_from") + 0.2
    save_file(weights, tmp_path / "model.safetensors")
    assert load_step(str(tmp_path)).certain_from == float(load_checkpoint(str(tmp_path)).certain_from) == 0.5


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint 'nowhere'"):
        load_checkpoint("nowhere")
    (tmp_path / "config.json").write_text('{"hidden": 3}')
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    for load in (load_checkpoint, load_step):
        with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
            load(str(tmp_path))


def test_weights_of_another_shape_are_refused_before_the_first_utterance(tmp_path: Path) -> None:
    save_checkpoint(FusionGCN(CONFIG), tmp_path, "# card\n", {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden": 2 * CONFIG.hidden}))
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        load_step(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "experts.json").write_text('{"voice": {"weight": 1}}')
    with pytest.raises(CheckpointError, match="prior"):
        load_step(str(tmp_path))
