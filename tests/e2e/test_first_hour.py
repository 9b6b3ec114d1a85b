"""The first hour with the commands: one Redis that all find, a gateway that says what it does, and a clean end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.commands import UNDERTONE, events, undertone
from tests.support.gateways import free_port
from tests.support.paths import DEMO

RAW = re.compile(r"^\[\d{4}-\d\d-\d\d .*(core_worker|raylet|gcs)|never retrieved|Traceback", re.MULTILINE)
"""Lines of Ray's C++, of asyncio and of Python that nobody should have to read."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user who has never started anything; each command is a new shell's, without options about Redis."""
    for name in ("DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.delenv("UNDERTONE_REDIS", raising=False)
    yield tmp_path
    undertone("down")


def wait_for(text: str, log: Path, process: subprocess.Popen[bytes], patience_s: float = 240) -> None:
    deadline = time.monotonic() + patience_s
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_a_port_that_is_taken_is_told_before_anything_starts(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = undertone("serve", "--port", port)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == f"undertone: cannot listen on 127.0.0.1:{port}: the port is taken; choose another --port\n"
    assert not (home / "data/undertone/redis").exists(), "no Redis was started"


def test_a_gateway_its_neighbours_and_its_end(home: Path) -> None:
    """The models are loaded before it is ready, other commands find its Redis, and `down` ends all with one line."""
    port, log = free_port(), home / "serve.log"
    command = [UNDERTONE, "serve", "--port", str(port), "--record", str(home / "new/recordings")]
    with log.open("wb") as told:
        gateway = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
    try:
        wait_for("events: unix://", log, gateway)
        assert (home / "new/recordings").is_dir()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert client.head("/").status_code == 200
            while (answer := client.get("/readyz")).status_code == 503 and not answer.json()["loading"]:
                assert not answer.json()["models"] and gateway.poll() is None
            if answer.status_code == 503:
                assert "emotion model" in answer.json()["loading"] or answer.json()["loading"]
            wait_for('"ready (', log, gateway)
            assert client.get("/readyz").json() == {
                "redis": True, "ray": True, "models": True, "draining": False, "loading": [],
            }  # fmt: skip
        lines = log.read_text().splitlines()
        loading = [n for n, line in enumerate(lines) if re.search(r'"loading .*emotion model.* \([\d.]+ s\)"', line)]
        assert loading and loading[0] < next(n for n, line in enumerate(lines) if '"ready (' in line)

        replayed = undertone("replay", Path(__file__).parents[1] / "golden/file.jsonl", "--speed", "max", "--json")
        assert replayed.returncode == 0 and "refuses" not in replayed.stderr
        session = events(replayed)[0]["session"]
        assert session in undertone("sessions", "--json").stdout
        assert undertone("watch", session, "--json").stdout == replayed.stdout
        assert undertone("export", session, "--format", "csv").stdout.startswith("session,")

        done = undertone("down")
        assert done.returncode == 0
        assert done.stderr.splitlines()[0] == "ended 1 command of yours, as Ctrl-C would"
        assert gateway.wait(60) == 0
        assert not RAW.search(log.read_text()), log.read_text()
        after = log.read_text().splitlines()[len(lines) :]
        assert not [line for line in after if '"level": "error"' in line or '"level": "warning"' in line]
    finally:
        gateway.kill()
        gateway.wait()


@pytest.mark.parametrize("after", ["events of session", "audio_start"])
def test_ctrl_c_says_nothing_of_what_is_inside(home: Path, after: str) -> None:
    """While models are loaded, and while somebody talks; once, and twice."""
    for times in (1, 2):
        log = home / "replay.log"
        with log.open("wb") as told:
            command = subprocess.Popen(
                [UNDERTONE, "replay", str(DEMO), "--ephemeral", "--json", "--modalities", "audio"],
                stdout=told, stderr=subprocess.STDOUT,
            )  # fmt: skip
        wait_for(after, log, command)
        for _ in range(times):
            command.send_signal(signal.SIGINT)
            time.sleep(0.3)
        assert command.wait(90) in (1, 130)
        assert not RAW.search(log.read_text()), log.read_text()
    assert not (home / "data/undertone/redis").exists(), "an ephemeral Redis leaves nothing"
