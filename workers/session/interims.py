"""Schedule of the words and labels that are told of utterances while they go on.

All times are seconds of speech, from an utterance's onset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stream.block import Utterance
from workers.session.agreement import Agreement

# Longer than what the segmenter drops as too short, so that a number is seldom given out for nothing.
FIRST_WORDS_S = 0.5
WORDS_INTERVAL_S = 1.0


@dataclass
class InterimState:
    """An utterance that goes on and has a number."""

    number: int
    utterance: Utterance
    count: int = 0
    next_at: float = 0.0
    """When its label is due."""
    next_words: float = FIRST_WORDS_S
    """When its words are due."""
    agreement: Agreement = field(default_factory=Agreement)
    """Agreement of the words told so far."""
    speaker: str | None = None
    """The speaker as last guessed."""


@dataclass(frozen=True)
class Interim:
    """One telling of an utterance that goes on."""

    told: InterimState
    utterance: Utterance
    """Up to then."""
    count: int
    """Tellings before this one."""
    label: bool
    """A label is due, not words alone."""


class Interims:
    """By channel, start and given speaker, which an utterance keeps as it grows."""

    def __init__(self, every: float, words: bool) -> None:
        """every: seconds of speech between labels; 0 = nothing is told. words: they are told too, more often."""
        self._every, self._words = every, words
        self._first = FIRST_WORDS_S if words else max(FIRST_WORDS_S, every)
        self._told: dict[tuple[int, float, str | None], InterimState] = {}

    def grown(self, going_on: list[Utterance]) -> list[Utterance]:
        """Those that have become long enough to be told of, and have no number yet.

        By media time alone, whether or not there is time to tell: so a replay numbers utterances as the last one did.
        """
        long = [u for u in going_on if self._every and u.spoken >= self._first]
        return [utterance for utterance in long if _key(utterance) not in self._told]

    def due(self, going_on: list[Utterance], words: bool = True) -> Utterance | None:
        """The utterance to be told of now, if any: the one due for longest. words: also if these alone are."""
        known = [utterance for utterance in going_on if self.goes_on(utterance)]
        due = max(known, key=lambda utterance: self._overdue(utterance, words), default=None)
        return due if due is not None and self._overdue(due, words) >= 0 else None

    def _overdue(self, utterance: Utterance, words: bool) -> float:
        told = self._told[_key(utterance)]
        return utterance.spoken - (min(told.next_at, told.next_words) if words and self._words else told.next_at)

    def goes_on(self, utterance: Utterance) -> bool:
        """Whether an utterance has a number and has not ended."""
        return _key(utterance) in self._told

    def reserve(self, utterance: Utterance, number: int) -> None:
        """Tell of an utterance under this number."""
        self._told[_key(utterance)] = InterimState(number, utterance, next_at=self._every)

    def tell(self, utterance: Utterance) -> Interim:
        """Count one more telling."""
        told, spoken = self._told[_key(utterance)], utterance.spoken
        interim = Interim(told, utterance, told.count, label=spoken >= told.next_at)
        told.count, told.utterance = told.count + 1, utterance
        told.next_words = (1 + spoken // WORDS_INTERVAL_S) * WORDS_INTERVAL_S
        if interim.label:
            told.next_at = (1 + spoken // self._every) * self._every
        return interim

    def close(self, utterance: Utterance) -> int | None:
        """The utterance has ended; the number that was reserved for it."""
        told = self._told.pop(_key(utterance), None)
        return None if told is None else told.number

    @property
    def told(self) -> list[InterimState]:
        """All that have a number."""
        return list(self._told.values())

    def restore(self, told: Iterable[InterimState]) -> None:
        """Those that another process has told of."""
        self._told = {_key(each.utterance): each for each in told}

    def vanished(self, going_on: list[Utterance]) -> list[tuple[int, Utterance]]:
        """What has a number and neither ended nor goes on (steady noise): the number, and what was heard of it."""
        here = {_key(utterance) for utterance in going_on}
        gone = [key for key in self._told if key not in here]
        return [(told.number, told.utterance) for told in (self._told.pop(key) for key in gone)]


def _key(utterance: Utterance) -> tuple[int, float, str | None]:
    return utterance.channel, utterance.start, utterance.speaker
