"""Cancellation of tasks, and errors that nobody asks for."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; repeated, because redis-py may swallow a cancellation.

    What it failed with is nobody's any more.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
    seen(task)


def abandon(task: asyncio.Future[Any]) -> None:
    """Cancel a task without waiting for its end; what it fails with is nobody's any more."""
    task.cancel()
    task.add_done_callback(seen)


def seen(task: asyncio.Future[Any]) -> None:
    """Take note of a finished task's error: asyncio prints those that nobody has asked for."""
    if not task.cancelled():
        task.exception()
