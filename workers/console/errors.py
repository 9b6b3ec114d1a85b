"""Ends of commands that fail: one line on stderr and an exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from workers.console.terminal import harmless
from workers.errors import not_installed

if TYPE_CHECKING:
    from pydantic import ValidationError

RUNTIME, USAGE, INTERRUPTED = 1, 2, 130
MAX_LINE_CHARACTERS = 1000  # what is longer repeats some input


def run_until_interrupted(work: Coroutine[object, object, None], started: Callable[[], object] | None = None) -> None:
    """Run a coroutine that has no end of its own; SIGINT and SIGTERM cancel it. Raises typer.Exit in that case.

    started: called once these signals are listened to, to say that the command is at work.
    """

    async def run() -> bool:
        from stream.bus.tasks import cancelled

        interrupted = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
        if started is not None:
            started()
        working, waiting = asyncio.create_task(work), asyncio.create_task(interrupted.wait())
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if working.done():
            working.result()
        await cancelled(working)
        return interrupted.is_set()

    if asyncio.run(run()):
        raise typer.Exit(INTERRUPTED)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an expected error into one line and its class's `exit_code`: 2 for what the user asked, 1 for what happened.

    Raises typer.Exit, and unexpected errors as they are.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise fail(f"{error.filename}: {error.strerror}", USAGE) from None
    except ModuleNotFoundError as error:
        raise fail(not_installed(str(error.name)), USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output is gone; Python shall not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(RUNTIME) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):  # said already, or Typer will
        raise
    except Exception as error:
        from redis.exceptions import RedisError

        from stream.bus.connection import reason

        if isinstance(error, RedisError):
            raise fail(f"Redis: {reason(error)}", RUNTIME) from None
        code: int | None = getattr(error, "exit_code", None)
        if code is None:
            raise
        raise fail(error, code) from None


def plain(error: ValidationError) -> str:
    """The first fault of an option's value, in plain words."""
    first = error.errors()[0]
    given, limits = first["input"], first.get("ctx", {})
    match first["type"]:
        case "int_parsing" | "int_from_float":
            wanted = "a whole number"
        case "float_parsing":
            wanted = "a number"
        case "greater_than_equal":
            wanted = f"at least {limits['ge']:g}"
        case "less_than_equal":
            wanted = f"at most {limits['le']:g}"
        case "literal_error":
            wanted = str(limits["expected"]).replace("'", "")
        case "value_error":
            return str(limits["error"]).removesuffix(".")
        case _:
            wanted = str(first["msg"]).removeprefix("Input should be ")
    return f"{wanted}, not {f'{given:g}' if isinstance(given, float) else repr(given)}"


def development_data() -> Path:
    """$UNDERTONE_DATA. Raises typer.Exit when it is not set."""
    folder = os.environ.get("UNDERTONE_DATA")
    if not folder:
        raise fail("set UNDERTONE_DATA to the folder of development data, or give --data", USAGE)
    return Path(folder)


def fail(error: Exception | str, code: int) -> typer.Exit:
    """Print an error as one line, and return what a command raises to end with `code`."""
    from stream.errors import one_line

    print(harmless(f"undertone: {one_line(str(error), MAX_LINE_CHARACTERS)}"), file=sys.stderr)
    return typer.Exit(code)
