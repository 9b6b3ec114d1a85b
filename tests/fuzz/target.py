"""What is fuzzed, and what a refusal has to look like."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from model.errors import ModelError
from stream.errors import one_line

LONGEST = 500  # characters of a message that is still one clear line


class Refusal(Exception):
    """A refusal that is no exception of ours: an HTTP status, a close code. The message is what is counted."""


class Wrong(Exception):
    """Neither taken nor refused as it should be."""


@dataclass(frozen=True)
class Target:
    """Something that takes input from outside."""

    inputs: SearchStrategy[Any]
    take: Callable[[Any], object]
    """Raises one of `refusals`, and nothing else, for what it cannot take."""
    refusals: tuple[type[Exception], ...] = ()
    """Documented exceptions whose message is one line for the user."""
    details: tuple[type[Exception], ...] = ()
    """Documented exceptions for programs, which may say more."""
    processes: Callable[[], Sequence[int]] = tuple
    """Ids of the processes that do the work, if it is not this one: their memory counts."""
    also: Callable[[], str] = str
    """What else there is to say of the inputs."""


Opened = Callable[[Path], AbstractContextManager[Target]]
"""A target, ready, in a folder that it may fill."""


def outcome(target: Target, given_: Any) -> str:
    """ "taken", or how it was refused. Raises whatever else comes out."""
    try:
        target.take(given_)
    except Refusal as error:
        return str(error)
    except target.details as error:
        return type(error).__name__
    except target.refusals as error:
        # model/ knows nothing of terminals: what shows its errors puts them into one line.
        message = one_line(str(error)) if isinstance(error, ModelError) else str(error)
        if not message or not message.isprintable() or len(message) > LONGEST:
            raise Wrong(f"{type(error).__name__} with a message that is no line: {message[:2000]!r}") from error
        return type(error).__name__
    return "taken"


def run(target: Target, count: int, seed_: int, each: Callable[[Any], None]) -> None:
    """Hand `count` inputs to `each`, the same ones for the same seed."""
    settled(target, count, seed_, each)()


def settled(target: Target, count: int, seed_: int, each: Callable[[Any], None]) -> Any:
    """A test of Hypothesis that does so."""

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(seed_)
    @given(target.inputs)
    def one(given_: Any) -> None:
        each(given_)

    return one


def where(error: BaseException) -> str:
    """An error and the place that raised it, in a line: two inputs with the same one found the same."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).parts[-2:-1] != ("fuzz",)] or frames
    return f"{type(error).__name__} at {'/'.join(Path(ours[-1].filename).parts[-2:])}:{ours[-1].lineno}"
