"""Work begun before an utterance's end is confirmed: there when it is, thrown away if its speaker goes on.

Speculative endpointing: at the first short silence the utterance is what it will be if the silence lasts, sample by
sample, so what is asked of the helpers then need not be asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

from stream.block import Utterance
from workers.errors import WorkersError

T = TypeVar("T")
Key = tuple[int, float, float, int]


class Discarded(WorkersError):
    """What was asked is not needed any more."""


class SpeculativeResults:
    """Remembers what was asked about the utterance that each channel may be about to end, until it is understood."""

    def __init__(self) -> None:
        self._asked: dict[Key, dict[Hashable, asyncio.Task[Any]]] = {}
        self._open: dict[int, Key] = {}  # by channel, the one that is not confirmed

    def begin(self, utterance: Utterance) -> bool:
        """Remember what will be asked about this one; False when that has begun. What was asked about an earlier end of
        the channel's speech, which was none, is thrown away."""
        key = _key(utterance)
        if key in self._asked:
            return False
        if (wrong := self._open.pop(utterance.channel, None)) is not None:
            self._drop(wrong)
        self._asked[key], self._open[utterance.channel] = {}, key
        return True

    def confirm(self, utterance: Utterance) -> None:
        """It has ended there: what was asked about it is needed now."""
        if self._open.get(utterance.channel) == _key(utterance):
            del self._open[utterance.channel]

    async def ask(self, utterance: Utterance, what: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to `what` about an utterance: the one that is on its way or there, else a new one.

        Raises Discarded when it is dropped meanwhile, not CancelledError: who asks is not the one who is cancelled.
        """
        asked = self._asked.get(_key(utterance))
        if asked is None:
            return await work()
        task = asked.get(what)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asked[what] = asyncio.create_task(work())
        try:
            answer: T = await asyncio.shield(task)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if asking is not None and asking.cancelling():
                raise
            raise Discarded(str(what)) from None
        return answer

    def done(self, utterance: Utterance) -> None:
        """Nobody will ask about it any more."""
        self._drop(_key(utterance))

    def _drop(self, key: Key) -> None:
        for task in self._asked.pop(key, {}).values():
            task.cancel()


def _key(utterance: Utterance) -> Key:
    # With its length: what goes on still (`Segmentation.open`) may have the same end and other samples.
    return utterance.channel, utterance.start, utterance.end, len(utterance.samples)
