"""The locks: every package by its hash, in the version of constraints.txt."""

from __future__ import annotations

import re
import tomllib

import pytest

from model.encoders.manifest import manifest
from tests.support.paths import ROOT

WEIGHTS = ("whisper", "whisper-tiny")  # extras
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")


def name(text: str) -> str:
    """As PyPI compares them."""
    return re.sub(r"[-_.]+", "-", text).lower()


def pins(file: str) -> dict[str, str]:
    return {name(pin[1]): pin[2] for line in (ROOT / file).read_text().splitlines() if (pin := PIN.match(line))}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_package_is_hashed_and_as_constrained(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M) if entry.strip())
    chosen, constrained = pins(lock), pins("constraints.txt")
    wrong = {each: version for each, version in chosen.items() if constrained.get(each, version) != version}
    assert not wrong, f"{wrong}: make lock"
    # pip freeze does not tell of the first two; the third is for Python 3.11.2, Debian's.
    assert chosen.keys() - constrained.keys() <= {"pip", "setuptools", "async-timeout"}, "make lock"
    assert "torch" not in chosen and not [each for each in chosen if each.startswith("nvidia")]


def test_the_locks_have_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = {"requirements.lock": ("prosody", "serve", "export"), "requirements-dev.lock": (*extras.keys() - WEIGHTS,)}
    for lock, wanted in asked.items():
        needed = {re.split(r"[<>=]", each)[0] for each in project["dependencies"]} - {"torch"}
        needed |= {re.split(r"[<>=]", each)[0] for extra in wanted for each in extras[extra]}
        assert {name(each) for each in needed} <= pins(lock).keys(), f"{lock}: make lock"
    user, developer = pins("requirements.lock"), pins("requirements-dev.lock")
    assert user.items() <= developer.items()


@pytest.mark.parametrize("extra", WEIGHTS)
def test_what_strangers_packed_is_in_a_lock_of_its_own(extra: str) -> None:
    """It may be gone tomorrow, and then all else shall still be installed."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    lock = f"requirements-{extra}.lock"
    assert {f"{each}=={version}" for each, version in pins(lock).items()} == set(packages)
    assert (ROOT / lock).read_text().count("--hash=sha256:") >= len(packages)
    others = pins("requirements.lock").keys() | pins("requirements-dev.lock").keys()
    assert not pins(lock).keys() & others
    carried = {part.partition("/")[0] for model in manifest().values() for file in model.files for part in file.parts}
    assert pins(lock).keys() <= carried
