"""Speculative endpointing: work begun before an utterance's end is confirmed, discarded if its speaker goes on.

At the first short silence the utterance is what it will be if the silence lasts, sample by sample, so what is asked of
the backend then need not be asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

from stream.block import Utterance
from stream.bus.tasks import seen
from workers.errors import WorkersError

T = TypeVar("T")
Key = tuple[int, int | None, float, float, int]


class Discarded(WorkersError):
    """A result that is not needed any more."""


class SpeculativeResults:
    """Results about the utterance that each speaker of a channel may be about to end, until it is understood."""

    def __init__(self) -> None:
        self._results: dict[Key, dict[Hashable, asyncio.Task[Any]]] = {}
        self._unconfirmed: dict[tuple[int, int | None], Key] = {}  # by channel and local speaker

    def begin(self, utterance: Utterance) -> bool:
        """Keep the results about this utterance from now on; False when that has begun. Results about an earlier end
        of the same one's speech that was none are discarded."""
        key = _key(utterance)
        if key in self._results:
            return False
        if (wrong := self._unconfirmed.pop(key[:2], None)) is not None:
            self._discard(wrong)
        self._results[key], self._unconfirmed[key[:2]] = {}, key
        return True

    def confirm(self, utterance: Utterance) -> None:
        """It has ended there: results about it are needed now."""
        key = _key(utterance)
        if self._unconfirmed.get(key[:2]) == key:
            del self._unconfirmed[key[:2]]

    async def get_or_start(self, utterance: Utterance, name: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result `name` about an utterance: the one that is there or on its way, else that of `work`.

        Raises Discarded when it is discarded meanwhile, not CancelledError: the caller is not the one that is
        cancelled.
        """
        results = self._results.get(_key(utterance))
        if results is None:
            return await work()
        task = results.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = results[name] = asyncio.create_task(work())
            task.add_done_callback(seen)  # of a result that is discarded nobody asks
        try:
            result: T = await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise Discarded(str(name)) from None
        return result

    def done(self, utterance: Utterance) -> None:
        """Nothing about it will be needed any more."""
        self._discard(_key(utterance))

    def _discard(self, key: Key) -> None:
        for task in self._results.pop(key, {}).values():
            task.cancel()


def _key(utterance: Utterance) -> Key:
    # With its length: speech that goes on may have the same end and other samples.
    return utterance.channel, utterance.voice, utterance.start, utterance.end, len(utterance.samples)
