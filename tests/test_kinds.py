"""The suite itself."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import KINDS
from tests.support.paths import ROOT


def test_every_test_is_of_exactly_one_kind(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        kinds = {marker.name for marker in item.iter_markers()} & set(KINDS)
        assert len(kinds) == 1, f"{item.nodeid}: {kinds}"


def test_no_test_module_imports_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
                assert ".test_" not in f"{node.module}.", f"{path}: what tests share is in tests/support"
