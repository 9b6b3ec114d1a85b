"""Log lines that repeat: one is shown, the others are counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable

from stream.clock import Clock, MonotonicClock

QUIET_S = 60.0  # seconds after a line in which others of its kind are counted instead of shown
MAX_KINDS = 1_000  # kinds of lines that are told apart; beyond that the oldest is taken for a new one


class Repeats:
    """Says which lines to show, and how many of their kind were not."""

    def __init__(self, clock: Clock = MonotonicClock()) -> None:
        self._clock = clock
        self._shown: dict[Hashable, float] = {}
        self._untold: Counter[Hashable] = Counter()

    def more(self, kind: Hashable) -> str | None:
        """The end of the next line of this kind, "" or " … and 311 times more"; None: do not show it now."""
        now = self._clock.now()
        if now - self._shown.get(kind, -QUIET_S) < QUIET_S:
            self._untold[kind] += 1
            return None
        self._shown.pop(kind, None)
        self._shown[kind] = now
        if len(self._shown) > MAX_KINDS:
            oldest = next(iter(self._shown))
            del self._shown[oldest], self._untold[oldest]
        return self.rest(kind)

    def rest(self, kind: Hashable) -> str:
        """The same for lines of this kind that were counted and not told yet; "" if there are none."""
        count = self._untold.pop(kind, 0)
        return f" … and {count} times more" if count else ""


class RepeatFilter(logging.Filter):
    """Shows the first warning of its kind in a minute. Lines are of one kind that only their arguments tell apart."""

    def __init__(self, clock: Clock = MonotonicClock()) -> None:
        super().__init__()
        self._repeats = Repeats(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[0] if record.exc_info else None
        more = self._repeats.more((record.name, record.levelno, str(record.msg), error))
        if more:
            record.msg, record.args = record.getMessage() + more, None
        return more is not None
