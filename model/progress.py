"""How long work says how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Whoever watches long work: a terminal, a log, nobody."""

    def tell(self, message: str) -> None:
        """Something worth a line that stays."""

    def step(self, task: str, done: int, total: int) -> None:
        """`done` of `total` steps of `what`."""

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        """Points of learning curves."""


class Silent:
    """Nobody watches."""

    def tell(self, message: str) -> None:
        pass

    def step(self, task: str, done: int, total: int) -> None:
        pass

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        pass
