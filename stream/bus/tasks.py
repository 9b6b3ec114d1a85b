"""Ending what runs in an event loop."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end: more than once, for redis-py now and then answers with another exception."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
