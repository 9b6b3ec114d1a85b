"""Commands on terminals of every encoding, with words and names that try to steer them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import time
from pathlib import Path

import pytest

from stream.events import Degraded, SessionEnded, SessionStarted, UtteranceFailed
from tests.support.buses import publish_events
from tests.support.commands import UNDERTONE, undertone
from tests.support.events import label
from tests.support.hostile import HOSTILE, steering
from tests.support.recordings import voice, write_wav

LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "latin-1": {"PYTHONIOENCODING": "iso-8859-1", "PYTHONUTF8": "0"},
}
SESSION = "hostile"


def events() -> list[SessionStarted | UtteranceFailed | Degraded | SessionEnded]:
    """A session in which everything that comes from outside is hostile."""
    name = f"Zoë 🙂 {HOSTILE}"
    return [
        SessionStarted(
            id=f"{SESSION}:started", session=SESSION, time="2026-01-01T00:00:00Z", sources=[name], channels="mixed",
            speakers="cluster", encoders={"asr": name, "text": name}, checkpoint=name, emotions=["neutral", name],
            consent=name, redacted=False,
        ),
        label(SESSION, 0, speaker=name, text=name, emotion=name, probabilities={name: 0.9, "neutral": 0.1}),
        UtteranceFailed(
            id=f"{SESSION}:1:failed", session=SESSION, utterance=1, speaker=name, audio_start=2, audio_end=3,
            reason=name,
        ),
        Degraded(id=f"{SESSION}:notice:0", session=SESSION, audio_time=3, reason=name),
        SessionEnded(
            id=f"{SESSION}:ended", session=SESSION, reason=name, duration=9, utterances=2, failed=1, counts={name: 1}
        ),
    ]  # fmt: skip


def on_a_terminal(*command: object, until: str = "", keys: bytes = b"", **environment: str) -> str:
    """What a command draws on a terminal until it ends, with keys pressed once a text is seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="150", LINES="30", **environment)
        os.execv(UNDERTONE, [UNDERTONE, *map(str, command)])
    drawn, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        try:
            drawn += os.read(terminal, 65536) if ready else b""
        except OSError:  # the other end is closed
            break
        if keys and until.encode() in drawn:
            os.write(terminal, keys)
            keys = b""
    else:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    return drawn.decode(errors="replace")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("hostile") / "events.jsonl"
    file.write_text("".join(event.wire() + "\n" for event in events()), encoding="utf-8")
    return file


def test_no_command_lets_words_or_names_steer_the_terminal(redis_url: str, recorded: Path, tmp_path: Path) -> None:
    publish_events(redis_url, events(), "hostile")
    rules = tmp_path / "rules.toml"
    emotion = "".join(f"\\U{ord(character):08X}" for character in f"Zoë 🙂 {HOSTILE}")
    rules.write_text(f'[[rule]]\nname = "any"\nabove = 0.1\nemotion = "{emotion}"\n')
    at = ("--redis", redis_url, "--prefix", "hostile")
    odd = "\x1b[8;47m\x9b8;47mfile\u202e"
    shown = {
        "replay": on_a_terminal("replay", recorded, "--speed", "max", "--redis", redis_url),
        "replay --json": on_a_terminal("replay", recorded, "--speed", "max", "--json", "--redis", redis_url),
        "watch": on_a_terminal("watch", SESSION, *at, until="Evil", keys=b"q"),
        "watch --json": on_a_terminal("watch", SESSION, "--json", *at),
        "alert": on_a_terminal("alert", rules, *at, until="in utterance", keys=b"\x03"),
        "alert --json": on_a_terminal("alert", rules, "--json", *at, until="alerts on", keys=b"\x03"),
        "sessions": on_a_terminal("sessions", *at),
        "top": on_a_terminal("top", "--once", *at),
        "export vtt": on_a_terminal("export", recorded, "-f", "vtt"),
        "export csv": on_a_terminal("export", recorded, "-f", "csv"),
        "export jsonl": on_a_terminal("export", recorded),
        "a file that is not there": on_a_terminal("replay", odd),
        "a file too many": on_a_terminal("replay", "a.wav", odd),
        "no such option": on_a_terminal("replay", f"--{odd}"),
        "no such command": on_a_terminal(odd),
        "doctor": on_a_terminal("doctor", "--checkpoint", odd),
    }
    for command, drawn in shown.items():
        assert drawn.strip() and "Traceback" not in drawn, f"{command}: {drawn[-300:]}"
        assert not steering(drawn), f"{command}: {steering(drawn)} in {drawn[-500:]!r}"
    for command in ("replay", "watch", "alert", "export vtt", "export jsonl"):
        assert "Evil" in shown[command], f"{command}: {shown[command][-300:]}"


def test_a_gateway_prints_its_address_and_no_log(redis_url: str, ray_address: str) -> None:
    at = ("--port", 0, "--no-preload", "--redis", redis_url, "--ray-address", ray_address)
    drawn = on_a_terminal("serve", *at, until="events: redis://", keys=b"\x03")
    lines = drawn.replace("^C", "").splitlines()
    opened = [number for number, line in enumerate(lines) if line.startswith("Open http://127.0.0.1:")]
    assert len(opened) == 1 and "/#token=" in lines[opened[0]] and lines[opened[0]].endswith("(Ctrl-C stops)")
    assert lines[opened[0] + 1].startswith("events: redis://") and "serving" not in drawn and "{" not in drawn


def test_no_command_lets_words_or_names_steer_what_a_pipe_goes_to(redis_url: str, recorded: Path) -> None:
    publish_events(redis_url, events(), "piped")
    for command in (
        ("replay", recorded, "--speed", "max", "--redis", redis_url),
        ("watch", SESSION, "--redis", redis_url, "--prefix", "piped"),
    ):
        done = undertone(*command)
        assert done.returncode == 0 and "Evil" in done.stdout, done.stderr
        assert not steering(done.stdout + done.stderr)


def test_a_file_and_a_name_that_the_locale_does_not_have(redis_url: str, ray_address: str, tmp_path: Path) -> None:
    words = tmp_path / "zoë.vtt"
    words.write_text("WEBVTT\n\n00:00.500 --> 00:02.000\nHello\n", encoding="utf-8")
    at = ("--redis", redis_url, "--ray-address", ray_address, "--speed", "max", "--modalities", "text", "--json")
    for name, shown in (("zoë.wav".encode(), "zoë.wav"), (b"zo\xeb.wav", "zo\ufffd.wav")):
        file = tmp_path / os.fsdecode(name)
        write_wav(file, voice(3.0)[None])
        done = undertone("replay", file, "--transcript", words, "--names", "Zoë", *at, encoding="utf-8", **LOCALES["C"])
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert found[0]["sources"] == [shown] and found[1]["speaker"] == "Zoë"


@pytest.mark.parametrize("locale", LOCALES)
def test_a_terminal_without_a_character_shows_another(locale: str, redis_url: str, recorded: Path) -> None:
    name = "Zo" + ("ë" if locale == "latin-1" else "e") + " ?"
    encoding = "latin-1" if locale == "latin-1" else "ascii"
    for command in (("replay", recorded, "--speed", "max", "--redis", redis_url), ("doctor",), ("export", recorded)):
        drawn = on_a_terminal(*command, **LOCALES[locale])
        assert "Traceback" not in drawn and "UnicodeEncodeError" not in drawn
    done = undertone("replay", recorded, "--speed", "max", "--redis", redis_url, encoding=encoding, **LOCALES[locale])
    assert done.returncode == 0 and name in done.stdout and "Traceback" not in done.stderr
    done = undertone(
        "replay", recorded, "--speed", "max", "--json", "--redis", redis_url, encoding="utf-8", **LOCALES[locale]
    )
    assert (
        "Zoë 🙂" in done.stdout
        and [json.loads(line)["type"] for line in done.stdout.splitlines()][-1] == "session.ended"
    )
    assert undertone("doctor", "--json", encoding="utf-8", **LOCALES[locale]).stdout.isascii()
