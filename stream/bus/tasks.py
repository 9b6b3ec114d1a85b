"""Cancellation of tasks."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end, whatever that is; repeated, because redis-py may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
    if not task.cancelled():
        task.exception()  # else asyncio complains that nobody asked
