"""Calls that come while a batch is worked on become the next batch: no call waits for company.

Calls that are not urgent wait until there are no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class Batcher(Generic[In, Out]):
    """An async function of one item over a blocking function of many, which runs in a thread."""

    def __init__(self, work: Callable[[list[In]], list[Out]], limit: int) -> None:
        """limit: items of one batch."""
        self._work, self._limit = work, limit
        self._urgent: list[tuple[In, asyncio.Future[Out]]] = []
        self._later: list[tuple[In, asyncio.Future[Out]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: In, urgent: bool = True) -> Out:
        done: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._later).append((item, done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        while waiting := self._urgent or self._later:
            # One at a time of those that can wait, so that what is urgent meanwhile waits for one alone.
            count = self._limit if waiting is self._urgent else 1
            batch, waiting[:count] = waiting[:count], []
            try:
                results = await asyncio.to_thread(self._work, [item for item, _ in batch])
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for (_, done), result in zip(batch, results, strict=True):
                if not done.done():  # whoever asked may have gone
                    done.set_result(result)
