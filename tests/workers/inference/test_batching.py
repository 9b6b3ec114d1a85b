from __future__ import annotations

import asyncio
import threading
import time

import pytest

from workers.inference.batching import Batcher


async def test_calls_that_wait_become_one_batch_in_order() -> None:
    batches: list[list[int]] = []

    def work(items: list[int]) -> list[int]:
        batches.append(items)
        time.sleep(0.05)
        return [10 * item for item in items]

    batcher: Batcher[int, int] = Batcher(work, limit=4)
    assert await asyncio.gather(*map(batcher, range(10))) == [10 * n for n in range(10)]
    assert [item for batch in batches for item in batch] == list(range(10))
    assert max(map(len, batches)) == 4
    assert await batcher(99) == 990  # and again after it has been idle


async def test_what_can_wait_goes_after_all_that_is_urgent_and_one_at_a_time() -> None:
    batches: list[list[int]] = []
    go = threading.Event()

    def work(items: list[int]) -> list[int]:
        batches.append(items)
        go.wait(10)
        return items

    batcher: Batcher[int, int] = Batcher(work, limit=8)
    early = asyncio.gather(*(batcher(n, urgent=False) for n in (1, 2, 3)))
    while not batches:
        await asyncio.sleep(0.001)
    urgent = asyncio.gather(*map(batcher, (10, 20)))
    await asyncio.sleep(0)
    go.set()
    assert await urgent == [10, 20]
    assert await early == [1, 2, 3]
    assert batches == [[1], [10, 20], [2], [3]]


async def test_an_error_is_everyones_in_its_batch_and_nobody_elses() -> None:
    def work(items: list[int]) -> list[int]:
        time.sleep(0.02)
        if 1 in items:
            raise ValueError("one is bad")
        return items

    batcher: Batcher[int, int] = Batcher(work, limit=2)
    results = await asyncio.gather(*map(batcher, range(6)), return_exceptions=True)
    assert [isinstance(result, ValueError) for result in results] == [True, True, False, False, False, False]


async def test_whoever_gives_up_does_not_stop_the_others() -> None:
    def work(items: list[int]) -> list[int]:
        time.sleep(0.1)
        return items

    batcher: Batcher[int, int] = Batcher(work, limit=8)
    impatient, patient = asyncio.create_task(batcher(1)), asyncio.create_task(batcher(2))
    await asyncio.sleep(0.01)
    impatient.cancel()
    assert await patient == 2
    with pytest.raises(asyncio.CancelledError):
        await impatient
