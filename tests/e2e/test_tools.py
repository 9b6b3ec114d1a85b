"""The commands around a session: voices that are known, models, constructed conversations, benchmarks."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest

from stream.sources.file import read_audio
from stream.speech.turns import read_rttm
from tests.support.commands import events, here, labels, undertone
from tests.support.recordings import RATE, voice, write_wav

pytestmark = pytest.mark.data


def test_an_enrolled_voice_is_called_by_its_name(data: Path, tmp_path: Path, redis_url: str, ray_address: str) -> None:
    anna, *rest = sorted((data / "librispeech").glob("1688-*.flac"))
    home = {"XDG_DATA_HOME": str(tmp_path)}
    done = here("enroll", "Anna", anna, **home)
    assert done.returncode == 0, done.stderr
    assert here("enroll", "--list", **home).stdout == "Anna\n"
    mode = (tmp_path / "undertone" / "voices" / "Anna.json").stat().st_mode
    assert mode & 0o077 == 0
    spoken = write_wav(tmp_path / "spoken.wav", read_audio(rest[0])[:, : 8 * RATE])
    replay = ("replay", spoken, "--modalities", "audio", "--speed", "max", "--json", "--redis", redis_url)
    heard = events(undertone(*replay, "--ray-address", ray_address, **home))
    assert "enrolled: 1" in heard[0]["encoders"]["speaker"]
    assert {event["speaker"] for event in labels(heard)} == {"Anna"}
    nobody = events(undertone(*replay, "--ray-address", ray_address, "--no-enrolled", **home))
    assert {event["speaker"] for event in labels(nobody)} == {"speaker 1"}
    assert here("enroll", "Anna", "--forget", **home).returncode == 0
    assert here("enroll", "--list", **home).stdout == ""


def test_two_people_on_one_microphone_are_told_apart(data: Path, redis_url: str, ray_address: str) -> None:
    """A telephone call in which each begins before the other has ended."""
    call = data / "conversations" / "telephone" / "sample.wav"
    heard = events(
        undertone("replay", call, "--modalities", "audio", "--speed", "max", "--people", "2", "--json", "--redis",
                  redis_url, "--ray-address", ray_address)
    )  # fmt: skip
    assert heard[0]["encoders"]["vad"] == "pyannote" and "in a first pass" in heard[0]["encoders"]["speaker"]
    spoken = [(label["audio_start"], label["audio_end"], label["speaker"]) for label in labels(heard)]
    assert {speaker for *_, speaker in spoken} == {"speaker 1", "speaker 2"}
    overlaps = [
        min(one[1], other[1]) - max(one[0], other[0]) for one, other in combinations(spoken, 2) if one[2] != other[2]
    ]
    assert sum(overlap > 0.3 for overlap in overlaps) >= 2
    ids = [event["id"] for event in heard]
    assert len(ids) == len(set(ids))


def test_what_cannot_be_enrolled_is_one_clear_line(tmp_path: Path) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path)}
    short = write_wav(tmp_path / "short.wav", voice(1)[None])
    cases = (("Anna", short), ("Anna", tmp_path / "no.wav"), ("Anna",), ("../x", short), ("Ben", "--forget"))
    for arguments in cases:
        done = here("enroll", *arguments, **home)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr


def test_models_are_listed_and_verified(models: Path, tmp_path: Path) -> None:
    local = {"UNDERTONE_MODELS": str(models)}
    rows = json.loads(here("models", "list", "--json", **local).stdout)
    folders = {row["name"]: row["folder"] for row in rows}
    assert folders["speech_embedding"] == str(models / "speech_embedding")
    assert here("models", "verify", **local).returncode == 0
    shutil.copytree(models / "speech_embedding", tmp_path / "speech_embedding")
    path = tmp_path / "speech_embedding" / "melspectrogram.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    broken = here("models", "verify", "speech_embedding", UNDERTONE_MODELS=str(tmp_path))
    assert broken.returncode == 1 and "another file" in broken.stdout
    listed = here("models", "verify", "speech_embedding", "--json", UNDERTONE_MODELS=str(tmp_path))
    (row,) = json.loads(listed.stdout)
    assert listed.returncode == 1 and row["folder"] == str(tmp_path / "speech_embedding") and len(row["faults"]) == 1
    unknown = here("models", "pull", "nothing")
    assert unknown.returncode == 2 and "no model nothing" in unknown.stderr
    mirror = {"UNDERTONE_MODELS": str(tmp_path), "UNDERTONE_MODELS_URL": "http://127.0.0.1:9"}
    offline = here("models", "pull", "speech_embedding", **mirror)
    assert offline.returncode == 1 and len(offline.stderr.strip().splitlines()) == 1


def test_a_constructed_conversation_and_its_annotation(data: Path, tmp_path: Path) -> None:
    done = here("compose", "--data", data / "ravdess" / "Actor_01", "--out", tmp_path, "--turns", 4, "--speakers", 1)
    assert done.returncode == 0, done.stderr
    turns = read_rttm(tmp_path / "constructed0.rttm", "constructed0")
    audio = read_audio(tmp_path / "constructed0.wav")[0]
    assert len(turns) == 4
    for turn in turns:
        inside = audio[round(turn.start * RATE) : round(turn.end * RATE)]
        before = audio[round((turn.start - 0.3) * RATE) : round((turn.start - 0.05) * RATE)]
        assert inside.std() > 10 * before.std()
    assert len((tmp_path / "constructed0.csv").read_text().splitlines()) == 5
    again = here(
        "compose", "--data", data / "ravdess" / "Actor_01", "--out", tmp_path / "2", "--turns", 4, "--speakers", 1
    )
    assert again.returncode == 0
    assert (tmp_path / "2" / "constructed0.wav").read_bytes() == (tmp_path / "constructed0.wav").read_bytes()


def test_benchmarks_take_other_recordings(data: Path, tmp_path: Path) -> None:
    for name in ("sample.wav", "sample.rttm"):
        shutil.copy(data / "conversations" / "telephone" / name, tmp_path)
    for bench, column in (("vad", "detection_error_rate"), ("speakers", "DER")):
        done = here("bench", bench, "--data", tmp_path, "--json")
        rows = json.loads(done.stdout)
        assert done.returncode == 0 and all(0 <= row[column] <= 100 for row in rows), done.stderr
    folder = tmp_path / "voices"
    folder.mkdir()
    for path in sorted((data / "ravdess" / "Actor_05").glob("*.flac"))[:12]:  # under another actor's number: unseen
        shutil.copy(path, folder / path.name.replace("-05.flac", "-24.flac"))
    (row, *_) = json.loads(here("bench", "voice", "--data", folder, "--json").stdout)
    assert row["clips"] == "12 clips of 1 unseen actors" and row["condition"] == "as recorded"
    nothing = here("bench", "voice", "--data", tmp_path / "none")
    assert nothing.returncode == 2 and "no clip named as RAVDESS" in nothing.stderr
    for arguments in (
        ("voice", "--data", folder, "--encoder", tmp_path / "none"),
        ("endtoend", "--data", folder, "--actors", "seven"),
        ("endtoend", "--data", folder, "--actors", "7"),
    ):
        refused = here("bench", *arguments)
        assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1, refused.stderr


def test_the_way_from_media_to_label_is_scored(data: Path) -> None:
    done = undertone("bench", "endtoend", "--data", data / "ravdess" / "Actor_02", "--conversations", 1, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 4
    for row in rows:
        assert 0 <= row["segmentation"] < 60 and row["DER"] < 100 and 0 <= row["emotion"] <= 100
