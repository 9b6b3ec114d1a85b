"""Tasks that nobody waits for: what they fail with is not printed."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from stream.bus.tasks import abandon, cancelled, seen


async def failing(wait_s: float, on_cancel: bool = False) -> None:
    try:
        await asyncio.sleep(wait_s)
    except asyncio.CancelledError:
        if on_cancel:
            raise OSError("at its cancellation") from None
        raise
    raise OSError("by itself")


@pytest.mark.parametrize("end", ["abandon", "cancelled", "seen"])
@pytest.mark.parametrize("state", ["failed before", "fails at its cancellation"])
async def test_an_error_that_nobody_asks_for_is_not_printed(end: str, state: str) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    task = asyncio.create_task(failing(0 if state == "failed before" else 60, on_cancel=True))
    await asyncio.sleep(0.01)
    if end == "abandon":
        abandon(task)
    elif end == "cancelled":
        await cancelled(task)
    else:
        task.cancel()
        task.add_done_callback(seen)
    await asyncio.sleep(0.01)
    del task
    gc.collect()
    assert not told
