"""Several live sources mixed into one, on a common media clock, although each has a clock of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples, VideoFrame
from stream.clock import Clock, MonotonicClock
from stream.sources.base import Source

MAX_LATE_S = 1.0  # seconds that one stream may delay the others before silence replaces it
MAX_EARLY_S = 30.0  # seconds of a bursty stream (HLS) that are buffered until they are due
MAX_PICTURES = 600  # video frames buffered until they are due, of all participants
ARRIVAL_WINDOW_S = 10.0  # seconds over which the earliest arrival is taken, because a network can only delay packets
JUMP_S = 0.1  # seconds that the clock of a stream jumps ahead when its sender had paused or was lost
MAX_KEPT_PAUSE_S = 1.0  # seconds of a pause that stay when a stream that was ahead makes use of the pause
TOLD_LATE_S = 0.5  # seconds by which a stream is put off at once that are worth a notice
MAX_LOST_S = 0.2  # seconds of sound that may come after a gap in the time stamps and belong before it
MAX_STRETCH = 0.02  # maximum relative change of speed with which a stream follows its sender's clock


@dataclass
class Participant:
    """A participant in the conversation, with a source of audio and perhaps a camera."""

    sound: Source
    camera: Source | None = None
    name: str | None = None


class ClockAligner:
    """Keeps a stream on the session's clock although its sender's clock runs faster or slower.

    The stream is first placed at its time of arrival. From then on, the change of its arrival against the first window
    measures the drift between the clocks, which is corrected by playing the stream slightly faster or slower. After a
    jump of its clock (its sender had paused, say) it is placed anew. One that arrives too late is put off until its
    arrival, so that nothing of it is lost; if more came with it, the correction brings it back.
    """

    def __init__(self) -> None:
        self.offset: float | None = None
        """Seconds from the stream's clock to the session's; None before the first block."""
        self.began: float | None = None
        """Start of the stream on the session's clock, in seconds; None before the first block."""
        self._reached = self._since = self._correction = 0.0
        self._earliest = -np.inf
        self._first_lead: float | None = None
        self._drift = 0.0

    def place(self, start: float, length: float, arrival: float) -> tuple[float, float]:
        """Start and end, in seconds on the session's clock, of media that has arrived.

        start, length: in seconds on the stream's clock; arrival: of its end, in seconds on the session's clock.
        """
        if self.offset is None or (length and start > self._reached + JUMP_S):  # pictures alone have no length
            self._place_anew(start, length, arrival)
        assert self.offset is not None
        begin = start + self.offset
        limit = MAX_STRETCH * max(0.0, start + length - self._reached)
        step = min(limit, max(-limit, self._correction))
        self._reached = max(self._reached, start + length)
        self._correction -= step
        self.offset += step
        end = begin + length + step
        self._earliest = max(self._earliest, end - arrival)
        if arrival - self._since >= ARRIVAL_WINDOW_S:
            self._measure()
            self._earliest, self._since = -np.inf, arrival
        return begin, end

    def put_off(self, seconds: float) -> None:
        """Place what comes later by so much than it would have been."""
        assert self.offset is not None
        if self._first_lead is None:  # what comes in this window says nothing of how it usually arrives
            self._first_lead = self._earliest
        self.offset += seconds

    def _place_anew(self, start: float, length: float, arrival: float) -> None:
        """Place a stream at its arrival; one that was ahead is brought back, but not so that the pause disappears."""
        begin = max(0.0, arrival - length)
        if self.offset is not None:
            reached = self._reached + self.offset
            begin = max(begin, min(start + self.offset, reached + MAX_KEPT_PAUSE_S))
        self.offset, self._since, self._reached = begin - start, arrival, start
        self.began = begin if self.began is None else self.began
        self._correction, self._earliest, self._first_lead, self._drift = 0.0, -np.inf, None, 0.0

    def _measure(self) -> None:
        """Estimate the drift at the end of a window, and the correction that follows from it."""
        if self._first_lead is None:
            self._first_lead = self._earliest
        drift = self._first_lead - self._earliest
        # The smaller of two in a row, because a network that was busy for a while is not a slow clock.
        self._correction = min(drift, self._drift, key=abs) if drift * self._drift > 0 else 0.0
        self._drift = drift


@dataclass(frozen=True)
class LatePiece:
    """Samples, float32 [channels, n], with the place that has passed and their arrival, in seconds."""

    begin: float
    end: float
    samples: Samples
    arrived: float


@dataclass
class Track:
    """Buffer of one source's audio on the session's clock."""

    channels: int
    held: deque[Samples] = field(default_factory=deque)
    start: int = 0
    """Start of `held`, in samples of the session's clock."""
    size: int = 0
    """Samples in `held`."""
    late: list[LatePiece] = field(default_factory=list)
    """Samples whose place has passed, until it is known whether the stream stays late."""
    aligner: ClockAligner = field(default_factory=ClockAligner)
    ended: bool = False
    """True once the source delivers no more."""

    @property
    def end(self) -> int:
        """End of `held`, in samples of the session's clock."""
        return self.start + self.size

    def put(self, begin: float, end: float, samples: Samples, arrived: float) -> float:
        """Add samples, float32 [channels, n], from `begin` to `end`, whose first arrived at `arrived` seconds.

        If their place has passed and the stream stays late, it is put off until its arrival; returns by how many
        seconds. Silence that is late is there already (a gap in the time stamps is filled with it), and less than
        `MAX_LOST_S` of sound is what a sender or decoder had left over before a pause: these move nothing.
        """
        if begin >= (self.end - 1) / RATE:  # but for rounding
            self.late.clear()
            self.append(begin, end, samples)
            return 0.0
        if samples.any():
            self.late.append(LatePiece(begin, end, samples, arrived))
        if sum(piece.samples.shape[1] for piece in self.late) <= MAX_LOST_S * RATE:
            return 0.0
        return self.put_off()

    def put_off(self) -> float:
        """Place the late samples, and with them what comes after, at their arrival; returns by how many seconds."""
        if not self.late:
            return 0.0
        first = self.late[0]
        seconds = max(self.end / RATE - first.begin, first.arrived - first.begin)
        self.aligner.put_off(seconds)
        for piece in self.late:
            self.append(piece.begin + seconds, piece.end + seconds, piece.samples)
        self.late.clear()
        return seconds

    def append(self, begin: float, end: float, samples: Samples) -> None:
        """Add samples, float32 [channels, n], stretched to the time from `begin` to `end` seconds.

        A gap becomes silence; samples before `self.end` are dropped.
        """
        position = round(begin * RATE)
        if abs(position - self.end) <= 1:  # contiguous, but for rounding
            position = self.end
        samples = _stretched(samples, round(end * RATE) - position)
        late = min(max(0, self.end - position), samples.shape[1])
        samples, hole = samples[:, late:], position - self.end
        for part in (np.zeros((self.channels, max(0, hole)), np.float32), samples):
            if part.shape[1]:
                self.held.append(part)
                self.size += part.shape[1]

    def take(self, count: int) -> Samples:
        """Remove the next `count` samples, float32 [channels, count], with silence where there are none."""
        parts, missing = [], count
        while missing and self.held:
            part = self.held.popleft()
            if part.shape[1] > missing:
                self.held.appendleft(part[:, missing:])
                part = part[:, :missing]
            parts.append(part)
            missing -= part.shape[1]
        parts.append(np.zeros((self.channels, missing), np.float32))
        self.start += count
        self.size = max(0, self.size - (count - missing))
        return np.concatenate(parts, 1)


def _stretched(samples: Samples, count: int) -> Samples:
    """Samples [channels, n] resampled to [channels, count] by linear interpolation."""
    if count == samples.shape[1]:
        return samples
    positions = np.linspace(0, samples.shape[1] - 1, count)
    known = np.arange(samples.shape[1])
    return np.stack([np.interp(positions, known, channel) for channel in samples]).astype(np.float32)


class MixedSource:
    """Several participants as one source, synchronized, with one channel or more for each.

    A `ClockAligner` places each stream on the session's clock. The slowest stream sets the pace, but delays the others
    by at most `MAX_LATE_S`.
    """

    live = True

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
        """Largest difference between the streams' times of arrival, in seconds."""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._tracks = [Track(p.sound.channels) for p in participants]
        self._frames: deque[VideoFrame] = deque(maxlen=MAX_PICTURES)
        self._notices: list[str] = []
        self._errors: list[str] = []

    @property
    def repaired(self) -> int:
        return sum(p.sound.repaired for p in self._participants)

    def counts(self) -> dict[str, int]:
        """Sums over the participants' streams, and the worst skew between them in milliseconds."""
        sources = [source for p in self._participants for source in (p.sound, p.camera) if source is not None]
        names = "reconnects", "damaged_packets", "damaged_pictures", "gaps_ms"
        return {
            "repaired_samples": self.repaired,
            **{name: sum(source.counts().get(name, 0) for source in sources) for name in names},
            "worst_skew_ms": round(1000 * self.worst_skew),
        }

    def began(self, participant: int) -> float | None:
        """Time of a participant's first sample, in seconds on the session's clock; None if nothing has come."""
        with self._lock:
            return self._tracks[participant].aligner.began

    def stop(self) -> None:
        """Stop all sources; no further blocks are delivered."""
        self._stopping.set()
        for participant in self._participants:
            participant.sound.stop()
            if participant.camera is not None:
                participant.camera.stop()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of 40 ms, audio float32 [channels, 640], with the video frames of all cameras."""
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
                if all(track.ended and not track.size for track in self._tracks):
                    self.ended_early = "; ".join(self._errors) or None
                    return
        finally:
            self.stop()
            for thread in threads:
                thread.join(timeout=1)

    def _due(self, number: int, done: int) -> list[Block]:
        """Blocks that are due; number: of the first one; done: samples delivered before."""
        with self._lock:
            now = round((self._clock.now() - self._origin) * RATE)
            running = [track for track in self._tracks if not track.ended]
            ends = [track.end for track in running]
            if len(ends) > 1 and all(track.aligner.offset is not None for track in running):
                self.worst_skew = max(self.worst_skew, (max(ends) - min(ends)) / RATE)
            until = min(now, min((max(end, now - round(MAX_LATE_S * RATE)) for end in ends), default=now))
            blocks = []
            notices, self._notices = self._notices, []
            for notice in notices:
                blocks.append(Block(number, done / RATE, np.zeros((self.channels, 0), np.float32), notice=notice))
                number += 1
            while until - done >= BLOCK_SAMPLES or (not running and any(track.size for track in self._tracks)):
                end = (done + BLOCK_SAMPLES) / RATE
                shown = tuple(frame for frame in self._frames if frame.time < end)
                self._frames = deque((frame for frame in self._frames if frame.time >= end), MAX_PICTURES)
                samples = np.concatenate([track.take(BLOCK_SAMPLES) for track in self._tracks])
                blocks.append(Block(number, done / RATE, samples, shown))
                number, done = number + 1, done + BLOCK_SAMPLES
            return blocks

    def _listen(self, source: Source, track: Track | None, channel: int) -> None:
        """Body of a thread: put one source's audio on its track, and its video frames on the participant's channel."""
        aligner = track.aligner if track is not None else ClockAligner()
        try:
            for block in source:
                with self._lock:
                    now = self._clock.now() - self._origin
                    length = block.samples.shape[1] / RATE
                    if block.notice:
                        self._notices.append(block.notice)
                    if not length and not block.frames:
                        continue
                    begin, end = aligner.place(block.start, length, now - block.lag)
                    if track is not None and length:
                        put_off = track.put(begin, end, block.samples, now - block.lag - length)
                        begin += put_off
                        self._tell_late(source, put_off)
                    for frame in block.frames:
                        shown = max(0.0, frame.time + begin - block.start)
                        self._frames.append(replace(frame, time=shown, channel=channel))
                while (
                    track is not None and track.size > MAX_EARLY_S * RATE and not self._clock.wait(self._stopping, 0.05)
                ):
                    pass
            reason = source.ended_early
        except Exception as error:  # nothing outside this thread would notice it
            reason = str(error) or type(error).__name__
        with self._lock:
            if reason:
                self._errors.append(reason)
                self._notices.append(reason)
            if track is not None:
                self._tell_late(source, track.put_off())
                track.ended = True

    def _tell_late(self, source: Source, seconds: float) -> None:
        """Add a notice if a source was put off by so much that it is worth one."""
        if seconds >= TOLD_LATE_S:
            self._notices.append(f"{source.name}: sound came {seconds:.1f} s late; it lies where it came")
