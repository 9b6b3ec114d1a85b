"""Progress reports of long work."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receiver of progress reports: a terminal, a log, or none."""

    def tell(self, message: str) -> None:
        """Print or log a line that stays."""

    def step(self, task: str, done: int, total: int) -> None:
        """Report that `done` of `total` steps of `task` are finished."""

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the learning curves in `values`, at `step`."""


class Silent:
    """Receiver that drops all reports."""

    def tell(self, message: str) -> None:
        pass

    def step(self, task: str, done: int, total: int) -> None:
        pass

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        pass
