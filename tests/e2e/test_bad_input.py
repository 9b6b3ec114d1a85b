"""What cannot work gives one clear line, the right exit code, no traceback, and no stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import redis

from tests.support.commands import here, undertone
from tests.support.paths import DEMO
from tests.support.recordings import voice, write_mp4
from tests.support.redis_servers import private_server


def refused(code: int, message: str, *arguments: object, **environment: str) -> None:
    done = here(*arguments, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert message in last, done.stderr


def stored(url: str) -> set[bytes]:
    """The keys of a Redis; those that other tests have left there may expire."""
    with redis.Redis.from_url(url) as client:
        return set(client.keys())


def keys_of(url: str) -> set[bytes]:
    with redis.Redis.from_url(url) as client:
        return set(client.keys())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("This is no sound.\n" * 40)
    whole = write_mp4(tmp_path / "whole.mp4", voice(2)[None]).read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    write_mp4(tmp_path / "mute.mp4", None)
    (tmp_path / "bad.stm").write_text("call 1 Ann zero 1 Hello\n")
    (tmp_path / "good.stm").write_text("call 1 Ann 0 1 Hello\n")
    np.save(tmp_path / "array.npy", np.zeros(3))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.wav", "no such file"),
        ("empty.wav", "the file is empty"),
        ("text.wav", "not a media file"),
        ("truncated.mp4", "not a media file"),
        ("mute.mp4", "has no audio track"),
        ("array.npy", "not a media file"),
        (".", "is a folder"),
    ],
)
def test_files(files: Path, redis_url: str, name: str, message: str) -> None:
    before = stored(redis_url)
    refused(2, message, "replay", files / name, "--redis", redis_url)
    assert not stored(redis_url) - before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--speed", "fast"], "--speed: a positive number or max"),
        (["--speed", "0"], "--speed: a positive number or max"),
        (["--channels", "left"], "--channels: 'left' is not one of 'auto', 'mix', 'split'"),
        (["--asr", "psychic"], "'psychic' is not one of 'auto', 'whisper', 'none'"),
        (["--vad", "ear"], "'ear' is not one of 'auto', 'webrtc', 'silero'"),
        (["--speakers", "scent"], "'scent' is not one of 'auto', 'channel', 'turns', 'cluster'"),
        (["--interim", "-1"], "undertone: --interim: at least 0, not '-1'"),
        (["--interim", "often"], "undertone: --interim: a number, not 'often'"),
        (["--keep", "1e9"], "undertone: --keep: at most 87600, not '1e9'"),
        (["--speakers", "turns"], "--speakers turns needs --rttm"),
        (["--speakers", "cluster"], "add --channels mix"),
        (["--modalities", "smell"], "--modalities: text, audio or visual, not 'smell'"),
        (["--modalities", ""], "--modalities: the checkpoint knows text, audio"),
        (["--checkpoint", "nowhere"], "no checkpoint 'nowhere'"),
        (["--transcript", "missing.stm"], "no such file"),
        (["--transcript", "bad.stm"], "bad.stm:1: not an STM line"),
        (["--rttm", "missing.rttm"], "no such file"),
        (["--reference", "missing.stm"], "missing.stm: no such file"),
        (["--reference", "bad.stm"], "bad.stm:1: not an STM line"),
        (["--reference", "good.stm", "--transcript", "good.stm"], "not with --transcript, --redact or --mask"),
        (["--reference", "good.stm", "--redact"], "not with --transcript, --redact or --mask"),
        (["--reference", "good.stm", "--mask"], "not with --transcript, --redact or --mask"),
        (["--reference", "good.stm", "--asr", "none"], "--reference: no recognizer hears words"),
        (["--session", "a b"], "undertone: --session: 'a b': letters, digits"),
        (["--asr", "whisper", "--asr-model", "."], "holds no faster-whisper model"),
        (["--asr-model", "huge"], "no Whisper model 'huge': neither a size (tiny.en, tiny, "),
    ],
)
def test_options(files: Path, redis_url: str, options: list[str], message: str) -> None:
    paths = [str(files / o) if o.endswith((".stm", ".rttm")) or o == "." else o for o in options]
    before = stored(redis_url)
    done = here("replay", DEMO, "--redis", redis_url, *paths)
    assert done.returncode == 2 and done.stdout == "" and message in done.stderr.splitlines()[-1], done.stderr
    assert not stored(redis_url) - before


@pytest.mark.parametrize("command", [("live", "tcp://127.0.0.1:9"), ("replay", "redis:past")])
def test_a_reference_of_other_commands(files: Path, redis_url: str, command: tuple[str, str]) -> None:
    done = here(*command, "--reference", files / "missing.stm", "--redis", redis_url)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_numbers_that_are_none() -> None:
    refused(2, "undertone: --port: a whole number, not 'abc'", "serve", "--port", "abc")
    refused(2, "undertone: --port: at most 65535, not '99999'", "serve", "--port", "99999")
    refused(2, "undertone: --channels: at least 1, not '0'", "live", "--channels", "0")
    refused(2, "undertone: INTERFACE: 'wsdl' is not one of 'openapi', 'asyncapi'", "schema", "wsdl")


def test_unknown_options_and_commands_show_usage() -> None:
    for arguments in (["replay"], ["replay", "x", "--nonsense"], ["dance"]):
        done = undertone(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_redis_refused_or_locked() -> None:
    refused(1, "no Redis answers at redis://127.0.0.1:1/0", "replay", DEMO, "--redis", "redis://127.0.0.1:1/0")
    refused(1, "no Redis answers", "replay", DEMO, UNDERTONE_REDIS="redis://127.0.0.1:1/0")
    with private_server("--requirepass", "right") as url:
        refused(1, "refuses the user name or password", "replay", DEMO, "--redis", url.replace("//", "//:wrong@"))
        refused(1, "refuses the user name or password", "watch", "x", "--redis", url)


def test_an_address_is_for_live() -> None:
    refused(2, "replay plays files, and this is an address: undertone live URL", "replay", "http://host/a.ts?key=x")
    refused(2, "nosuch://: this FFmpeg (of PyAV) opens no such streams; it opens rtsp", "live", "nosuch://127.0.0.1:9")


def test_an_unknown_microphone(redis_url: str) -> None:
    refused(2, "cannot record from microphone 'nobody'", "live", "mic:nobody", "--redis", redis_url)


def test_a_session_id_that_has_events_already(redis_url: str) -> None:
    redis.Redis.from_url(redis_url).xadd("undertone:{taken}:events", {"id": "x"})
    refused(
        2,
        "taken has not ended, and gives no sign of life: `undertone forget taken`",
        "replay",
        DEMO,
        "--session",
        "taken",
        "--redis",
        redis_url,
    )


def test_an_unknown_session(redis_url: str) -> None:
    refused(2, "no session 'nobody'", "watch", "nobody", "--redis", redis_url)
    done = here("watch", "a b", "--redis", redis_url)
    assert done.returncode == 2 and "SESSION: 'a b': letters, digits" in done.stderr


def test_a_checkpoint_of_another_label_set(tmp_path: Path) -> None:
    table = tmp_path / "emory.csv"
    table.write_text("dialogue_id,speaker,text,emotion,sentiment\n0,Ann,Hi,joyful,positive\n0,Bob,No,mad,negative\n")
    refused(2, "checkpoint meld labels neutral, joy", "evaluate", "--data", table)
    refused(2, "no such table", "evaluate", "--data", tmp_path / "none.csv")
    refused(2, "cannot be read", "evaluate", "--data", tmp_path)


def test_ray_refused(redis_url: str) -> None:
    done = undertone("replay", DEMO, "--redis", redis_url, "--ray-address", "127.0.0.1:1")
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr, done.stderr
    assert "Ray does not start" in done.stderr.splitlines()[-1]


def test_training_without_data(tmp_path: Path) -> None:
    refused(2, "set UNDERTONE_DATA", "train", "--out", tmp_path / "out", UNDERTONE_DATA="")
    refused(2, "no such table", "train", "--out", tmp_path / "out", "--data", tmp_path)


def test_research_commands(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text('data = "meld"\n[network]\nhiden = 64\n')
    refused(2, "network.hiden", "train", "--out", tmp_path / "out", "--config", tmp_path / "wrong.toml")
    refused(2, "neither a file nor one of emorynlp", "train", "--out", tmp_path / "out", "--config", "friends")
    refused(2, "cannot leave out luck; there are", "train", "--out", tmp_path / "out", "--without", "luck")
    refused(2, "no study 'luck'; there are alignment", "study", "luck")
    refused(2, "is this the folder of the release?", "prepare", "meld", tmp_path, "--out", tmp_path / "out")
