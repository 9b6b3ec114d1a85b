"""A user's own Redis for a test: in folders of its own, and ended with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.bus.own_server import stop


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folders, of whom no server runs."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("UNDERTONE_REDIS", raising=False)
    yield tmp_path
    stop()
