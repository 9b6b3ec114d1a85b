"""Live sources that may go away and come back, and several of them on one media clock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from stream import RATE
from stream.block import BLOCK, Block, Samples, VideoFrame
from stream.media import MediaError

LATE = 1.0  # seconds that one participant's stream may hold up the others before silence takes its place
AHEAD = 30.0  # seconds of a stream that comes in bursts (HLS) that are kept until they are due
SEEN = 600  # pictures kept until they are due, of all participants


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


class Reconnecting:
    """A source that is opened again whenever it breaks, with back-off; the media clock runs on through the gap."""

    def __init__(
        self,
        connect: Callable[[], Source],
        give_up: float = 300.0,
        seconds: float | None = None,
        first: float = 0.5,
        longest: float = 30.0,
    ) -> None:
        """connect: makes the source anew. In seconds: after `give_up` of trying in vain, or at `seconds` of media, the
        source has ended; between tries, `first` doubling up to `longest`.

        Raises MediaError when there is no such source to begin with.
        """
        self._connect, self._give_up, self._first, self._longest = connect, give_up, first, longest
        self._pause, self._seconds = first, seconds
        self._source: Source = connect()
        self._stopping = threading.Event()
        self.name, self.channels = self._source.name, self._source.channels
        self.split, self.video = self._source.split, self._source.video
        self.repaired = 0
        self.reconnects = 0
        self.ended_early: str | None = None

    def stop(self) -> None:
        self._stopping.set()
        self._source.stop()

    def __iter__(self) -> Iterator[Block]:
        """Blocks on one clock. Before and after a gap stands an empty block whose `notice` says so.

        Raises MediaError when the first connection fails.
        """
        number, clock = 0, 0.0
        lost_at: float | None = None
        while not self._stopping.is_set():
            offset: float | None = None
            why = ""
            try:
                for block in self._source:
                    gap = 0.0
                    if offset is None:
                        arrived = time.monotonic() - block.samples.shape[1] / RATE
                        gap = 0.0 if lost_at is None else max(0.0, arrived - lost_at)
                        offset = clock + gap - block.start
                        if lost_at is not None:
                            self._pause = self._first
                            self.reconnects += 1
                            yield self._note(number, clock, f"{self.name} is back after {gap:.1f} s")
                            number, lost_at = number + 1, None
                    frames = tuple(replace(frame, time=frame.time + offset) for frame in block.frames)
                    start = block.start + offset
                    yield replace(block, number=number, start=start, frames=frames, dropped=block.dropped + gap)
                    number, clock = number + 1, start + block.samples.shape[1] / RATE
                    if self._seconds is not None and clock >= self._seconds:
                        self.stop()
                why = self._source.ended_early or ""
            except MediaError as error:
                if number == 0:
                    raise
                why = str(error)
            self.repaired += self._source.repaired
            if not why or self._stopping.is_set():
                return
            if lost_at is None:
                lost_at = time.monotonic()
                yield self._note(number, clock, f"{self.name} is lost: {why}; trying to reach it again")
                number += 1
            if not self._again(lost_at):
                self.ended_early = f"{self.name}: {why}; not back within {self._give_up:.0f} s"
                return

    def _again(self, lost_at: float) -> bool:
        """Wait and make the source anew; False when it has been in vain for too long."""
        while time.monotonic() - lost_at < self._give_up and not self._stopping.wait(self._pause):
            self._pause = min(2 * self._pause, self._longest)
            with contextlib.suppress(MediaError):
                self._source = self._connect()
                return True
        return self._stopping.is_set()

    def _note(self, number: int, clock: float, notice: str) -> Block:
        return Block(number, clock, np.zeros((self.channels, 0), np.float32), notice=notice)


class Through:
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

    def __iter__(self) -> Iterator[Block]:
        yield from self.source


class Later(Through):
    """A source whose media clock does not begin at 0: a session goes on with it that began with another."""

    def __init__(self, source: Source, at: float) -> None:
        """at: seconds on the session's clock at which the source begins."""
        super().__init__(source)
        self._at = at

    def __iter__(self) -> Iterator[Block]:
        for block in self.source:
            frames = tuple(replace(frame, time=frame.time + self._at) for frame in block.frames)
            yield replace(block, start=block.start + self._at, frames=frames)


@dataclass
class Participant:
    """Somebody in the conversation: what hears them, and what sees them."""

    sound: Source
    camera: Source | None = None
    name: str | None = None


@dataclass
class _Track:
    """One source's audio, on the session's clock, that has come and is not given out yet."""

    channels: int
    held: deque[Samples] = field(default_factory=deque)
    start: int = 0
    """Sample of the session's clock at which `held` begins."""
    size: int = 0
    offset: float | None = None
    """Seconds from the source's clock to the session's."""
    over: bool = False

    @property
    def end(self) -> int:
        return self.start + self.size

    def append(self, at: int, samples: Samples) -> None:
        """Samples that begin at `at`; what lies before the end is late and dropped, a hole becomes silence."""
        samples = samples[:, max(0, self.end - at) :]
        hole = at - self.end
        for part in (np.zeros((self.channels, max(0, hole)), np.float32), samples):
            if part.shape[1]:
                self.held.append(part)
                self.size += part.shape[1]

    def take(self, count: int) -> Samples:
        """The next `count` samples, with silence where nothing came."""
        parts, wanted = [], count
        while wanted and self.held:
            part = self.held.popleft()
            if part.shape[1] > wanted:
                self.held.appendleft(part[:, wanted:])
                part = part[:, :wanted]
            parts.append(part)
            wanted -= part.shape[1]
        parts.append(np.zeros((self.channels, wanted), np.float32))
        self.start += count
        self.size = max(0, self.size - (count - wanted))
        return np.concatenate(parts, 1)


class Together:
    """Several participants as one source, a channel (or more) each, in step.

    Each stream is laid on the session's clock where it began to arrive, and runs on by its own time stamps. The slowest
    sets the pace, but holds up the others by no more than `LATE`.
    """

    def __init__(self, participants: Sequence[Participant], seconds: float | None = None) -> None:
        self._participants, self._seconds = participants, seconds
        self.channels = sum(p.sound.channels for p in participants)
        self.split = self.channels > 1
        self.video = any(p.camera is not None or p.sound.video for p in participants)
        self.name = ", ".join(p.sound.name for p in participants)
        self.ended_early: str | None = None
        self.worst_skew = 0.0
        """Seconds by which the streams' arrivals differed at most."""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._tracks = [_Track(p.sound.channels) for p in participants]
        self._frames: deque[VideoFrame] = deque(maxlen=SEEN)
        self._notices: list[str] = []
        self._errors: list[str] = []

    @property
    def repaired(self) -> int:
        return sum(p.sound.repaired for p in self._participants)

    @property
    def reconnects(self) -> int:
        """How often a stream came back."""
        every = [source for p in self._participants for source in (p.sound, p.camera)]
        return sum(source.reconnects for source in every if isinstance(source, Reconnecting))

    def stop(self) -> None:
        self._stopping.set()
        for participant in self._participants:
            participant.sound.stop()
            if participant.camera is not None:
                participant.camera.stop()

    def __iter__(self) -> Iterator[Block]:
        self._origin = time.monotonic()
        first, threads = 0, []
        for participant, track in zip(self._participants, self._tracks, strict=True):
            threads.append(threading.Thread(target=self._listen, args=(participant.sound, track, first), daemon=True))
            if participant.camera is not None:
                threads.append(
                    threading.Thread(target=self._listen, args=(participant.camera, None, first), daemon=True)
                )
            first += track.channels
        for thread in threads:
            thread.start()
        number = done = 0
        try:
            while not self._stopping.is_set():
                time.sleep(0.02)
                if self._seconds is not None and done >= self._seconds * RATE:
                    return
                for block in self._due(number, done):
                    yield block
                    number, done = block.number + 1, done + block.samples.shape[1]
                if all(track.over and not track.size for track in self._tracks):
                    self.ended_early = "; ".join(self._errors) or None
                    return
        finally:
            self.stop()
            for thread in threads:
                thread.join(timeout=1)

    def _due(self, number: int, done: int) -> list[Block]:
        with self._lock:
            now = round((time.monotonic() - self._origin) * RATE)
            running = [track for track in self._tracks if not track.over]
            ends = [track.end for track in running]
            if len(ends) > 1 and all(track.offset is not None for track in running):
                self.worst_skew = max(self.worst_skew, (max(ends) - min(ends)) / RATE)
            until = min(now, min((max(end, now - round(LATE * RATE)) for end in ends), default=now))
            blocks = []
            notices, self._notices = self._notices, []
            for notice in notices:
                blocks.append(Block(number, done / RATE, np.zeros((self.channels, 0), np.float32), notice=notice))
                number += 1
            while until - done >= BLOCK or (not running and any(track.size for track in self._tracks)):
                end = (done + BLOCK) / RATE
                shown = tuple(frame for frame in self._frames if frame.time < end)
                self._frames = deque((frame for frame in self._frames if frame.time >= end), SEEN)
                samples = np.concatenate([track.take(BLOCK) for track in self._tracks])
                blocks.append(Block(number, done / RATE, samples, shown))
                number, done = number + 1, done + BLOCK
            return blocks

    def _listen(self, source: Source, track: _Track | None, channel: int) -> None:
        """A thread: one source's blocks onto its track, its pictures to its participant's channel."""
        offset: float | None = None
        try:
            for block in source:
                with self._lock:
                    now = time.monotonic() - self._origin
                    length = block.samples.shape[1] / RATE
                    if block.notice:
                        self._notices.append(block.notice)
                    if offset is None and (length or block.frames):
                        offset = now - length - block.start
                    if offset is None:
                        continue
                    for frame in block.frames:
                        self._frames.append(replace(frame, time=max(0.0, frame.time + offset), channel=channel))
                    if track is not None and length:
                        track.offset = offset
                        track.append(round((block.start + offset) * RATE), block.samples)
                while track is not None and track.size > AHEAD * RATE and not self._stopping.is_set():
                    time.sleep(0.05)
            reason = source.ended_early
        except Exception as error:  # in a thread nobody else would hear of it
            reason = str(error) or type(error).__name__
        with self._lock:
            if reason:
                self._errors.append(reason)
                self._notices.append(reason)
            if track is not None:
                track.over = True
