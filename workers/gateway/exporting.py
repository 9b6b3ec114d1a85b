"""Exports in processes of their own, few and of low priority, so that neither sessions nor requests wait for them."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process

from stream.bus.subscriber import history
from stream.exports import export
from workers.gateway.access import Refused

MAX_PROCESSES = 2
NICENESS = 19  # the lowest priority: exports take what sessions leave
EXPORT_TIMEOUT_S = 120.0  # seconds that an export may wait and take
RETRY_AFTER_S = 10


class Exporter:
    """A pool of processes that read a session from Redis and write it as a file."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(MAX_PROCESSES)

    async def export(self, redis: str, session: str, prefix: str, format: str) -> bytes:
        """Content of the file. Raises ExportError, RedisError, and Refused (503) if it takes too long or too much."""
        try:
            with anyio.fail_after(EXPORT_TIMEOUT_S):
                return await to_process.run_sync(
                    _export, redis, session, prefix, format, cancellable=True, limiter=self._limiter
                )
        except TimeoutError:
            late = f"not done within {EXPORT_TIMEOUT_S:.0f} s; try again, or use `undertone export {session}`"
            raise Refused(503, late, RETRY_AFTER_S) from None
        except BrokenWorkerProcess:
            raise Refused(503, "the process of this export was killed; try again", RETRY_AFTER_S) from None


def _export(redis: str, session: str, prefix: str, format: str) -> bytes:
    """In a process of the pool: the session so far, written in the format."""
    with suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    return export(asyncio.run(history(redis, session, prefix)), format)
