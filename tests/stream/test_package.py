"""The package's own interface: what it exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

import stream
from stream import events
from tests.conftest import ROOT


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.integration
@pytest.mark.parametrize(
    ("statement", "packages"),
    [("import stream", {"stream"}), ("import stream.block", {"stream", "numpy"})],
)
def test_importing_is_light(statement: str, packages: set[str]) -> None:
    loaded = modules_after(statement) - modules_after(f"import {'numpy' if 'numpy' in packages else 'typing'}")
    assert not {name.partition(".")[0] for name in loaded} & {"redis", "av", "pydantic", "torch", "ray", "requests"}
    assert len(loaded) < 60, sorted(loaded)
    assert {name for name in loaded if name.startswith("stream")} <= {"stream", "stream.block"}


def test_every_event_type_is_exported() -> None:
    union, *_ = get_args(stream.Event)
    assert {kind.__name__ for kind in get_args(union)} <= set(stream.__all__)
    for name in stream.__all__:
        assert getattr(stream, name) is not None and name in dir(stream)
    assert stream.Emotion is events.Emotion and stream.parse is events.parse
    assert stream.__all__ == sorted(stream.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Absent'"):
        stream.Absent  # noqa: B018
