"""One table of errors: each class of ours says how a command exits and what the gateway answers."""

from __future__ import annotations

import ast
import importlib
import pickle
from collections.abc import Iterator

import pytest

from model.errors import ModelError
from stream.errors import InputError, StreamError, one_line
from tests.conftest import ROOT
from workers.errors import UsageError, WorkersError

BASES: dict[str, type[Exception]] = {"stream": StreamError, "model": ModelError, "workers": WorkersError}


def errors(package: str) -> Iterator[type[Exception]]:
    """The exceptions that a package's modules define."""
    for path in sorted((ROOT / package).rglob("*.py")):
        names = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        if any(name.endswith(("Error", "Refused", "Forget")) or "Exception" in path.read_text() for name in names):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for name in names:
                found = getattr(module, name, None)
                if isinstance(found, type) and issubclass(found, Exception):
                    yield found


@pytest.mark.parametrize("package", BASES)
def test_every_error_has_the_package_s_base(package: str) -> None:
    found = list(errors(package))
    assert len(found) > 3 and not [error for error in found if not issubclass(error, BASES[package])]
    assert all(error.exit_code in (1, 2) and 400 <= error.http_status < 600 for error in found)  # type: ignore[attr-defined]


def test_what_the_user_asked_is_told_from_what_happened() -> None:
    assert (UsageError.exit_code, UsageError.http_status) == (2, 422)
    assert (InputError.exit_code, InputError.http_status) == (2, 422)
    assert (StreamError.exit_code, StreamError.http_status) == (1, 503)


def test_a_message_is_one_line_whatever_it_repeats() -> None:
    error = StreamError("a\nb\x1b[31m\udcff" + "x" * 10_000)
    assert str(error).isprintable() and len(str(error)) < 500 and str(error).startswith("a\\nb\\x1b")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(one_line("y" * 600, limit=1000)) == 600
