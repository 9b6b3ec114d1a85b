"""`undertone demo`, as somebody runs it who has installed the wheel: in a folder with nothing of the repository."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from html import unescape
from pathlib import Path

import httpx
import pytest

from tests.support.commands import UNDERTONE, events, here, labels, undertone

MEASURED = re.compile(r"WER (\d+\.\d) % against conversation.stm \(150 words\), 14 labels, \d+ s")


def test_the_demo_is_heard(
    base: str, redis_url: str, ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make demo` does, without a folder of models and without a hub: words by Whisper base."""
    monkeypatch.chdir(tmp_path)
    done = undertone("demo", "--json", "--redis", redis_url, "--ray-address", ray_address, UNDERTONE_MODELS="")
    assert done.returncode == 0, done.stderr
    received = events(done)
    assert received[0]["encoders"]["asr"] == "faster-whisper base, language detected"
    assert len(labels(received)) == 14 and all("text" in e["modalities"]["used"] for e in labels(received))
    assert {e["language"] for e in received if e["type"] == "utterance"} == {"en"}
    partial = [e for e in received if e["type"] == "utterance.partial"]
    assert partial and all(e["text"].startswith(e["stable"]) for e in partial)
    measured = MEASURED.fullmatch(done.stderr.splitlines()[-1])
    assert measured is not None and float(measured[1]) < 25


def test_the_page_opens_while_the_conversation_plays(
    base: str, redis_url: str, ray_address: str, tmp_path: Path
) -> None:
    """The browser gets a file of this user's that leads to the session: its command line does not have the token."""
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    command = [UNDERTONE, "demo", "--page", "--speed", "4", "--redis", redis_url, "--ray-address", ray_address]
    environment = os.environ | {"BROWSER": f"{browser} %s", "UNDERTONE_MODELS": ""}
    log = tmp_path / "log"
    with log.open("wb") as told:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=told
        )
    try:
        while not opened.exists() or not opened.read_text():
            assert process.poll() is None and "does not play" not in log.read_text(), log.read_text()
            time.sleep(0.2)
        file = Path(opened.read_text().removeprefix("file://"))
        assert file.stat().st_mode & 0o077 == 0
        found = re.search(
            r'url=(http://127\.0\.0\.1:\d+)/#token=([\w-]+)&session=([\w-]+)"', unescape(file.read_text())
        )
        assert found is not None
        server, token, session = found.groups()
        asked = httpx.get(f"{server}/sessions/{session}", headers={"Authorization": f"Bearer {token}"})
        assert asked.status_code == 200 and asked.json()["state"] == "live"
        addresses = re.findall(r"http://\S+#\S+", log.read_text())
        assert addresses == [f"{server}/#token={token}&session={session}"], "one is enough"
        while "the page stays until Ctrl-C" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        measured = MEASURED.search(log.read_text())
        assert measured is not None and float(measured[1]) < 25
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert not file.exists() and "Traceback" not in log.read_text()


@pytest.mark.parametrize(("end", "at"), [(signal.SIGINT, " now "), (signal.SIGTERM, "session started")])
def test_a_demo_that_is_interrupted_ends_its_session_and_measures_nothing(
    end: signal.Signals, at: str, base: str, tmp_path: Path
) -> None:
    """With a Ray of its own; as a terminal does, and as `timeout` in a script's background, where Ctrl-C is ignored."""
    background = ["sh", "-c", 'trap \'\' INT; exec "$0" "$@"'] if end == signal.SIGTERM else []
    log = tmp_path / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    with log.open("wb") as told:
        process = subprocess.Popen(
            [*background, UNDERTONE, "demo", "--page", "--ephemeral"], cwd=tmp_path,
            env=environment | {"UNDERTONE_MODELS": ""}, stdin=subprocess.DEVNULL, stdout=told, stderr=told,
            start_new_session=True,
        )  # fmt: skip
    try:
        while at not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        os.killpg(process.pid, end)
        assert process.wait(60) == 130, log.read_text()
    finally:
        process.kill()
        process.wait()
    told_of = log.read_text()
    assert '"ended": 1, "cut_off": 0' in told_of
    assert "WER" not in told_of and "the page stays" not in told_of and "Traceback" not in told_of


def test_without_a_recognizer_the_words_are_the_scripts(redis_url: str, ray_address: str) -> None:
    # Without these folders no model can be put together from installed packages.
    nowhere = {"UNDERTONE_MODELS": "", "XDG_DATA_HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    done = undertone("demo", "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address, **nowhere)
    assert done.returncode == 0, done.stderr
    assert "the words are the script's" in done.stderr and "WER" not in done.stderr
    assert len(labels(events(done))) == 14


def test_options_that_contradict() -> None:
    done = here("demo", "--port", "8765")
    assert (done.returncode, done.stderr) == (2, "undertone: --port: of the page; add --page\n")
