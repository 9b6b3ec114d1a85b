"""Summaries of ended sessions, kept in memory, so that a list of past sessions costs each only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from stream.bus.directory import SessionInfo
from stream.clock import Clock
from stream.exports.summary import Summary

MAX_SUMMARIES = 500
KEPT_S = 3600.0  # seconds: they have words, which other gateways may have been told to erase


class Summaries:
    """The summaries that were last asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, Summary]] = OrderedDict()
        self._making: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, info: SessionInfo, make: Callable[[], Awaitable[Summary]]) -> Summary:
        """The summary of a session. Of one that has ended it is kept, unless the session is forgotten meanwhile."""
        self._expire()
        key = info.id, info.started  # an id may be used again
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][1]
        if info.state != "ended":
            return await make()
        self._making.add(key)
        try:
            made = await make()
            if key in self._making:
                self._kept[key] = self._clock.now(), made
                if len(self._kept) > MAX_SUMMARIES:
                    self._kept.popitem(last=False)
        finally:
            self._making.discard(key)
        return made

    def forget(self, session: str) -> None:
        """Drop what is kept of a session."""
        self._making = {key for key in self._making if key[0] != session}
        for key in [key for key in self._kept if key[0] == session]:
            del self._kept[key]

    def _expire(self) -> None:
        """Drop what is older than an hour."""
        oldest = self._clock.now() - KEPT_S
        for key in [key for key, (made, _) in self._kept.items() if made < oldest]:
            del self._kept[key]
