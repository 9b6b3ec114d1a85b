"""Exports and summaries in processes of their own, few and of low priority, for which nobody else waits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process

from stream.bus.subscriber import history
from stream.exports import export
from stream.exports.summary import Summary, summary
from stream.sources.playable import make_playable
from workers.gateway.access import Refused

MAX_PROCESSES = 2
NICENESS = 19  # the lowest priority: they take what sessions leave
EXPORT_TIMEOUT_S = 120.0  # seconds that one may wait and take
PLAYABLE_TIMEOUT_S = 1800.0  # of a recording: ten hours of sound, five with pictures
RETRY_AFTER_S = 10
Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class Exporter:
    """A pool of processes that write a session as a file, sum it up, or make its recording playable."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(MAX_PROCESSES)
        self._recordings = asyncio.Lock()  # one at a time: it takes minutes, and leaves the other process to exports

    async def export(self, redis: str, session: str, prefix: str, format: str) -> bytes:
        """Content of the file. Raises ExportError, RedisError, and Refused (503) if it takes too long or too much."""
        instead = f", or use `undertone export {session}`"
        return await self._run("export", _export, redis, session, prefix, format, instead=instead)

    async def summary(self, redis: str, session: str, prefix: str, end: float | None) -> Summary:
        """Summary of the whole session so far; end: see `stream.exports.summary`. Raises as `export` does."""
        return await self._run("summary", _summary, redis, session, prefix, end)

    async def playable(self, folder: Path, target: Path) -> None:
        """Write a recording to `target` as browsers play it. Raises MediaError, and Refused as `export` does."""
        async with self._recordings:
            await self._run("recording", _playable, folder, target, timeout_s=PLAYABLE_TIMEOUT_S)

    async def _run(
        self,
        kind: str,
        work: Callable[[*Given], Result],
        *given: *Given,
        instead: str = "",
        timeout_s: float = EXPORT_TIMEOUT_S,
    ) -> Result:
        """Work in a process of the pool. kind, instead: for the refusal, what it is and what else can be done."""
        try:
            with anyio.fail_after(timeout_s):
                return await to_process.run_sync(work, *given, cancellable=True, limiter=self._limiter)
        except TimeoutError:
            late = f"not done within {timeout_s:.0f} s; try again{instead}"
            raise Refused(503, late, RETRY_AFTER_S) from None
        except BrokenWorkerProcess:
            raise Refused(503, f"the process of this {kind} was killed; try again", RETRY_AFTER_S) from None


def _export(redis: str, session: str, prefix: str, format: str) -> bytes:
    """In a process of the pool: the session so far, written in the format."""
    _yield_to_others()
    return export(asyncio.run(history(redis, session, prefix)), format)


def _summary(redis: str, session: str, prefix: str, end: float | None) -> Summary:
    """In a process of the pool: the summary of the session so far."""
    _yield_to_others()
    return summary(asyncio.run(history(redis, session, prefix)), end=end)


def _playable(folder: Path, target: Path) -> None:
    """In a process of the pool: the recording as browsers play it."""
    _yield_to_others()
    make_playable(folder, target)


def _yield_to_others() -> None:
    """Give this process the lowest priority."""
    with suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
