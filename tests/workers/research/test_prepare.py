"""`undertone prepare`: real clips, real Praat, the shared Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.tables import TableError, read_table
from model.progress import Silent
from tests.support.commands import undertone
from tests.support.corpora import meld_release
from tests.support.recordings import voice, write_mp4
from workers.research.prepare import prepare_command


def raw_release(folder: Path) -> Path:
    """MELD.Raw with one good clip, one broken one and one missing in train; nothing else."""
    meld_release(folder)
    clips = folder / "train_splits"
    clips.mkdir()
    write_mp4(clips / "dia0_utt0.mp4", voice(1.5)[None])
    (clips / "dia0_utt1.mp4").write_bytes(b"not a film")
    return folder


def prepare(release: Path, out: Path, ray_address: str) -> dict[str, Any]:
    done = undertone("prepare", "meld", release, "--out", out, "--ray-address", ray_address)
    assert done.returncode == 0, done.stderr
    assert f"{out}: 3 train, 3 dev, 3 test utterances" in done.stderr
    report: dict[str, Any] = json.loads((out / "prepare.json").read_text())
    return report


def test_prosody_is_measured_once_and_what_is_broken_is_named(tmp_path: Path, ray_address: str) -> None:
    out = tmp_path / "out"
    release = raw_release(tmp_path)
    report = prepare(release, out, ray_address)
    assert report["prosody"] == 1 and len(report["broken_clips"]) == 1 and report["without_clip"] == 7
    _, dialogues = read_table(out / "train.csv")
    good, broken = dialogues[0].rows
    assert good.prosody is not None and 100 < good.prosody[2] < 250 and broken.prosody is None

    kept = out / ".prepare.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines() if line]
    clip, values, seconds = next(line for line in lines if isinstance(line[1], list))
    values[2] = 222.0
    kept.write_text(json.dumps([clip, values, seconds]) + '\n["half a li')  # as an interrupted run leaves it
    assert len(prepare(release, out, ray_address)["broken_clips"]) == 1
    _, dialogues = read_table(out / "train.csv")
    assert dialogues[0].rows[0].prosody[2] == pytest.approx(222.0), "what was measured is not measured again"


def test_a_clip_that_lasts_longer_than_its_sentence_is_another_clip(tmp_path: Path, ray_address: str) -> None:
    """As dia38_utt4 and dia220_utt0 of MELD's test split, which hold minutes of an episode."""
    release, out = meld_release(tmp_path), tmp_path / "out"
    clips = release / "output_repeated_splits_test"
    clips.mkdir()
    for name, seconds in (("dia0_utt0", 5.7), ("dia0_utt1", 120.0), ("dia1_utt0", 4.0)):
        write_mp4(clips / f"{name}.mp4", np.resize(voice(2.0), int(seconds * 16_000))[None])
    report = prepare(release, out, ray_address)
    assert {Path(clip).stem: reason for clip, reason in report["clips_of_another_length"].items()} == {
        "dia0_utt1": "lasts 60.0 s or more, where the table has 1.5 s",
        "dia1_utt0": "lasts 4.0 s, where the table has 1.0 s",
    }
    assert report["prosody"] == 1 and report["broken_clips"] == report["clips_of_another_length"]
    _, dialogues = read_table(out / "test.csv")
    assert [row.prosody is None for dialogue in dialogues for row in dialogue.rows] == [False, True, True]


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there are meld, emorynlp, iemocap, features"):
        prepare_command("friends", tmp_path, tmp_path / "out", Silent())
