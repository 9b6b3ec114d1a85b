"""Training for real, on little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model import baselines, metrics
from model.tables import read_table
from model.train import Recipe, configure, fit_prior, predict, prepare, train


def quiet(message: str) -> None:
    pass


@pytest.mark.data
def test_training_learns_and_repeats(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few epochs on a sixth of MELD beat the majority class clearly, and a seed gives the same network twice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    labels, dialogues = read_table(data / "meld" / "train.csv")
    training, validation = dialogues[:160], dialogues[160:200]
    prior = fit_prior(training)
    config = configure(labels, prior, hidden=32)
    train_set, dev_set = (prepare(part, labels, prior, config.window, quiet) for part in (training, validation))
    assert list(tmp_path.glob("undertone/text-*.npy")), "embeddings are cached"
    messages: list[str] = []
    recipe = Recipe(epochs=6, rate=2e-3)
    model = train(config, recipe, train_set, dev_set, 0, messages.append)
    truth = np.concatenate(dev_set.emotion)
    score = metrics.weighted_f1(truth, predict(model, dev_set).argmax(1), 7)
    floor = metrics.weighted_f1(truth, baselines.majority(training, validation, labels), 7)
    assert score > floor + 0.08
    assert "alignment" in messages[0] and "validation weighted F1" in messages[0]
    again = train(config, recipe, train_set, dev_set, 0, quiet)
    assert np.allclose(predict(model, dev_set), predict(again, dev_set), atol=1e-6)
    assert np.allclose(model.sentiment_given_emotion.sum(1), 1, atol=1e-5)
    text_only = predict(model, dev_set, hidden=("audio",))
    assert not np.allclose(text_only, predict(model, dev_set))


@pytest.mark.data
def test_the_shipped_checkpoint_scores_what_its_card_says(data: Path) -> None:
    import json

    from model.checkpoint import resolve
    from workers.experiments import evaluate_command

    stored = json.loads((resolve("meld") / "metrics.json").read_text())["shipped"]
    report = evaluate_command("meld", data / "meld" / "dev.csv", quiet)
    for name in ("accuracy", "weighted_f1"):
        assert report["provisional"][name] == pytest.approx(stored[name], abs=0.3)
