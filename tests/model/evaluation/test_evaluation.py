"""The evaluation report: every section, on a small table and a network that was never trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data.tables import Dialogue, Row, read_table, write_table
from model.encoders.text import Tuned
from model.evaluation.evaluation import by_position, by_speakers, evaluate, shifts, with_missing, without_modalities
from model.fusion.checkpoint import CheckpointError, resolve
from model.fusion.network import FusionGCN
from model.progress import Silent
from model.training.noise import mishear, with_wrong_speakers
from model.training.prepared import prepare
from model.training.train import predict
from tests.support.small_corpus import CONFIG, EMOTIONS, small_table, untrained_checkpoint


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return small_table(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return untrained_checkpoint(tmp_path)


def test_the_full_report(table: Path, checkpoint: str) -> None:
    report = evaluate(checkpoint, table, Silent(), full=True)
    assert json.loads(json.dumps(report)) == report
    low, high = report["provisional"]["accuracy_95"]
    assert low <= report["provisional"]["accuracy"] <= high
    assert np.sum(report["confusion"]) == report["utterances"] == 42
    assert sum(c["support"] for c in report["per_class"].values()) == 42
    assert [point["k"] for point in report["lookahead"]] == ["0", "1", "2", "4", "∞"]
    assert report["lookahead"][0]["accuracy"] == report["provisional"]["accuracy"]
    assert report["window"][-1]["accuracy"] == report["provisional"]["accuracy"]
    assert [s["modalities"] for s in report["subsets"]] == [["text"], ["audio"], ["text", "audio"]]
    assert [m["rate"] for m in report["missing"]][-1] == 0.7 and len(report["word_errors"]) == 7
    assert set(report["calibration"]) == {"winning class", *EMOTIONS}


def test_what_is_withheld_is_as_if_it_had_never_been(table: Path, checkpoint: str) -> None:
    labels, dialogues = read_table(table)
    data = prepare(dialogues, labels, CONFIG, Tuned(), Silent())
    text = without_modalities(data, {"audio"})
    assert all(set(one.features) == {"text"} for conversation in text.conversations for one in conversation)
    posteriors = {"reader": np.ones(len(EMOTIONS), np.float32)}
    data.conversations[0][0] = replace(data.conversations[0][0], expert_posteriors=posteriors)
    assert without_modalities(data, {"audio"}).conversations[0][0].expert_posteriors
    wordless = without_modalities(data, {"text"}).conversations[0][0]
    assert not wordless.expert_posteriors, "a reader without words has no posterior"
    thin = with_missing(data, CONFIG.modalities, 0.7, 0)
    left = [len(one.features) for conversation in thin.conversations for one in conversation]
    assert min(left) == 1 and np.mean(left) < 1.5
    model = FusionGCN(CONFIG).eval()
    assert np.allclose(predict(model, with_missing(data, CONFIG.modalities, 0.0, 0)), predict(model, data))


def test_shifts_are_against_the_same_speakers_last_utterance() -> None:
    said = [("A", "joy"), ("B", "anger"), ("A", "joy"), ("B", "joy"), ("A", "fear")]
    dialogue = Dialogue("1", [Row(speaker, "", emotion, "neutral", None) for speaker, emotion in said])
    outcome = shifts([dialogue], np.array([0, 1, 0, 0, 2]), np.array([0, 0, 0, 0, 0]))
    assert outcome["no shift"] == {"utterances": 1, "accuracy": 100.0, "weighted_f1": 100.0}
    assert outcome["shift"]["utterances"] == 2 and outcome["shift"]["accuracy"] == 50.0


def test_context_is_read_and_not_scored(table: Path, checkpoint: str, tmp_path: Path) -> None:
    """Labels are taken from all but two utterances of each dialogue: those two are labelled as before, and scored."""
    labels, dialogues = read_table(table)
    thinned = [
        replace(
            one, rows=[row if n in (2, 6) else replace(row, emotion="", sentiment="") for n, row in enumerate(one.rows)]
        )
        for one in dialogues
    ]
    chosen = np.array([n in (2, 6) for _ in dialogues for n in range(7)])
    whole, thin = (prepare(each, labels, CONFIG, Tuned(), Silent()) for each in (dialogues, thinned))
    model = FusionGCN(CONFIG).eval()
    for revised in (False, True):
        assert np.array_equal(predict(model, thin, revised), predict(model, whole, revised)[chosen])
    assert thin.truth.tolist() == whole.truth[chosen].tolist()
    assert thin.dialogue.tolist() == [d for d in range(6) for _ in range(2)]
    write_table(tmp_path / "thin.csv", "dev", thinned)
    report = evaluate(checkpoint, tmp_path / "thin.csv", Silent(), full=True)
    assert np.sum(report["confusion"]) == report["utterances"] == 12
    assert sum(group["utterances"] for group in report["position"].values()) == 12
    assert sum(group["utterances"] for group in report["speakers"].values()) == 12
    assert report["shift"] == {}, "the speaker's utterance before is context each time"


def test_groups_by_position_and_by_speakers() -> None:
    def dialogue(speakers: str) -> Dialogue:
        return Dialogue(speakers, [Row(name, "Well.", "neutral", "neutral", None) for name in speakers])

    dialogues = [dialogue("A"), dialogue("ABCDEABCDEAB")]
    truth, guess = np.zeros(13, int), np.array([1] + [0] * 12)
    assert by_speakers(dialogues, truth, guess) == {
        "1": {"utterances": 1, "accuracy": 0.0, "weighted_f1": 0.0},
        "4 and more": {"utterances": 12, "accuracy": 100.0, "weighted_f1": 100.0},
    }
    positions = by_position(dialogues, truth, guess)
    assert {name: group["utterances"] for name, group in positions.items()} == {
        "none": 2, "1 to 3": 3, "4 to 9": 6, "10 and more": 2,
    }  # fmt: skip
    assert positions["none"]["accuracy"] == 50.0


def test_another_label_set_is_refused(table: Path, checkpoint: str) -> None:
    table.write_text(table.read_text().replace("joy", "joyful").replace("disgust", "mad"))
    with pytest.raises((CheckpointError, ValueError), match="label"):
        evaluate(checkpoint, table, Silent())


def test_noise_is_as_strong_as_it_says() -> None:
    rng = np.random.default_rng(0)
    words = " ".join(f"w{n}" for n in range(4000))
    noisy = mishear(words, 0.2, ["x"], rng).split()
    correct = sum(word != "x" for word in noisy)
    assert 1 - correct / 4000 == pytest.approx(0.85 * 0.2, abs=0.02)
    dialogue = Dialogue("1", [Row("AB"[n % 2], "", "joy", "positive", None) for n in range(2000)])
    moved = with_wrong_speakers([dialogue], 0.3, 0)[0]
    wrong = np.mean([a.speaker != b.speaker for a, b in zip(dialogue.rows, moved.rows, strict=True)])
    assert wrong == pytest.approx(0.3, abs=0.03)


@pytest.mark.data
@pytest.mark.parametrize("name", ["meld", "emorynlp"])
def test_the_shipped_checkpoints_score_what_their_cards_say(data: Path, name: str) -> None:
    stored = json.loads((resolve(name) / "metrics.json").read_text())["shipped"]
    report = evaluate(name, data / name / "dev.csv", Silent())
    for score in ("accuracy", "weighted_f1"):
        assert report["provisional"][score] == pytest.approx(stored[score], abs=0.3)


@pytest.mark.data
def test_the_large_checkpoint_scores_near_what_its_card_says(data: Path, tmp_path: Path) -> None:
    """On a quarter of the dialogues: it takes a fifth of a second an utterance."""
    _, dialogues = read_table(data / "meld" / "dev.csv")
    write_table(tmp_path / "dev.csv", "dev", dialogues[::4])
    stored = json.loads((resolve("meld-large") / "metrics.json").read_text())["shipped"]
    report = evaluate("meld-large", tmp_path / "dev.csv", Silent())
    assert report["utterances"] > 200
    for score in ("accuracy", "weighted_f1"):
        assert report["provisional"][score] == pytest.approx(stored[score], abs=6)
