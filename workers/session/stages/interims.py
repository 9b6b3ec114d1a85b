"""Schedule of the words and labels of utterances that go on.

All times are seconds of speech, from an utterance's onset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stream.block import Utterance
from workers.session.stages.agreement import Agreement
from workers.session.utterance import Words

# Longer than what the segmenter drops as too short, so that a number is seldom given out for nothing.
FIRST_WORDS_S = 0.5
WORDS_INTERVAL_S = 1.0


Key = tuple[int, float, str | None, int | None]


@dataclass
class InterimState:
    """An utterance that goes on and has a number."""

    number: int
    utterance: Utterance
    count: int = 0
    """Interims so far."""
    next_at: float = 0.0
    """Time of the next label."""
    next_words: float = FIRST_WORDS_S
    """Time of the next words."""
    agreement: Agreement = field(default_factory=Agreement)
    """Agreement of the words so far."""
    speaker: str | None = None
    """The speaker as last guessed."""
    words: Words | None = None
    """The last words that were recognized; in no snapshot, for they may be neither masked nor redacted."""


@dataclass(frozen=True)
class Interim:
    """Words, or words and a label, that are due now."""

    state: InterimState
    utterance: Utterance
    """Up to now."""
    count: int
    """Interims before this one."""
    label: bool
    """A label is due, not words alone."""


class Interims:
    """Utterances that go on, by what an utterance keeps as it grows: channel, start, given and local speaker."""

    def __init__(self, interval: float, words: bool) -> None:
        """interval: seconds of speech between labels; 0 = no interims. words: they are due too, more often."""
        self._interval, self._words = interval, words
        self._first = FIRST_WORDS_S if words else max(FIRST_WORDS_S, interval)
        self._states: dict[Key, InterimState] = {}

    def newly_long(self, ongoing: list[Utterance]) -> list[Utterance]:
        """Utterances that have become long enough for interims, and have no number yet.

        By media time alone, whether or not there is time for interims: so a replay numbers utterances as the last one
        did.
        """
        long = [u for u in ongoing if self._interval and u.spoken >= self._first]
        return [utterance for utterance in long if _key(utterance) not in self._states]

    def next_due(self, ongoing: list[Utterance], words: bool = True) -> Utterance | None:
        """The utterance whose interim has been due for longest, if any. words: also if words alone are due."""
        numbered = [utterance for utterance in ongoing if self.goes_on(utterance)]
        due = max(numbered, key=lambda utterance: self._overdue(utterance, words), default=None)
        return due if due is not None and self._overdue(due, words) >= 0 else None

    def _overdue(self, utterance: Utterance, words: bool) -> float:
        state = self._states[_key(utterance)]
        return utterance.spoken - (min(state.next_at, state.next_words) if words and self._words else state.next_at)

    def goes_on(self, utterance: Utterance) -> bool:
        """True for an utterance that has a number and has not ended."""
        return _key(utterance) in self._states

    def reserve(self, utterance: Utterance, number: int) -> None:
        """Give an utterance its number."""
        self._states[_key(utterance)] = InterimState(number, utterance, next_at=self._interval)

    def count_interim(self, utterance: Utterance) -> Interim:
        """The interim that is due, which counts from now on."""
        state, spoken = self._states[_key(utterance)], utterance.spoken
        interim = Interim(state, utterance, state.count, label=spoken >= state.next_at)
        state.count, state.utterance = state.count + 1, utterance
        state.next_words = (1 + spoken // WORDS_INTERVAL_S) * WORDS_INTERVAL_S
        if interim.label:
            state.next_at = (1 + spoken // self._interval) * self._interval
        return interim

    def close(self, utterance: Utterance) -> InterimState | None:
        """The utterance has ended; returns what was known of it while it went on."""
        return self._states.pop(_key(utterance), None)

    @property
    def states(self) -> list[InterimState]:
        """All utterances that have a number."""
        return list(self._states.values())

    def restore(self, states: Iterable[InterimState]) -> None:
        """Go on with another process's utterances."""
        self._states = {_key(state.utterance): state for state in states}

    def vanished(self, ongoing: list[Utterance]) -> list[InterimState]:
        """Utterances that have a number and neither ended nor go on (steady noise); they are forgotten."""
        here = {_key(utterance) for utterance in ongoing}
        gone = [key for key in self._states if key not in here]
        return [self._states.pop(key) for key in gone]


def _key(utterance: Utterance) -> Key:
    return utterance.channel, utterance.start, utterance.speaker, utterance.voice
