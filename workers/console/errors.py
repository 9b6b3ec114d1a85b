"""How commands end when something is wrong: one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

RUNTIME, USAGE, INTERRUPTED = 1, 2, 130


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Errors we foresee become one line and an exit code: 2 for what the user asked, 1 for what happened."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise fail(f"{error.filename}: {error.strerror}", USAGE) from None
    except ModuleNotFoundError as error:
        raise fail(f"{error.name} is not installed: pip install 'undertone[serve,export,train,bench]'", USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output is gone; Python shall not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(RUNTIME) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):  # said already, or Typer will
        raise
    except Exception as error:
        code = _foreseen(error)
        if code is None:
            raise
        raise fail(error, code) from None


@contextmanager
def redis_errors() -> Iterator[None]:
    """What Redis refuses becomes one line and exit code 1."""
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise fail(f"Redis: {error}", RUNTIME) from None


def _foreseen(error: Exception) -> int | None:
    """The exit code of an error of ours: each of their classes has its own."""
    from redis.exceptions import RedisError

    code: int | None = getattr(error, "exit_code", None)
    return RUNTIME if code is None and isinstance(error, RedisError) else code


def development_data() -> Path:
    """$UNDERTONE_DATA. Raises typer.Exit when it is not set."""
    folder = os.environ.get("UNDERTONE_DATA")
    if not folder:
        raise fail("set UNDERTONE_DATA to the folder of development data, or give --data", USAGE)
    return Path(folder)


def fail(error: Exception | str, code: int) -> typer.Exit:
    print(f"undertone: {error}", file=sys.stderr)
    return typer.Exit(code)
