"""The locks: every package by its hash, in the version of constraints.txt."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from model.encoders.manifest import manifest
from tests.support.paths import ROOT

WEIGHTS = ("whisper", "whisper-tiny")  # extras
AGENTS = ("pipecat", "livekit")  # extras for an environment that has little else
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")
PYTHONS = ("3.11.2", "3.11", "3.12", "3.13")  # the first is Debian 12's


def name(text: str) -> str:
    """As PyPI compares them."""
    return re.sub(r"[-_.]+", "-", text).lower()


def pins(file: str, python: str = "3.11") -> dict[str, str]:
    """Versions by package that a file asks for on Linux under a Python."""
    lines = [line.removesuffix("\\") for line in (ROOT / file).read_text().splitlines() if PIN.match(line)]
    wanted = [each for line in lines if applies(each := Requirement(line), python)]
    return {name(each.name): str(each.specifier).removeprefix("==") for each in wanted}


def applies(package: Requirement, python: str = "3.11") -> bool:
    """True if Linux under a Python needs a package."""
    full = python if python.count(".") == 2 else f"{python}.9"
    places = {"python_version": python[:4], "python_full_version": full, "sys_platform": "linux"}
    return package.marker is None or package.marker.evaluate(places)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "lock",
    [
        "requirements.lock",
        "requirements-dev.lock",
        "requirements-light.lock",
        "requirements-agents.lock",
    ],
)
def test_every_package_is_hashed_and_as_constrained(lock: str, python: str) -> None:
    text = (ROOT / lock).read_text()
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M) if entry.strip())
    chosen, constrained = pins(lock, python), pins("constraints.txt", python)
    wrong = {each: version for each, version in chosen.items() if constrained.get(each, version) != version}
    assert not wrong, f"{wrong}: make lock"
    # pip freeze does not tell of the first two; the third is for Python 3.11.2, Debian's.
    assert chosen.keys() - constrained.keys() <= {"pip", "setuptools", "async-timeout"}, "make lock"
    assert "torch" not in chosen and not [each for each in chosen if each.startswith("nvidia")]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_have_what_the_project_asks_for(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = {"requirements.lock": ("prosody",), "requirements-dev.lock": (*extras.keys() - {*WEIGHTS, *AGENTS},)}
    for lock, wanted in asked.items():
        asked_for = map(Requirement, (*project["dependencies"], *(each for extra in wanted for each in extras[extra])))
        needed = {name(each.name) for each in asked_for if applies(each, python)} - {"torch"}
        assert needed <= pins(lock, python).keys(), f"{lock}: make lock"
    user, developer = pins("requirements.lock", python), pins("requirements-dev.lock", python)
    assert user.items() <= developer.items()
    assert not user.keys() & {"scikit-learn", "scipy", "sentence-transformers"}, "too large for what it is used for"


@pytest.mark.parametrize("extra", [*WEIGHTS, "text"])
def test_what_strangers_packed_is_in_a_lock_of_its_own(extra: str) -> None:
    """It may be gone tomorrow, and then all else shall still be installed."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = (described["project"]["optional-dependencies"] | described["dependency-groups"])[extra]
    lock = f"requirements-{extra}.lock"
    assert {f"{each}=={version}" for each, version in pins(lock).items()} == set(packages)
    assert (ROOT / lock).read_text().count("--hash=sha256:") >= len(packages)
    others = pins("requirements.lock").keys() | pins("requirements-dev.lock").keys()
    assert not pins(lock).keys() & others
    carried = {part.partition("/")[0] for model in manifest().values() for file in model.files for part in file.parts}
    assert pins(lock).keys() <= carried


def test_the_torch_is_the_same_everywhere() -> None:
    (wanted,) = (
        each
        for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if each.startswith("torch")
    )
    for file in ("deploy/install-torch.sh", "deploy/README.md"):
        found = set(re.findall(r"torch==[\d.]+", (ROOT / file).read_text()))
        assert found == {wanted}, file
