"""Live sources that may go away and come back."""

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

    @property
    def ended_early(self) -> str | None:
        """Why it stopped before its end, if it did."""
        ...

    @property
    def repaired(self) -> int:
        """Samples that were not finite numbers and became silence."""
        ...

    def stop(self) -> None:
        """Listen no further; what was heard before is still delivered."""
        ...

    def __iter__(self) -> Iterator[Block]: ...


class SourceWrapper:
    """A source whose blocks pass through another object: what is asked of that, its source answers."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name, self.channels, self.split, self.video = source.name, source.channels, source.split, source.video

    @property
    def repaired(self) -> int:
        return self.source.repaired

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
