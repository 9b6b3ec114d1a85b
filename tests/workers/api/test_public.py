"""`undertone`, as programs import it: its names, its cost, its page and its examples."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, get_args

import numpy as np
import pytest
import undertone

from stream.sources.file import FileSource
from tests.support.buses import publish_events
from tests.support.events import ended, label
from tests.support.paths import DEMO, DEPLOY, ROOT
from tests.support.recordings import RATE, write_wav
from workers.session.settings import SessionSettings

PUBLIC = ROOT / "workers" / "public"
PAGE = DEPLOY / "guide" / "python.md"
HEAVY = {"torch", "ray", "redis", "numpy", "av", "pydantic", "transformers", "onnxruntime"}


def program(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a program does that has Undertone beside it, and not the repository as its folder."""
    path = os.pathsep.join(map(str, (ROOT, PUBLIC)))
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """The first 13 s of the demo conversation, 16 bit."""
    audio = [block.samples for block in FileSource(DEMO, "split") if block.start < 13]
    return write_wav(tmp_path / "call.wav", np.concatenate(audio, 1), RATE)


@pytest.mark.integration
def test_importing_is_light(tmp_path: Path) -> None:
    done = program("import sys, undertone; undertone.__version__; dir(undertone); print(*sys.modules)", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not {name.partition(".")[0] for name in done.stdout.split()} & (HEAVY | {"model", "workers"})


def test_every_name_is_there_and_declared() -> None:
    tree = ast.parse((PUBLIC / "undertone" / "__init__.py").read_text())
    (declared,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname or alias.name for node in declared.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    bases = {"StreamError", "ModelError", "WorkersError"}
    assert names - bases | {"ERRORS", "__version__"} == set(undertone.__all__)
    for name in undertone.__all__:
        assert getattr(undertone, name) is not None and name in dir(undertone)
    union, *_ = get_args(undertone.Event)
    assert {kind.__name__ for kind in get_args(union)} <= set(undertone.__all__)
    assert undertone.Settings is SessionSettings and re.match(r"\d+\.\d+", undertone.__version__)
    for error in (undertone.MediaError, undertone.SessionError, undertone.UsageError, undertone.SessionNotFound):
        assert issubclass(error, undertone.ERRORS)
    with pytest.raises(AttributeError, match="no attribute 'Absent'"):
        undertone.Absent  # noqa: B018


@pytest.mark.integration
def test_the_page_runs_as_printed(call: Path, redis_url: str) -> None:
    """All of it in one program, which loads the models once."""
    fences = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(fences) == 5
    own = redis_url.removesuffix("/0") + "/7"  # other tests have a session of this name
    final = label("call", 0, revision=1, final=True, trigger="context", id="call:0:1")
    publish_events(own, [label("call", 0), final, ended("call")])
    steps = "\n".join(
        f"print('fence {number}', flush=True)\nexec({fence!r}, {{}})" for number, fence in enumerate(fences)
    )
    done = program(steps, call.parent, UNDERTONE_REDIS=own)
    assert done.returncode == 0, done.stderr
    recording, noise, pushed, subscribed, absent = re.split(r"^fence \d\n", done.stdout, flags=re.M)[1:]
    assert re.match(r" +\d+\.\d s  speaker 1: \w+", recording) and len(recording.splitlines()) >= 3
    assert noise.splitlines()[0] == "session.started" and "no speech was found" in noise
    assert len(pushed.splitlines()) == len(recording.splitlines())
    assert subscribed == "Ann joy Hi\n" and absent == "absent.wav: no such file\n"


@pytest.mark.integration
def test_live_sound_through_a_pipe() -> None:
    audio = np.concatenate([block.samples for block in FileSource(DEMO, "mix") if block.start < 13], 1)
    pcm = (audio * 32767).astype("<i2").tobytes()
    example = subprocess.run(
        [sys.executable, DEPLOY / "examples" / "listen.py"], input=pcm, timeout=280, check=False,
        capture_output=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, PUBLIC)))},
    )  # fmt: skip
    assert example.returncode == 0, example.stderr.decode()
    assert len(re.findall(r"^ +\d+\.\d s  speaker \d: \w+  '", example.stdout.decode(), re.M)) >= 3


@pytest.mark.integration
@pytest.mark.parametrize(("example", "code"), [("analyse.py", -signal.SIGINT), ("listen.py", 0)])
def test_control_c_ends_a_program_without_complaints(example: str, code: int) -> None:
    audio = np.concatenate([block.samples for block in FileSource(DEMO, "mix") if block.start < 13], 1)
    pcm = (audio * 32767).astype("<i2").tobytes()
    with subprocess.Popen(
        [sys.executable, DEPLOY / "examples" / example, DEMO], bufsize=0, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, PUBLIC))), "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        feeding = Thread(target=feed, args=(process.stdin, pcm))
        if example == "listen.py":
            feeding.start()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        told = process.stderr.read().decode()
        assert process.wait(60) == code, told
        if example == "listen.py":
            feeding.join()
    assert "never" not in told and told.count("Traceback") == told.count("KeyboardInterrupt\n") == (code != 0)


def feed(pipe: IO[bytes], pcm: bytes) -> None:
    """Sound that goes on for ever."""
    with suppress(BrokenPipeError):
        while True:
            pipe.write(pcm)
