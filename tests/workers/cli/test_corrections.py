"""`undertone corrections`: what people corrected in sessions becomes a table that `evaluate` and `train` read."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from model.data.tables import labelled_rows, read_table
from model.labels import LABEL_SETS
from stream import events
from stream.bus import annotations
from stream.bus.keys import Keys
from tests.support.buses import publish_events
from tests.support.commands import here
from tests.support.conversations import started
from tests.support.events import ended, label

SAID = ("Oh, that is great!", "You broke it, didn't you?", "No.", "I am so sorry…", '=never, "ever"\nagain', "Well.")


def talk(session: str, labels: str = "meld", **change: object) -> list[events.Event]:
    """The events of a session of six utterances by two people, of whom the second has two names; the last but one
    failed."""
    names = LABEL_SETS[labels].emotions
    told: list[events.Event] = [
        started(id=f"{session}:started", session=session, emotions=list(names), **change),
    ]
    for n, words in enumerate(SAID):
        who = ("Ann", "Ben", "Ann", "speaker 3", "Ann", "Ben")[n]
        place = {"utterance": n, "speaker": who, "audio_start": 2.0 * n, "audio_end": 2.0 * n + 1.5}
        text = None if change.get("redacted") else words
        told.append(events.UtteranceHeard(id=f"{session}:{n}:heard", session=session, text=text, **place))
        if n == 4:
            told.append(events.UtteranceFailed(id=f"{session}:{n}:failed", session=session, reason="test", **place))
            continue
        probabilities = dict.fromkeys(names, 0.0) | {"neutral": 1.0}
        more = {"emotion": "neutral", "probabilities": probabilities, "text": text, "sentiment": "positive"}
        told.append(label(session, **place, **more))
    told.append(events.SpeakerMerged(id=f"{session}:notice:1", session=session, speaker="speaker 3", into="Ben"))
    return [*told, ended(session)]


def correct(url: str, session: str, corrections: dict[int, str], prefix: str) -> None:
    for utterance, emotion in corrections.items():
        new = annotations.NewCorrection(emotion=emotion)
        asyncio.run(annotations.correct(url, Keys(session, prefix), utterance, new, "desk"))


def refused(*options: object) -> str:
    """The one line of a command that wrote nothing."""
    done = here("corrections", *options)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.data
@pytest.mark.integration
def test_two_corrections_are_what_is_scored_and_learnt(
    redis_url: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From events in Redis to the figures of the shipped checkpoint, and to a checkpoint of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    publish_events(redis_url, talk("call"), "learnt")
    correct(redis_url, "call", {1: "anger", 3: "sadness"}, "learnt")
    for split in ("train", "dev"):
        table = tmp_path / f"{split}.csv"
        done = here("corrections", "call", "--out", table, "--redis", redis_url, "--prefix", "learnt")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"{table}: 5 utterances, 2 of them with a corrected label\n"
    scored = here("evaluate", "--data", table, "--json")
    assert scored.returncode == 0, scored.stderr
    report = json.loads(scored.stdout)
    assert (report["utterances"], report["dialogues"]) == (2, 1)
    support = {emotion: each["support"] for emotion, each in report["per_class"].items() if each["support"]}
    assert support == {"anger": 1, "sadness": 1}
    config = tmp_path / "tiny.toml"
    config.write_text('data = "here"\n[network]\nhidden = 16\n[recipe]\nepochs = 1\n[text]\nrecognized = true\n')
    options = ("--config", config, "--data", tmp_path, "--out", tmp_path / "out", "--seeds", 1, "--json")
    trained = here("train", *options)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["data"] == "meld: 2 training and 2 validation utterances"


def test_the_table_has_every_utterance_and_the_right_label_of_some(redis_url: str, tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    at = ("--out", table, "--redis", redis_url, "--prefix", "written")
    publish_events(redis_url, talk("a", "emorynlp"), "written")
    publish_events(redis_url, talk("b", "emorynlp", encoders={"asr": "transcript x"}), "written")
    publish_events(redis_url, talk("uncorrected", "emorynlp"), "written")
    correct(redis_url, "a", {1: "sad", 4: "joyful", 99: "mad"}, "written")
    correct(redis_url, "b", {0: "powerful"}, "written")
    done = here("corrections", "a", "b", "uncorrected", "a", *at)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "a: left out: corrections of 99 (no such utterance, or label)",
        "uncorrected: nothing was corrected",
        f"{table}: 11 utterances, 3 of them with a corrected label",
    ]
    labels, (a, b) = read_table(table)
    assert (labels.name, a.id, b.id) == ("emorynlp", "a", "b")
    assert [row.text for row in a.rows] == list(SAID), "what failed is there where it was corrected"
    assert [row.speaker for row in a.rows] == ["Ann", "Ben", "Ann", "Ben", "Ann", "Ben"]
    assert [(row.emotion, row.sentiment) for row in a.rows if row.is_labelled] == [
        ("sad", "negative"),
        ("joyful", "positive"),
    ]
    assert [(row.start, row.end) for row in a.rows[:2]] == [(0.0, 1.5), (2.0, 3.5)]
    assert labelled_rows([b]).tolist() == [True, False, False, False, False]
    assert {row.recognized for row in a.rows} == {True} and {row.recognized for row in b.rows} == {False}
    assert stat.S_IMODE(table.stat().st_mode) == 0o600


def test_surprise_keeps_the_sessions_sentiment(redis_url: str, tmp_path: Path) -> None:
    """In MELD it goes either way; everything else follows from the emotion."""
    publish_events(redis_url, talk("call"), "surprised")
    correct(redis_url, "call", {0: "surprise", 1: "anger"}, "surprised")
    here("corrections", "call", "--out", tmp_path / "x.csv", "--redis", redis_url, "--prefix", "surprised")
    _, (dialogue,) = read_table(tmp_path / "x.csv")
    assert [row.sentiment for row in dialogue.rows] == ["positive", "negative", "", "", ""]


def test_what_makes_no_table_is_told_in_a_line_and_nothing_written(redis_url: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    at: Sequence[object] = ("--out", table, "--redis", redis_url, "--prefix", "refused")
    for session, change in (
        ("silent", {"redacted": True}),
        ("meld", {}),
        ("other", {"labels": "iemocap"}),
        ("none", {}),
    ):
        publish_events(redis_url, talk(session, **change), "refused")  # type: ignore[arg-type]
    correct(redis_url, "silent", {0: "joy"}, "refused")
    correct(redis_url, "meld", {0: "joy"}, "refused")
    correct(redis_url, "other", {0: "happy"}, "refused")
    assert refused("none", *at) == "undertone: nothing to write: no label of none was corrected"
    assert "no session 'absent'" in refused("absent", *at)
    assert refused("silent", *at) == "undertone: silent: redacted, so there are no words to learn from or to score"
    told = "sessions of different labels make no table: meld has those of meld, other has those of iemocap"
    assert refused("meld", "other", *at) == f"undertone: {told}; write one for each"
    assert "a table is a .csv file" in refused("meld", *at, "--out", tmp_path / "table.txt")
    correct(redis_url, "none", {77: "joy"}, "refused")
    assert "no correction of it is of an utterance in Redis" in refused("none", *at)
    assert "no/table.csv: No such file" in refused("meld", *at, "--out", tmp_path / "no" / "table.csv")
    assert list(tmp_path.iterdir()) == []
