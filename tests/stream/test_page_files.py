"""The files of the page: what it is made of lies there, unchanged, and nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

import stream

PAGE = Path(stream.__file__).parent / "dashboard"
VENDOR = PAGE / "vendor"
PACKAGES = tomllib.loads((VENDOR / "vendor.toml").read_text())["package"]
OWN = sorted(path for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".html"))


def test_libraries_are_those_that_were_published() -> None:
    """Also the list: another file, or one that was changed, is found."""
    listed = {file["to"]: file["sha256"] for package in PACKAGES for file in package["files"]}
    there = {path.relative_to(VENDOR).as_posix(): path for path in VENDOR.rglob("*") if path.is_file()}
    assert there.keys() == listed.keys() | {"vendor.toml"}
    assert {name: hashlib.sha256(there[name].read_bytes()).hexdigest() for name in listed} == listed


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_every_library_has_its_license(package) -> None:
    assert package["license"] in ("MIT", "Apache-2.0")
    assert any(file["to"].startswith("LICENSE.") for file in package["files"])


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path) -> None:
    """And every module and style that a file names is there."""
    text = path.read_text()
    assert not re.search(r"""(?:src|href|from|import|url)\s*[=( ]\s*["']?(?:https?:)?//""", text)
    for name in re.findall(r'from "(\./[^"]+)"', text) + re.findall(r'(?:src|href)="/static/([^"]+)"', text):
        assert (PAGE / name).is_file(), name
