"""A few of every kind of bad input, in this process; `make fuzz` has a hundred thousand, in processes that may die."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import entries, rest, sockets
from tests.fuzz.__main__ import SHARES
from tests.fuzz.served import served
from tests.fuzz.target import Target, outcome, run

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # of what it takes to show
SEED = int(os.environ.get("UNDERTONE_FUZZ_SEED", "7"))
ALONE = sorted(set(SHARES) - {"entries", "rest", "sockets"})
"""Those that need neither Redis nor Ray."""


def few(target: Target, count: int) -> None:
    print(f"seed {SEED}")  # shown when it fails
    outcomes: set[str] = set()

    def each(given: Any) -> None:
        outcomes.add(outcome(target, given))

    run(target, count, SEED, each)
    assert outcomes


@pytest.mark.parametrize("name", ALONE)
def test_files_and_messages(tmp_path: Path, name: str) -> None:
    with importlib.import_module(f"tests.fuzz.{name}").opened(tmp_path) as target:
        few(target, 150)


def test_a_stream_with_garbage(redis_url: str) -> None:
    with entries.using(redis_url) as target:
        few(target, 15)


def test_requests_and_sockets(tmp_path: Path) -> None:
    with served(tmp_path) as there:
        with rest.using(there) as target:
            few(target, 60)
        with sockets.using(there) as target:
            few(target, 20)
