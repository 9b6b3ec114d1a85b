"""Training for real, on little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from model.data.tables import read_table, write_table
from model.encoders.text import ContextReader, TextConfig, Tuned
from model.evaluation.evaluation import evaluate
from model.fusion.checkpoint import CheckpointError, networks_of
from model.fusion.network import FusionGCN
from model.progress import Silent
from model.training import baselines
from model.training.adapt import AdapterRecipe
from model.training.config import ConfigError, Network, TrainingConfig, leave_out
from model.training.examples import read_conversations
from model.training.experiment import configure, train_command, views
from model.training.prepared import prepare, so_far
from model.training.teaching import Teaching, teach
from model.training.train import Recipe, _draw_epoch, _losses, batches, predict, train
from tests.support.small_corpus import CONFIG, small_table

TINY = TrainingConfig("meld", seeds=2, network=Network(hidden=32), recipe=Recipe(epochs=6, rate=2e-3))


class Recorder(Silent):
    def __init__(self) -> None:
        self.curves: list[dict[str, float]] = []
        self.told: list[str] = []

    def tell(self, message: str) -> None:
        self.told.append(message)

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        self.curves.append(values)


@pytest.mark.data
@pytest.mark.integration
def test_training_learns_and_repeats(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few epochs on a sixth of MELD beat the majority class clearly, and a seed gives the same network twice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    labels, dialogues = read_table(data / "meld" / "train.csv")
    training, validation = dialogues[:160], dialogues[160:200]
    config = configure(TINY, labels, training)
    train_views = views(training, labels, config, Tuned(), TINY.recipe, Silent())
    assert len(train_views) == 2
    dev = prepare(validation, labels, config, Tuned(), Silent())
    assert list(tmp_path.glob("undertone/text-*.npy")), "embeddings are cached"
    recorder = Recorder()
    model = train(config, TINY.recipe, train_views, dev, 0, recorder)
    score = f1_score(dev.truth, predict(model, dev).argmax(1), average="weighted", zero_division=0)
    majority = baselines.majority(training, validation, labels)
    floor = f1_score(dev.truth, majority, average="weighted", zero_division=0)
    assert score > floor + 0.08
    assert recorder.curves[-1]["emotion loss"] < recorder.curves[0]["emotion loss"]
    assert "alignment loss" in recorder.curves[0]
    again = train(config, TINY.recipe, train_views, dev, 0, Silent())
    assert np.allclose(predict(model, dev), predict(again, dev), atol=1e-6)
    assert np.allclose(model.sentiment_given_emotion.sum(1), 1, atol=1e-5)


@pytest.mark.data
@pytest.mark.integration
def test_dialogues_are_drawn_from_the_views_by_their_shares(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written, with noise, and as a recognizer writes: the network is told which words were recognized."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = replace(TINY, text=TextConfig(recognized=True), recipe=replace(TINY.recipe, rewritten_share=0.5))
    labels, dialogues = read_table(data / "meld" / "train.csv")
    training = dialogues[:100]
    config = configure(run, labels, training)
    seen = views(training, labels, config, Tuned(), run.recipe, Silent())
    utterances = [[one for each in view.conversations for one in each if "text" in one.features] for view in seen]
    told = [{one.features["text"][-1] for one in each} for each in utterances]
    assert told == [{0.0}, {0.0}, {1.0}]
    drawn, _ = _draw_epoch(seen, run.recipe, np.random.default_rng(0))
    shares = [np.mean([own is one for own, one in zip(view.conversations, drawn.conversations, strict=True)])
              for view in seen]  # fmt: skip
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.15)
    alone = replace(run.recipe, noise_share=0.0)
    drawn, _ = _draw_epoch([seen[0], seen[2]], alone, np.random.default_rng(0))
    told = [conversation[0].features["text"][-1] for conversation in drawn.conversations]
    assert np.mean(told) == pytest.approx(0.5, abs=0.15), "the second view is the rewritten one where there is no noise"
    plain = leave_out(run, ["noise"]).recipe
    assert len(views(training, labels, config, Tuned(), plain, Silent())) == 1


@pytest.mark.data
@pytest.mark.integration
def test_readers_of_several_seeds_are_kept_and_teach(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is served; a taught reader learns from the mean of both."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    labels, dialogues = read_table(data / "meld" / "train.csv")
    write_table(tmp_path / "train.csv", "train", dialogues[:12])
    write_table(tmp_path / "dev.csv", "dev", dialogues[12:24])
    adapter = AdapterRecipe(rank=2, epochs=1, sentence_epochs=0, reader_seeds=(1, 0))
    run = replace(TINY, seeds=1, reader=TextConfig(context=2, tokens=32), adapter=adapter)
    run = replace(run, recipe=replace(TINY.recipe, epochs=1, noise_share=0))
    train_command(run, tmp_path, tmp_path / "teacher", None, False, Silent())
    work, served = tmp_path / "teacher" / "work", tmp_path / "teacher" / "reader" / "head.safetensors"
    other = tmp_path / "teacher" / "seeds" / "reader-0" / "head.safetensors"
    assert served.read_bytes() == (work / "reader-1" / "best" / "head.safetensors").read_bytes() != other.read_bytes()

    def said(reader: Path) -> np.ndarray:
        return ContextReader(run.reader, reader)(so_far(dialogues[:12], 2))  # type: ignore[arg-type]

    taught = teach(Teaching((str(tmp_path / "teacher"),), sentences=0), labels, dialogues[:12], [], Silent())
    assert np.allclose(taught.posterior, (said(served.parent) + said(other.parent)) / 2, atol=1e-4)


@pytest.mark.data
@pytest.mark.integration
def test_what_teaches_is_trained_first_and_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration as teacher: the networks of its seeds say what is learnt, also after an interruption."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, dialogues = read_table(data / "meld" / "train.csv")
    write_table(tmp_path / "train.csv", "train", dialogues[:20])
    write_table(tmp_path / "dev.csv", "dev", dialogues[20:30])
    (tmp_path / "labels.toml").write_text(
        'data = "here"\nseeds = 2\n[network]\nhidden = 16\n[recipe]\nepochs = 1\nnoise_share = 0.0\n'
    )
    teaching = Teaching(configuration=str(tmp_path / "labels.toml"), who="networks", share=1.0, sentences=0)
    run = replace(TINY, seeds=1, teacher=teaching, recipe=replace(TINY.recipe, epochs=1, noise_share=0))
    out, first, again = tmp_path / "checkpoint", Recorder(), Recorder()
    train_command(run, tmp_path, out, None, False, first)
    assert [line[:6] for line in first.told if line.startswith(("first", "seed"))] == [
        "first ",
        "seed 0",
        "seed 1",
        "seed 0",
    ]
    assert len(networks_of(str(out / "work" / "teacher"))) == 2
    for trained in out.glob("work/seed-*"):
        trained.unlink()
    train_command(run, tmp_path, out, None, False, again)
    assert [line[:6] for line in again.told if line.startswith(("first", "seed"))] == ["seed 0"]
    card = " ".join((out / "README.md").read_text().split())
    assert f"What is learnt is what the networks of {tmp_path / 'labels.toml'} say." in card
    (tmp_path / "labels.toml").write_text(f'data = "here"\n[teacher]\nconfiguration = "{tmp_path / "labels.toml"}"\n')
    with pytest.raises(ConfigError, match="cannot teach: it is taught by a configuration itself"):
        train_command(run, tmp_path, tmp_path / "round", None, False, Silent())


@pytest.mark.data
@pytest.mark.integration
def test_a_run_is_resumed_and_its_checkpoint_evaluates(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`undertone train` end to end on little: interrupted after a seed, it goes on with the next one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, dialogues = read_table(data / "meld" / "train.csv")
    write_table(tmp_path / "train.csv", "train", dialogues[:60])
    write_table(tmp_path / "dev.csv", "dev", dialogues[60:80])
    run = replace(TINY, recipe=replace(TINY.recipe, epochs=2, noise_share=0))
    out = tmp_path / "checkpoint"

    class Interrupting(Recorder):
        def tell(self, message: str) -> None:
            super().tell(message)
            if message.startswith("seed 1"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_command(run, tmp_path, out, None, False, Interrupting())
    second = Recorder()
    report = train_command(run, tmp_path, out, None, True, second)
    assert not any(line.startswith("seed 0") for line in second.told) and second.told[0].startswith("seed 1")
    assert len(report["runs"]) == 2 and report["provisional"]["accuracy"]["half_width_95"] >= 0
    assert {"majority", "tfidf_past_six"} == set(report["baselines"])
    card = (out / "README.md").read_text()
    assert "must not be used for" in card and "GPL-3.0" in card
    assert json.loads((out / "metrics.json").read_text())["shipped"] == report["shipped"]
    scored = evaluate(str(out), tmp_path / "dev.csv", Silent(), full=False)
    assert json.dumps(scored)
    with pytest.raises(CheckpointError, match="other settings"):
        train_command(leave_out(run, ["gate"]), tmp_path, out, None, False, Silent())


@torch.no_grad()
def test_context_changes_no_loss_and_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the labels of context would have been: the loss is that of the labelled utterances alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    labels, dialogues = read_table(small_table(tmp_path))
    thinned = [
        replace(one, rows=[row if n == 3 else replace(row, emotion="", sentiment="") for n, row in enumerate(one.rows)])
        for one in dialogues
    ]
    prepared = prepare(thinned, labels, CONFIG, Tuned(), Silent())
    recipe = Recipe(epochs=1)
    model, weight = FusionGCN(CONFIG).eval(), torch.ones(len(labels.emotions))
    ((utterances, emotion, sentiment),) = batches(prepared, CONFIG, [np.arange(6)], torch.device("cpu"))
    losses = _losses(model, recipe, utterances, emotion, sentiment, weight)
    logits = model(utterances).emotion[:, 3]
    alone = torch.nn.functional.cross_entropy(logits, emotion[:, 3], weight, label_smoothing=recipe.label_smoothing)
    assert float(losses["emotion"]) == pytest.approx(float(alone), abs=1e-5)
    assert all(torch.isfinite(term) for term in losses.values())
    examples = read_conversations(thinned, labels, 2)
    assert len(examples.lines) == len(examples.target) == 6 and all(len(lines) == 3 for lines in examples.lines)
    assert len(baselines.majority(thinned, thinned, labels)) == 6
    taught = replace(prepared, target=[np.eye(7, dtype=np.float32)[np.maximum(each, 0)] for each in prepared.emotion])
    ((utterances, target, sentiment),) = batches(taught, CONFIG, [np.arange(6)], torch.device("cpu"))
    losses = _losses(model, recipe, utterances, target, sentiment, weight)
    assert float(losses["emotion"]) == pytest.approx(float(alone), abs=1e-5)
