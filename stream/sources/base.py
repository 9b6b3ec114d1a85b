"""The interface of media sources, and wrappers around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from stream.block import Block


class Source(Protocol):
    """A source of media, iterated as blocks in order and without gaps."""

    name: str
    channels: int
    """Number of audio channels; 0 for a camera."""
    split: bool
    """True if each channel is a speaker."""
    video: bool
    """True if blocks may contain video frames."""
    live: bool
    """True if it does not wait: what is not heard in time is lost. A recording waits."""

    @property
    def ended_early(self) -> str | None:
        """Reason of a premature end; None if the source ended normally or is still running."""
        ...

    @property
    def repaired(self) -> int:
        """Number of samples that were not finite and were replaced by silence."""
        ...

    def counts(self) -> dict[str, int]:
        """Counts of repaired samples, reconnects and the like so far, by their names in `session.ended`."""
        ...

    def stop(self) -> None:
        """Stop capturing; blocks captured before are still delivered."""
        ...

    def __iter__(self) -> Iterator[Block]: ...


class SourceWrapper:
    """Base of sources that pass on the blocks of another source and delegate everything else to it."""

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
    """A source whose media clock starts later than 0, for a session that resumes with a new source."""

    def __init__(self, source: Source, offset_s: float) -> None:
        """offset_s: start of the source on the session's clock, in seconds."""
        super().__init__(source)
        self._offset_s = offset_s

    def __iter__(self) -> Iterator[Block]:
        for block in self.source:
            frames = tuple(replace(frame, time=frame.time + self._offset_s) for frame in block.frames)
            yield replace(block, start=block.start + self._offset_s, frames=frames)
