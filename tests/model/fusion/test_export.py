"""The exported step against the network itself: ablations, sizes of batches, eviction, restart; whose export it is."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.fusion.checkpoint import SHIPPED, load_checkpoint, load_step, save_checkpoint, shipped
from model.fusion.config import MODULES
from model.fusion.export import export
from model.fusion.incremental import IncrementalLabeller
from model.fusion.network import FusionGCN
from model.fusion.onnx_engine import OnnxEngine
from model.fusion.step import FusionStep
from model.fusion.step_network import step_of, torch_engine
from tests.support.fusion import CONFIG, close, conversation, random_network

pytestmark = pytest.mark.integration


def exported(config, folder: Path) -> tuple[FusionStep, FusionStep]:
    """One network by PyTorch and by ONNX Runtime."""
    network = random_network(config)
    save_checkpoint(network, folder, "", {})
    export(network, folder)
    return step_of(network), load_step(str(folder))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[FusionStep, FusionStep]:
    return exported(CONFIG, tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize("left_out", [(), *((module,) for module in MODULES), MODULES])
def test_every_ablation_is_the_same_network(left_out: tuple[str, ...], tmp_path: Path) -> None:
    """Through eviction, with previews between, and for the labels that the end owes."""
    torch_step, onnx_step = exported(replace(CONFIG, without=left_out), tmp_path)
    assert not isinstance(torch_step._engine, OnnxEngine) and isinstance(onnx_step._engine, OnnxEngine)
    one, other = IncrementalLabeller(torch_step), IncrementalLabeller(onnx_step)
    states = one.new_state(), other.new_state()
    for n, spoken in enumerate(conversation(5, 3 * CONFIG.window)):
        if n % 3 == 0:
            previews = [each.step([s], [spoken], commit=False)[0] for each, s in zip((one, other), states, strict=True)]
            assert close(previews[0].prediction, previews[1].prediction)
        mine, theirs = (each.step([state], [spoken])[0] for each, state in zip((one, other), states, strict=True))
        assert close(mine.prediction, theirs.prediction) and close(mine.final, theirs.final)
        assert np.abs(mine.row.values - theirs.row.values).max() < 1e-4
    ends = zip(one.finish(states[0]), other.finish(states[1]), strict=True)
    assert all(close(mine, theirs) for mine, theirs in ends)


@pytest.mark.parametrize("sessions", [1, 2, 7, 64])
def test_a_batch_of_any_size_is_the_same(pair: tuple[FusionStep, FusionStep], sessions: int) -> None:
    one, other = (IncrementalLabeller(each) for each in pair)
    spoken = [conversation(n, 14) for n in range(sessions)]
    alone = []
    for utterances in spoken:
        state = one.new_state()
        alone.append([one.step([state], [utterance])[0] for utterance in utterances])
    states = [other.new_state() for _ in spoken]
    for n in range(14):
        steps = other.step(states, [utterances[n] for utterances in spoken])
        for b, step in enumerate(steps):
            assert close(step.prediction, alone[b][n].prediction) and close(step.final, alone[b][n].final)


@pytest.mark.parametrize("position", [1, CONFIG.window - 1, CONFIG.window, 17])
def test_a_restart_takes_rows_of_the_other_engine(pair: tuple[FusionStep, FusionStep], position: int) -> None:
    one, other = (IncrementalLabeller(each) for each in pair)
    spoken, state = conversation(9, 20), one.new_state()
    undisturbed = [one.step([state], [utterance])[0] for utterance in spoken]
    restored = other.restore([step.row for step in undisturbed[:position][-CONFIG.window :]])
    after = [other.step([restored], [utterance])[0] for utterance in spoken[position:]]
    assert all(close(a.prediction, b.prediction) for a, b in zip(after, undisturbed[position:], strict=True))
    assert all(close(a.final, b.final) for a, b in zip(after, undisturbed[position:], strict=True))


@pytest.mark.parametrize("name", shipped())
def test_what_is_shipped_is_exported_from_what_is_shipped(name: str) -> None:
    step = load_step(name)
    assert isinstance(step._engine, OnnxEngine)
    torch_step = FusionStep(
        step.config, {**load_checkpoint(name).weights(), **step.experts}, torch_engine(load_checkpoint(name))
    )
    rng, config = np.random.default_rng(0), step.config
    one, other = IncrementalLabeller(torch_step), IncrementalLabeller(step)
    states = one.new_state(), other.new_state()
    for spoken in conversation(1, 2 * config.window):
        features = {key: rng.normal(size=width).astype(np.float32) for key, width in config.inputs.items()}
        spoken = replace(spoken, features=features, expert_posteriors={})
        mine, theirs = (each.step([s], [spoken])[0] for each, s in zip((one, other), states, strict=True))
        assert close(mine.prediction, theirs.prediction) and close(mine.final, theirs.final)


def test_an_export_of_other_weights_is_not_taken(
    pair: tuple[FusionStep, FusionStep], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """PyTorch takes its place, and a line says so."""
    network = FusionGCN(CONFIG).eval()
    save_checkpoint(network, tmp_path, "", {})
    export(network, tmp_path)
    network.pool.bias.data += 1
    save_checkpoint(network, tmp_path, "", {})
    with caplog.at_level(logging.WARNING):
        step = load_step(str(tmp_path))
    assert not isinstance(step._engine, OnnxEngine) and "undertone models export" in caplog.text


def test_labelling_by_an_export_loads_no_pytorch(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "meld", tmp_path / "meld", ignore=shutil.ignore_patterns("seeds", "reader", "adapter"))
    code = (
        "import sys; from model.fusion.checkpoint import load_step;"
        "from model.fusion.dialogue import UtteranceFeatures;"
        f"step = load_step({str(tmp_path / 'meld')!r}); step.step([step.new_state()], [UtteranceFeatures({{}}, 0)]);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
