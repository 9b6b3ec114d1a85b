"""Sources of blocks, and wrappers around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from stream.block import Block


class Source(Protocol):
    """Where blocks come from."""

    name: str
    channels: int
    """Of audio; 0 for a camera."""
    split: bool
    """Each channel is a speaker."""
    video: bool
    """There may be pictures."""
    live: bool
    """It does not wait: what is not heard in time is lost. A recording waits."""

    @property
    def ended_early(self) -> str | None:
        """Why it stopped before its end, if it did."""
        ...

    @property
    def repaired(self) -> int:
        """Samples that were not finite numbers and became silence."""
        ...

    def counts(self) -> dict[str, int]:
        """What happened to it so far, by the names that `session.ended` has for it."""
        ...

    def stop(self) -> None:
        """Listen no further; what was heard before is still delivered."""
        ...

    def __iter__(self) -> Iterator[Block]: ...


class SourceWrapper:
    """A source that passes on the blocks of another one, and answers for it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name, self.channels, self.split = source.name, source.channels, source.split
        self.video, self.live = source.video, source.live

    @property
    def repaired(self) -> int:
        return self.source.repaired

    def counts(self) -> dict[str, int]:
        return self.source.counts()

    @property
    def ended_early(self) -> str | None:
        return self.source.ended_early

    def stop(self) -> None:
        self.source.stop()


class OffsetSource(SourceWrapper):
    """A source whose media clock does not begin at 0: a session goes on with it that began with another."""

    def __init__(self, source: Source, at: float) -> None:
        """at: seconds on the session's clock at which the source begins."""
        super().__init__(source)
        self._at = at

    def __iter__(self) -> Iterator[Block]:
        for block in self.source:
            frames = tuple(replace(frame, time=frame.time + self._at) for frame in block.frames)
            yield replace(block, start=block.start + self._at, frames=frames)
