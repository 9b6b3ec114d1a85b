"""The command line as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import redis
from av.stream import Disposition

from stream.events import NOT_ANALYSED
from tests.support.commands import UNDERTONE, events, here, labels, read_back, undertone
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.recordings import RATE, voice, write_mp4, write_tracks, write_wav


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of who replays with nothing running."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def alone(home: Path) -> subprocess.CompletedProcess[str]:
    """A replay with nothing running: private Redis, private Ray."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    command = [UNDERTONE, "replay", str(DEMO), "--transcript", str(DEMO_TRANSCRIPT), "--speed", "max", "--json"]
    done = subprocess.run(
        command, env=environment | {"UNDERTONE_REDIS": "", "HOME": str(home)}, capture_output=True, text=True,
        timeout=240, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_a_private_cluster_keeps_its_token_in_no_file(home: Path, alone: subprocess.CompletedProcess[str]) -> None:
    assert "token" not in alone.stderr.lower() and not (home / ".ray").exists()


def test_a_replay_with_nothing_running(alone: subprocess.CompletedProcess[str]) -> None:
    """Words given: exit 0, a summary, every line with its speaker and words."""
    done = alone
    said = labels(events(done))
    lines = [line.split(maxsplit=5) for line in DEMO_TRANSCRIPT.read_text().splitlines()]
    assert [(event["speaker"], event["text"]) for event in said] == [(line[2], line[5]) for line in lines]
    assert events(done)[-1]["type"] == "session.ended"
    assert "14 utterances (0 without label)" in done.stderr
    assert "unix://…@" in done.stderr


@pytest.mark.data
@pytest.mark.parametrize("words", ["transcript", "whisper"])
def test_the_telephone_call(words: str, base: str, data: Path, redis_url: str, ray_address: str) -> None:
    folder = data / "conversations" / "telephone"
    options = ["--transcript", folder / "sample.stm"] if words == "transcript" else ["--asr-model", base]
    if words == "whisper":
        options += ["--rttm", folder / "sample.rttm"]
    done = undertone(
        "replay", folder / "sample.wav", *options, "--speed", "max", "--json",
        "--redis", redis_url, "--ray-address", ray_address,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    received = events(done)
    session = received[0]["session"]
    assert read_back(redis_url, session) == received
    said = labels(received)
    # Two talk at once: a long utterance has its number before a short one that ends earlier.
    assert sorted(event["utterance"] for event in said) == list(range(len(said)))
    assert [event["audio_end"] for event in said] == sorted(event["audio_end"] for event in said)
    assert len(labels(received, 1)) == len(said) and received[-1]["failed"] == 0
    if words == "transcript":
        lines = [line.split(maxsplit=5) for line in (folder / "sample.stm").read_text().splitlines()]
        assert [(event["speaker"], event["text"]) for event in said] == [(line[2], line[5]) for line in lines]
        assert all(abs(event["audio_start"] - float(line[3])) < 0.01 for event, line in zip(said, lines, strict=True))
    else:
        assert len(said) == 10
        assert "New Jersey" in " ".join(event["text"] for event in said)


@pytest.mark.data
def test_whisper_digits_are_heard(data: Path, models: Path, tmp_path: Path, redis_url: str, ray_address: str) -> None:
    """A real faster-whisper model through the whole path, its words measured against a script."""
    from stream.sources.file import FileSource

    digits = [np.concatenate([b.samples for b in FileSource(data / "digits" / name)], 1)[0] for name in
              sorted(path.name for path in (data / "digits").glob("7_*.wav"))[:3]]  # fmt: skip
    pause = np.zeros(RATE, np.float32)
    recording = np.concatenate(
        [part for digit in digits for part in (pause, 0.5 * digit / np.abs(digit).max())] + [pause]
    )
    script = tmp_path / "script.csv"
    script.write_text("start,end,text\n0,9,Seven. Seven? Seven!\n")
    done = undertone(
        "replay", write_wav(tmp_path / "digits.wav", recording[None]), "--asr-model", models / "whisper_digits",
        "--language", "en",
        "--reference", script, "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address,
        "--vad", "silero",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    received = events(done)
    assert received[0]["encoders"]["asr"] == "faster-whisper whisper_digits, en"
    assert "seven" in " ".join(event["text"].lower() for event in labels(received))
    *_, ended, measured = done.stderr.splitlines()
    assert ended.startswith("end of source: ")
    said = f"against script.csv \\(3 words\\), {len(labels(received))} labels"
    assert re.fullmatch(rf"WER \d{{1,2}}\.\d % {said}, \d+ s", measured)


def test_ctrl_c_publishes_what_was_heard(redis_url: str, ray_address: str) -> None:
    process = subprocess.Popen(
        [UNDERTONE, "replay", str(DEMO), "--transcript", str(DEMO_TRANSCRIPT), "--speed", "4", "--json",
         "--redis", redis_url, "--session", "interrupted"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    received = []
    for line in process.stdout:
        received.append(json.loads(line))
        if len(labels(received)) == 3:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
            break
    # Not communicate(): it reads past the lines that the loop above has buffered.
    received += [json.loads(line) for line in process.stdout]
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert received[-1]["type"] == "session.ended" and received[-1]["reason"] == "interrupted"
    assert received[-1]["utterances"] == len(labels(received)) == len(labels(received, 1)) >= 3
    assert read_back(redis_url, "interrupted") == received


def test_ctrl_c_while_it_is_found_who_speaks(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    recording = write_wav(tmp_path / "long.wav", np.tile(voice(6), 100)[None])
    process = subprocess.Popen(
        [UNDERTONE, "replay", str(recording), "--modalities", "audio", "--speed", "max", "--json",
         "--redis", redis_url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert "in a first pass" in first["encoders"]["speaker"]
    os.killpg(process.pid, signal.SIGINT)
    last = [json.loads(line) for line in process.stdout][-1]
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert (last["type"], last["reason"], last["utterances"]) == ("session.ended", "interrupted", 0)


def test_watch_follows_a_session_of_another_process(redis_url: str, ray_address: str) -> None:
    replaying = subprocess.Popen(
        [UNDERTONE, "replay", str(DEMO), "--transcript", str(DEMO_TRANSCRIPT), "--speed", "8", "--json",
         "--redis", redis_url, "--ray-address", ray_address, "--session", "watched"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    client = redis.Redis.from_url(redis_url)
    deadline = time.monotonic() + 60
    while not client.exists("undertone:{watched}:events") and time.monotonic() < deadline:
        time.sleep(0.1)
    watched = undertone("watch", "watched", "--json", "--redis", redis_url)
    shown, _ = replaying.communicate(timeout=60)
    assert watched.returncode == 0
    assert watched.stdout == shown


def test_a_closed_pipe_ends_the_session(redis_url: str, ray_address: str) -> None:
    command = (
        f"{UNDERTONE} replay {DEMO} --transcript {DEMO_TRANSCRIPT} --speed 4 --session piped --json "
        f"--redis {redis_url} --ray-address {ray_address} | head -3"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 3
    assert "Traceback" not in done.stderr
    stored = read_back(redis_url, "piped")
    assert stored[-1]["type"] == "session.ended" and stored[-1]["duration"] < 50


def test_text_alone_and_prosody_alone(redis_url: str, ray_address: str) -> None:
    for modality, missing in (("text", "audio"), ("audio", "text")):
        done = undertone(
            "replay", DEMO, "--transcript", DEMO_TRANSCRIPT, "--modalities", modality, "--speed", "max", "--json",
            "--redis", redis_url, "--ray-address", ray_address,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for event in labels(events(done)):
            assert event["modalities"] == {"used": [modality], "missing": [missing], "reasons": {missing: NOT_ANALYSED}}


def test_an_hour_is_replayed(tmp_path: Path, demo_audio: np.ndarray, redis_url: str, ray_address: str) -> None:
    hour = np.zeros((1, 3600 * RATE), np.float32)
    mixed = demo_audio.sum(0)
    for minute in (0, 29, 58):
        hour[0, minute * 60 * RATE : minute * 60 * RATE + len(mixed)] = mixed
    path = write_wav(tmp_path / "hour.wav", hour)
    done = undertone(
        "replay", path, "--asr", "none", "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address
    )
    assert done.returncode == 0, done.stderr
    starts = [event["audio_start"] for event in labels(events(done))]
    assert len(starts) >= 20 and starts[-1] > 3500


@pytest.mark.parametrize(
    ("name", "rate", "channels", "width"), [("8bit", 8000, 1, 1), ("96khz", 96_000, 1, 2), ("5.1", 48_000, 6, 4)]
)
def test_odd_audio_is_understood(
    name: str, rate: int, channels: int, width: int, tmp_path: Path, redis_url: str, ray_address: str
) -> None:
    audio = np.concatenate([np.zeros(RATE // 2, np.float32), voice(2), np.zeros(RATE, np.float32)])
    resampled = np.interp(np.arange(0, len(audio) - 1, RATE / rate), np.arange(len(audio)), audio).astype(np.float32)
    path = write_wav(tmp_path / f"{name}.wav", np.tile(resampled, (channels, 1)), rate, width)
    done = undertone(
        "replay", path, "--asr", "none", "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address
    )
    assert done.returncode == 0, done.stderr
    assert len(labels(events(done))) >= 1


def test_video_with_speech(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    path = write_mp4(tmp_path / "film.mp4", np.concatenate([voice(2), np.zeros(RATE, np.float32)])[None], 3)
    done = undertone(
        "replay", path, "--asr", "none", "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address
    )
    assert done.returncode == 0, done.stderr
    assert len(labels(events(done))) == 1


def test_samples_that_are_no_numbers_are_repaired_with_a_warning(
    tmp_path: Path, redis_url: str, ray_address: str
) -> None:
    audio = np.concatenate([voice(2), np.zeros(RATE, np.float32)])[None].copy()
    audio[0, 20_000:20_100] = np.nan
    done = undertone(
        "replay", write_wav(tmp_path / "nan.wav", audio, width=4), "--asr", "none", "--speed", "max", "--json",
        "--redis", redis_url, "--ray-address", ray_address,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning: 100 samples were not finite" in done.stderr
    assert events(done)[-1]["counts"]["repaired_samples"] == 100


def test_a_file_with_two_audio_tracks_and_a_colon_in_its_name(
    tmp_path: Path, redis_url: str, ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = np.concatenate([voice(2), np.zeros(RATE, np.float32)])
    tracks = [(np.zeros(3 * RATE, np.float32), Disposition.default), (said, Disposition(0))]
    write_tracks(tmp_path / "2026-11-26T12:30:00.mkv", tracks)
    options = ["--asr", "none", "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address]
    done = undertone("replay", "2026-11-26T12:30:00.mkv", *options)
    assert done.returncode == 0, done.stderr
    assert len(labels(events(done))) == 1
    notices = [event["reason"] for event in events(done) if event["type"] == "degraded"]
    assert notices[0].startswith("2 audio tracks: number 2 is analysed (the default, number 1, is silent)")
    chosen = undertone("replay", "2026-11-26T12:30:00.mkv", "--track", "1", *options)
    assert "no speech was found" in chosen.stderr.splitlines()[-1]
    absent = here("replay", "2026-11-26T12:30:00.mkv", "--track", "3", *options)
    assert absent.returncode == 2 and "has no audio track 3; it has 2" in absent.stderr
    events_only = here("replay", "redis:a", "--track", "3", *options)
    assert events_only.returncode == 2 and "--track: of an audio or video file" in events_only.stderr
    no_number = here("replay", "2026-11-26T12:30:00.mkv", "--track", "first", *options)
    assert no_number.returncode == 2 and "--track: the number of an audio track, from 1, or all" in no_number.stderr


@pytest.mark.parametrize("kind", ["silence", "noise", "one frame"])
def test_nothing_to_hear_is_one_line_and_an_ended_session(
    kind: str, tmp_path: Path, redis_url: str, ray_address: str
) -> None:
    audio = {
        "silence": np.zeros((1, 5 * RATE), np.float32),
        "noise": np.random.default_rng(0).normal(0, 0.1, (1, 20 * RATE)).astype(np.float32),
        "one frame": np.zeros((1, 1), np.float32),
    }[kind]
    done = undertone(
        "replay", write_wav(tmp_path / "a.wav", audio), "--speed", "max", "--json",
        "--redis", redis_url, "--ray-address", ray_address,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no speech was found" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert [event["type"] for event in events(done)] == ["session.started", "session.ended"]
    assert events(done)[-1]["reason"].startswith("error: no speech")


def test_a_transcript_of_something_else(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    other = tmp_path / "other.csv"
    other.write_text("start,end,text\n900,901,Hello there\n")
    done = undertone(
        "replay", DEMO, "--transcript", other, "--modalities", "text,audio", "--speed", "max", "--json",
        "--redis", redis_url, "--ray-address", ray_address,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the transcript does not match" in done.stderr.splitlines()[-1]
    assert events(done)[-1]["reason"].startswith("error: the transcript does not match")
