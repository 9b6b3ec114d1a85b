"""Which utterances have been told of while they go on, and when the next telling is due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stream.block import Utterance


@dataclass
class Told:
    """An utterance that goes on and has a number."""

    number: int
    utterance: Utterance
    count: int = 0
    next_at: float = 0.0
    """Seconds of the utterance at which it is told of again."""


class Interims:
    """By channel, start and given speaker, which an utterance keeps as it grows."""

    def __init__(self, every: float) -> None:
        """every: seconds of speech between tellings; 0 = never."""
        self._every = every
        self._told: dict[tuple[int, float, str | None], Told] = {}

    def grown(self, going_on: list[Utterance]) -> list[Utterance]:
        """Those that have become long enough to be told of, and have no number yet.

        By media time alone, whether or not there is time to tell: so a replay numbers utterances as the last one did.
        """
        long = [u for u in going_on if self._every and u.end - u.start >= self._every]
        return [utterance for utterance in long if _key(utterance) not in self._told]

    def due(self, going_on: list[Utterance]) -> Utterance | None:
        """The utterance to be told of now, if any."""
        for utterance in going_on:
            told = self._told.get(_key(utterance))
            if told is not None and utterance.end - utterance.start >= told.next_at:
                return utterance
        return None

    def goes_on(self, utterance: Utterance) -> bool:
        """Whether an utterance has a number and has not ended."""
        return _key(utterance) in self._told

    def reserve(self, utterance: Utterance, number: int) -> None:
        """Tell of an utterance under this number."""
        self._told[_key(utterance)] = Told(number, utterance)

    def tell(self, utterance: Utterance) -> tuple[int, int]:
        """Count one more telling; returns the utterance's number and which telling it is, from 0."""
        told = self._told[_key(utterance)]
        told.count, told.utterance = told.count + 1, utterance
        told.next_at = (1 + (utterance.end - utterance.start) // self._every) * self._every
        return told.number, told.count - 1

    def close(self, utterance: Utterance) -> int | None:
        """The utterance has ended; the number that was reserved for it."""
        told = self._told.pop(_key(utterance), None)
        return None if told is None else told.number

    @property
    def told(self) -> list[Told]:
        """All that have a number."""
        return list(self._told.values())

    def restore(self, told: Iterable[Told]) -> None:
        """Those that another process has told of."""
        self._told = {_key(each.utterance): each for each in told}

    def vanished(self, going_on: list[Utterance]) -> list[tuple[int, Utterance]]:
        """What has a number and neither ended nor goes on (steady noise): the number, and what was heard of it."""
        here = {_key(utterance) for utterance in going_on}
        gone = [key for key in self._told if key not in here]
        return [(told.number, told.utterance) for told in (self._told.pop(key) for key in gone)]


def _key(utterance: Utterance) -> tuple[int, float, str | None]:
    return utterance.channel, utterance.start, utterance.speaker
