"""The scripts of `make install`, with programs in the place of Python and pip that note how they are called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)
    return path


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/bash", str(ROOT / "deploy" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that alone is $PATH, with what the scripts use besides Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", "basename", "env", "cat"):
        (folder / name).symlink_to(f"/bin/{name}")
    return folder


@pytest.mark.parametrize(
    ("here", "asked", "found"),
    [
        ({"3.13": 0, "3.11": 0}, "", "python3.13"),
        ({"3.13": 1, "3.12": 0, "3.11": 0}, "", "python3.12"),  # no venv, or a name of pyenv's that is no version
        ({"3.13": 0, "3.11": 0}, "python3.11", "python3.11"),
        ({"3.13": 0}, "python3.11", None),
        ({"3.13": 1}, "", None),
        ({}, "", None),
    ],
)
def test_the_newest_python_that_can_make_an_environment_is_found(
    programs: Path, here: dict[str, int], asked: str, found: str | None
) -> None:
    for version, code in here.items():
        program(programs / f"python{version}", f"exit {code}")
    done = run("find-python.sh", PATH=str(programs), PYTHON=asked, HOME=str(programs))
    assert (done.stdout.strip() or None, done.returncode) == (found, 0 if found else 1)


@pytest.mark.parametrize(
    ("index", "starts_with", "expected"),
    [
        ("yes", "cpu", ["cpu"]),
        ("no", "plain", ["cpu", "plain"]),
        ("no", "libraries", ["cpu", "plain", "libraries"]),
        ("yes", "nothing", ["cpu", "libraries"]),
        ("yes", "before", []),
    ],
)
def test_torch_ends_with_one_that_can_be_imported(
    tmp_path: Path, index: str, starts_with: str, expected: list[str]
) -> None:
    """index: that of CPU builds answers; starts_with: the installation after which `import torch` works."""
    log = tmp_path / "log"
    log.write_text("before\n")
    python = program(
        tmp_path / "python",
        f"""if [[ $1 == -c ]]; then grep -qx {starts_with} {log} || {{ echo libcudart >&2; exit 1; }}; exit; fi
        case "$*" in
        *--index-url*) echo cpu >> {log}; [[ {index} == yes ]];;
        *--no-deps*) echo plain >> {log};;
        *) echo libraries >> {log};;
        esac""",
    )
    done = run("install-torch.sh", str(python), PATH=os.environ["PATH"])
    assert log.read_text().split()[1:] == expected
    assert done.returncode == (starts_with == "nothing"), done.stderr


@pytest.mark.parametrize("server", ["redis-server", "valkey-server", None])
def test_without_apt_it_is_said_what_to_install(programs: Path, server: str | None) -> None:
    program(programs / "python3.12", "exit 0")
    if server:
        program(programs / server, "")
    done = run("install-system-packages.sh", PATH=str(programs), HOME=str(programs))
    assert (done.returncode, done.stdout) == (0 if server else 1, "")
    assert ("needs a Redis server (6.2 or later); macOS: brew install" in done.stderr) is (server is None)
