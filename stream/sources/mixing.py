"""Several live sources as one, on one media clock, though each runs by its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream.block import BLOCK, RATE, Block, Samples, VideoFrame
from stream.clock import Clock, MonotonicClock
from stream.sources.base import Source
from stream.sources.reconnecting import ReconnectingSource

MAX_LATE_S = 1.0  # seconds that one participant's stream may hold up the others before silence takes its place
MAX_EARLY_S = 30.0  # seconds of a stream that comes in bursts (HLS) that are kept until they are due
MAX_PICTURES = 600  # pictures kept until they are due, of all participants
ARRIVAL_WINDOW_S = (
    10.0  # seconds of which the earliest arrival counts: a network delays what it carries, and hastens nothing
)
MAX_STRETCH = 0.02  # by which a stream is played faster or slower at most, to keep step with its sender's clock


@dataclass
class Participant:
    """Somebody in the conversation: what hears them, and what sees them."""

    sound: Source
    camera: Source | None = None
    name: str | None = None


class ClockAligner:
    """Keeps a stream on the session's clock, though its sender's clock runs faster or slower than ours.

    It is laid where it begins to arrive. How much earlier or later than in its first window it arrives from then on is
    how far the clocks have run apart; that is made good by playing it a little faster or slower. A stream that comes
    too late to be heard for a whole window (its sender had stopped, say) is laid anew.
    """

    def __init__(self) -> None:
        self.offset: float | None = None
        """Seconds from the stream's clock to the session's."""
        self._reached = self._since = self._owed = 0.0
        self._earliest = -np.inf
        self._usual: float | None = None
        self._apart = 0.0

    def lay(self, start: float, length: float, now: float) -> tuple[float, float]:
        """Where a stretch that has just come begins and ends on the session's clock.

        start, length: seconds, on the stream's clock. now: seconds, on the session's.
        """
        if self.offset is None:
            self.offset, self._since, self._reached = max(0.0, now - length) - start, now, start
        begin = start + self.offset
        most = MAX_STRETCH * max(0.0, start + length - self._reached)
        step = min(most, max(-most, self._owed))
        self._reached = max(self._reached, start + length)
        self._owed -= step
        self.offset += step
        end = begin + length + step
        self._earliest = max(self._earliest, end - now)
        if now - self._since >= ARRIVAL_WINDOW_S:
            self._measure()
            self._earliest, self._since = -np.inf, now
        return begin, end

    def _measure(self) -> None:
        """At the end of a window: what is owed from now on."""
        assert self.offset is not None
        if self._usual is None:
            self._usual = self._earliest
        apart = self._usual - self._earliest
        if apart > MAX_LATE_S:
            self.offset += apart
            apart = 0.0
        # The smaller of two in a row: a network that was busy for a while is no clock that runs slow.
        self._owed = min(apart, self._apart, key=abs) if apart * self._apart > 0 else 0.0
        self._apart = apart


@dataclass
class Track:
    """One source's audio, on the session's clock, that has come and is not given out yet."""

    channels: int
    held: deque[Samples] = field(default_factory=deque)
    start: int = 0
    """Sample of the session's clock at which `held` begins."""
    size: int = 0
    follower: ClockAligner = field(default_factory=ClockAligner)
    late: float = 0.0
    """Seconds that came after their time, since some came in time."""
    over: bool = False

    @property
    def end(self) -> int:
        return self.start + self.size

    def append(self, begin: float, end: float, samples: Samples) -> None:
        """Samples from `begin` to `end`, stretched to that; what was given out as silence already is late, and dropped.

        A hole becomes silence.
        """
        at = round(begin * RATE)
        at = self.end if abs(at - self.end) <= 1 else at  # of samples that follow each other, the rounding differs
        samples = _stretched(samples, round(end * RATE) - at)
        late = min(max(0, self.end - at), samples.shape[1])
        self.late += late / RATE
        samples, hole = samples[:, late:], at - self.end
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


def _stretched(samples: Samples, count: int) -> Samples:
    """As many samples, by linear interpolation."""
    if count == samples.shape[1]:
        return samples
    at = np.linspace(0, samples.shape[1] - 1, count)
    return np.stack([np.interp(at, np.arange(samples.shape[1]), each) for each in samples]).astype(np.float32)


class MixedSource:
    """Several participants as one source, a channel (or more) each, in step.

    Each stream is laid on the session's clock by its `ClockAligner`. The slowest sets the pace, but holds up the others
    by no more than `MAX_LATE_S`.
    """

    def __init__(
        self, participants: Sequence[Participant], seconds: float | None = None, clock: Clock = MonotonicClock()
    ) -> None:
        self._participants, self._seconds, self._clock = participants, seconds, clock
        self.channels = sum(p.sound.channels for p in participants)
        self.split = self.channels > 1
        self.video = any(p.camera is not None or p.sound.video for p in participants)
        self.name = ", ".join(p.sound.name for p in participants)
        self.ended_early: str | None = None
        self.worst_skew = 0.0
        """Seconds by which the streams' arrivals differed at most."""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._tracks = [Track(p.sound.channels) for p in participants]
        self._frames: deque[VideoFrame] = deque(maxlen=MAX_PICTURES)
        self._notices: list[str] = []
        self._errors: list[str] = []

    @property
    def repaired(self) -> int:
        return sum(p.sound.repaired for p in self._participants)

    @property
    def reconnects(self) -> int:
        """How often a stream came back."""
        every = [source for p in self._participants for source in (p.sound, p.camera)]
        return sum(source.reconnects for source in every if isinstance(source, ReconnectingSource))

    def stop(self) -> None:
        self._stopping.set()
        for participant in self._participants:
            participant.sound.stop()
            if participant.camera is not None:
                participant.camera.stop()

    def __iter__(self) -> Iterator[Block]:
        self._origin = self._clock.now()
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
            while not self._clock.wait(self._stopping, 0.02):
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
            now = round((self._clock.now() - self._origin) * RATE)
            running = [track for track in self._tracks if not track.over]
            ends = [track.end for track in running]
            if len(ends) > 1 and all(track.follower.offset is not None for track in running):
                self.worst_skew = max(self.worst_skew, (max(ends) - min(ends)) / RATE)
            until = min(now, min((max(end, now - round(MAX_LATE_S * RATE)) for end in ends), default=now))
            blocks = []
            notices, self._notices = self._notices, []
            for notice in notices:
                blocks.append(Block(number, done / RATE, np.zeros((self.channels, 0), np.float32), notice=notice))
                number += 1
            while until - done >= BLOCK or (not running and any(track.size for track in self._tracks)):
                end = (done + BLOCK) / RATE
                shown = tuple(frame for frame in self._frames if frame.time < end)
                self._frames = deque((frame for frame in self._frames if frame.time >= end), MAX_PICTURES)
                samples = np.concatenate([track.take(BLOCK) for track in self._tracks])
                blocks.append(Block(number, done / RATE, samples, shown))
                number, done = number + 1, done + BLOCK
            return blocks

    def _listen(self, source: Source, track: Track | None, channel: int) -> None:
        """A thread: one source's blocks onto its track, its pictures to its participant's channel."""
        follower = track.follower if track is not None else ClockAligner()
        try:
            for block in source:
                with self._lock:
                    now = self._clock.now() - self._origin
                    length = block.samples.shape[1] / RATE
                    if block.notice:
                        self._notices.append(block.notice)
                    if not length and not block.frames:
                        continue
                    begin, end = follower.lay(block.start, length, now)
                    for frame in block.frames:
                        shown = max(0.0, frame.time + begin - block.start)
                        self._frames.append(replace(frame, time=shown, channel=channel))
                    if track is not None and length:
                        late = track.late
                        track.append(begin, end, block.samples)
                        if late == track.late:
                            self._tell_late(source, track)
                while (
                    track is not None and track.size > MAX_EARLY_S * RATE and not self._clock.wait(self._stopping, 0.05)
                ):
                    pass
            reason = source.ended_early
        except Exception as error:  # in a thread nobody else would hear of it
            reason = str(error) or type(error).__name__
        with self._lock:
            if reason:
                self._errors.append(reason)
                self._notices.append(reason)
            if track is not None:
                self._tell_late(source, track)
                track.over = True

    def _tell_late(self, source: Source, track: Track) -> None:
        """Say, once it is over, how much came too late."""
        if track.late:
            self._notices.append(f"{source.name}: {track.late:.1f} s came too late and are lost")
            track.late = 0.0
