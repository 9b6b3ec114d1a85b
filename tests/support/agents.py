"""Packages of agents, which are there where `make install-dev` was (requirements-agents.lock)."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def importing(package: str) -> Iterator[None]:
    """Imports of a package: the test's module is skipped where it is not, but in CI; nothing is left changed.

    Pipecat has another `asyncio.wait_for` on Python 3.11, which other tests of this process shall not have.
    """
    if importlib.util.find_spec(package) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{package} is not here, and CI has it (requirements-agents.lock)", pytrace=False)
        pytest.skip(f"{package} is not here: make install-dev", allow_module_level=True)
    wait_for = asyncio.wait_for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    asyncio.wait_for = wait_for
