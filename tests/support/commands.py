"""The command line: as a process, or in this process; and what it prints, read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from workers.cli.app import app

UNDERTONE = str(Path(sys.executable).parent / "undertone")


def undertone(
    *arguments: object, timeout: float = 240, encoding: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [UNDERTONE, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding=encoding,
        timeout=timeout,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )


def here(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported already what it takes: for whatever starts no Ray and no session."""
    command = [str(argument) for argument in arguments]
    done = CliRunner(env=environment).invoke(app, command)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception  # a process would print a traceback
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


def events(done: subprocess.CompletedProcess[str]) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def labels(lines: list[dict], revision: int = 0) -> list[dict]:
    """Provisional or final labels; without those of utterances that still go on."""
    emotions = [event for event in lines if event["type"] == "emotion" and event["trigger"] != "interval"]
    return [event for event in emotions if event["revision"] == revision]


def read_back(url: str, session: str) -> list[dict]:
    """By a client that shares no code with us: redis-cli."""
    keys = subprocess.run(
        ["redis-cli", "-u", url, "--json", "XRANGE", f"undertone:{{{session}}}:events", "-", "+"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        json.loads(dict(zip(fields[::2], fields[1::2], strict=True))["event"]) for _, fields in json.loads(keys.stdout)
    ]
