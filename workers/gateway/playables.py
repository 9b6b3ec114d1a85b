"""Playable files of recordings, each made once, beside the recording."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from stream.bus.tasks import cancelled
from stream.errors import MediaError
from stream.sources.recording import PLAYABLE
from workers.gateway.access import Refused
from workers.gateway.exporting import Exporter

PATIENCE_S = 20.0  # seconds that a request waits for one that is being made
RETRY_AFTER_S = 5
MAX_MAKING = 8  # being made, or waiting for it, at once


class Playables:
    """The files that are being made, by the folder of the recording."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._making: dict[Path, asyncio.Task[None]] = {}

    async def file(self, folder: Path, is_kept: Callable[[], Awaitable[bool]]) -> Path:
        """The playable file of a recording. is_kept: asked once it is made, whether the session has not been forgotten.

        Raises MediaError, and Refused (503) while it is being made, which goes on without the request.
        """
        target = folder / PLAYABLE
        if target.is_file():
            return target
        if folder not in self._making:
            if sum(not task.done() for task in self._making.values()) >= MAX_MAKING:
                raise Refused(503, f"{MAX_MAKING} recordings are being made playable; try again", RETRY_AFTER_S)
            self._making[folder] = asyncio.create_task(self._make(folder, target, is_kept))
            self._making[folder].add_done_callback(lambda task: self._done(folder, task))
        making = self._making[folder]
        await asyncio.wait([making], timeout=PATIENCE_S)
        if not making.done():
            raise Refused(503, "this recording is being made playable; try again", RETRY_AFTER_S)
        self._making.pop(folder, None)
        if making.cancelled():
            raise Refused(503, "this recording is not made playable any more; try again", RETRY_AFTER_S)
        making.result()
        return target

    async def forget(self, folder: Path) -> None:
        """Stop making the file of a recording, which is to be erased."""
        if (making := self._making.pop(folder, None)) is not None:
            await cancelled(making)

    async def aclose(self) -> None:
        """Stop making files."""
        for folder in list(self._making):
            await self.forget(folder)

    def _done(self, folder: Path, task: asyncio.Task[None]) -> None:
        """Keep an error, and nothing else, for the next request."""
        if (task.cancelled() or task.exception() is None) and self._making.get(folder) is task:
            del self._making[folder]

    async def _make(self, folder: Path, target: Path, is_kept: Callable[[], Awaitable[bool]]) -> None:
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        try:
            await self._exporter.playable(folder, part)
            if not await is_kept():
                raise MediaError("the session was forgotten")
            part.replace(target)
        finally:
            _discard(part)


def _discard(part: Path) -> None:
    """Remove an unfinished file, and its folder if it is empty: its session was forgotten meanwhile."""
    with suppress(OSError):
        part.unlink(missing_ok=True)
        if not any(part.parent.iterdir()):
            part.parent.rmdir()
