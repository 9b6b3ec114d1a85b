"""Utterances from the speech probabilities of consecutive frames: a state machine with hysteresis."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Endpointing:
    """Parameters of utterance detection. All times in seconds."""

    start_threshold: float = 0.5
    stop_threshold: float = 0.35
    """Minimum speech probability of a speech frame: `start_threshold` in silence, `stop_threshold` during speech."""
    onset: float = 0.1
    """Duration of speech within the last 2 x onset that starts an utterance."""
    end_silence: float = 0.5
    """Silence that ends an utterance."""
    pre_roll: float = 0.3
    """Audio included before the onset, so that the first syllable is complete."""
    padding: float = 0.2
    """Audio included after the end."""
    shortest: float = 0.25
    """Minimum duration: a shorter utterance is joined to speech that follows within `max_join_gap`, else dropped and
    counted."""
    max_join_gap: float = 1.0
    """Maximum silence between a short utterance and the speech it is joined to."""
    longest: float = 15.0
    """Maximum duration: a longer utterance is split at the quietest point of its second half."""
    modulation: float = 6.0
    """Minimum difference between loud and quiet frames in dB; audio that varies less is steady noise, dropped and
    counted."""


@dataclass(frozen=True)
class Span:
    """An utterance in time. All times are seconds on the media clock."""

    start: float
    """With the pre-roll."""
    onset: float
    """Start of speech."""
    end: float
    """End of speech."""
    padding: float
    """Seconds of sound after the end that belong to it."""


class Endpointer:
    """Finds utterances. States: idle -> speech -> (held, if too short) -> idle."""

    def __init__(self, options: Endpointing, step: float, quietest: Callable[[float, float], float]) -> None:
        """step: seconds of a frame; quietest: gives the quietest moment between two times, where a long utterance is
        split."""
        self.counts: Counter[str] = Counter()
        """Numbers of utterances split, joined and dropped."""
        self.now = 0.0
        """End of the last frame."""
        self._options, self._step, self._quietest = options, step, quietest
        self._recent: deque[bool] = deque(maxlen=max(1, round(2 * options.onset / step)))
        self._speaking = False
        self._start: float | None = None  # start of the current utterance with its pre-roll; None when idle
        self._onset = self._end = 0.0  # start and end of the speech in it
        self._last_end = 0.0  # end of the utterance before, whose audio is not used twice

    @property
    def start(self) -> float | None:
        """Start of the utterance that goes on, or of a short one that waits for more; None when there is neither."""
        return self._start

    @property
    def current(self) -> Span | None:
        """The utterance that goes on, as if it ended with its last speech; None in silence."""
        if not self._speaking or self._start is None:
            return None
        return Span(self._start, self._onset, self._end, self._options.padding)

    @property
    def likely_ended(self) -> Span | None:
        """The utterance that goes on, if a silence at least as long as the padding has begun after it."""
        options, span = self._options, self.current
        if span is None or self.now - span.end < options.padding or span.end - span.onset < options.shortest:
            return None
        return span

    def advance(self, probability: float, silence_ahead: float = 0.0) -> Span | None:
        """Take the speech probability of the next frame; returns the utterance that it ends.

        silence_ahead: seconds after the frame that are silent as far as is known.
        """
        options = self._options
        speech = probability >= (options.stop_threshold if self._speaking else options.start_threshold)
        self.now += self._step
        self._recent.append(speech)
        if not self._speaking:
            if sum(self._recent) * self._step >= options.onset - 1e-9:
                self._begin()
            elif self._start is not None and self.now - self._end > options.max_join_gap:
                self.drop_held()
            return None
        assert self._start is not None
        if speech:
            self._end = self.now
        if self.now - self._end + silence_ahead >= options.end_silence:
            return self.close()
        if self.now - self._start >= options.longest:
            return self._split()
        return None

    def close(self) -> Span | None:
        """End the current utterance; None if there is none, or if it is short, and held: more speech may follow."""
        if not self._speaking:
            return None
        self._speaking = False
        self._recent.clear()
        return None if self._end - self._onset < self._options.shortest else self._emit(self._end)

    def drop_held(self) -> None:
        """Give up an utterance that is too short."""
        if self._start is not None:
            self.counts["dropped_short"] += 1
            self._start = None
        self._recent.clear()

    def begin_with(self, first: Span) -> None:
        """The current utterance began with another span, which was its first syllable."""
        self._start, self._onset = first.start, first.onset
        self.counts["joined"] += 1

    def skip_to(self, now: float) -> None:
        """Go on at a later time, in seconds; what was before is not used again."""
        self.now = self._last_end = now

    def _begin(self) -> None:
        self._speaking = True
        self._end = self.now
        if self._start is not None:
            self.counts["joined"] += 1
        else:
            first = list(self._recent).index(True)
            self._onset = self.now - (len(self._recent) - first) * self._step
            self._start = max(self._last_end, self._onset - self._options.pre_roll, 0.0)

    def _split(self) -> Span:
        assert self._start is not None
        cut = self._quietest((self._start + self.now) / 2, self.now)
        span = self._emit(cut, padding=0.0)
        self._start = self._onset = cut
        self.counts["split"] += 1
        return span

    def _emit(self, end: float, padding: float | None = None) -> Span:
        assert self._start is not None
        span = Span(self._start, self._onset, end, self._options.padding if padding is None else padding)
        self._start, self._last_end = None, end
        return span
