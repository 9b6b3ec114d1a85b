"""Progress of long work: a bar on a terminal, a line now and then elsewhere, curves for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from workers.console.terminal import Terminal

QUIET_S = 30.0  # seconds between two lines about the same work where there is no terminal


class ConsoleProgress:
    """Implements `model.progress.Progress` on stderr; use it as a context."""

    def __init__(self, bar: Progress, console: Terminal, writer: Any = None) -> None:
        self._bar, self._console, self._writer = bar, console, writer
        self._task: TaskID | None = None
        self._what = ""
        self._last = 0.0

    def tell(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def step(self, task: str, done: int, total: int) -> None:
        if not self._console.is_terminal:
            if done < total and time.monotonic() - self._last >= QUIET_S:
                self._last = time.monotonic()
                self.tell(f"{task}: {done} of {total}")
            return
        if self._task is None:
            self._task = self._bar.add_task("", total=total)
        elif task != self._what:
            self._bar.reset(self._task, total=total)
        self._what = task
        self._bar.update(self._task, description=task, completed=done, total=total)

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        if self._writer is not None:
            for label, value in values.items():
                self._writer.add_scalar(f"{label}/{name}", value, step)


class Waiting:
    """The line that says what a command waits for before it is at work, with the time that it has taken."""

    def __init__(self, length: float | None = None) -> None:
        """length: seconds of media in all, None = unknown."""
        self._since = self._told = time.monotonic()
        self._parts = ["models"]
        self._length = length
        self._listened: float | None = None

    def changed(self, loaded: dict[str, bool]) -> None:
        """Take note of what is loaded, and what not yet."""
        self._parts = [name for name, is_loaded in loaded.items() if not is_loaded]

    def listened_to(self, seconds: float | None) -> None:
        """Take note of how far a first pass is; None: it is over."""
        self._listened = seconds

    def line(self) -> str:
        """The line; "" when nothing is waited for."""
        parts = [f"loading {', '.join(self._parts)}"] if self._parts else []
        if self._listened is not None:
            parts.append(self._first_pass(self._listened))
        return f"{'; '.join(parts)} ({time.monotonic() - self._since:.0f} s)" if parts else ""

    def log_line(self) -> str:
        """Progress of a first pass, where there is no terminal and it is time to say so again; else ""."""
        if self._listened is None or Terminal(stderr=True).is_terminal or time.monotonic() - self._told < QUIET_S:
            return ""
        self._told = time.monotonic()
        return self._first_pass(self._listened)

    def _first_pass(self, seconds: float) -> str:
        done = f"{min(seconds, self._length):.0f} of {self._length:.0f} s" if self._length else f"{seconds:.0f} s"
        return f"listening for who speaks: {done}"


@contextmanager
def waiting_for(text: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is waited for, and how long, as long as the context lasts: on a terminal alone.

    Yields what replaces the text.
    """
    console = Terminal(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False,
                  disable=not console.is_terminal) as bar:  # fmt: skip
        task = bar.add_task(text, total=None)
        yield lambda new: bar.update(task, description=new)


@contextmanager
def console_progress(logs: Path | None = None) -> Iterator[ConsoleProgress]:
    """Progress on stderr for as long as the context lasts; with `logs`, curves for `tensorboard --logdir`."""
    console = Terminal(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    writer = None
    if logs is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(logs))
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            yield ConsoleProgress(bar, console, writer)
    finally:
        if writer is not None:
            writer.close()
