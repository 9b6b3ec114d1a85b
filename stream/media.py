"""Audio and video files, through PyAV, as blocks on one media clock."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler

from stream import RATE
from stream.block import BLOCK, Block, Samples, VideoFrame
from stream.errors import InputError

VIDEO_RATE = 10  # frames kept a second: enough to see whose mouth moves with the voice
VIDEO_WIDTH = 480  # pixels, larger pictures are scaled down
RATES = range(1_000, 768_001)  # Hz: what is recorded at; others stand in broken files, and cost hours to convert
ALONE = {"protocol_whitelist": ""}  # nothing else is opened


class MediaError(InputError):
    """A source that cannot be read; the message is one line for the user."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds."""

    channels: int
    rate: int
    duration: float | None
    """Seconds, None when the container does not say."""
    video: bool


class FileSource:
    """A media file as blocks of 16 kHz float32 audio, mixed to mono or channel by channel, with its video frames."""

    def __init__(self, path: Path, channels: str = "auto", content: bytes | None = None) -> None:
        """channels: "mix", "split", or "auto": split a stereo file whose two channels differ.

        content: the file's bytes, for what shall touch no disk; `path` then is only a name.

        Raises MediaError when there is nothing to hear.
        """
        if content is None and not path.exists():
            raise MediaError(f"{path}: no such file")
        if content is None and path.is_dir():
            raise MediaError(f"{path}: is a folder, not a recording")
        if not (path.stat().st_size if content is None else content):
            raise MediaError(f"{path}: the file is empty")
        self.path, self._content = path, content
        self.repaired = 0
        """Samples that were not finite numbers and became silence."""
        self.ended_early: str | None = None
        """Why reading stopped before the end of the recording, if it did."""
        self._stopped = False
        with self._open() as container:
            audio = container.streams.audio[0]
            duration = audio.duration * audio.time_base if audio.duration and audio.time_base else None
            if duration is None and container.duration:
                duration = Fraction(container.duration, av.time_base)
            self.info = MediaInfo(
                audio.codec_context.channels,
                audio.codec_context.sample_rate,
                float(duration) if duration is not None else None,
                _film(container) is not None,
            )
        if channels == "auto":
            channels = "split" if self.info.channels == 2 and self._channels_differ() else "mix"
        self.split = channels == "split" and self.info.channels > 1
        self.channels = self.info.channels if self.split else 1
        self.name, self.video = str(path), self.info.video

    def _open(self) -> av.container.InputContainer:
        try:
            if self._content is None:
                container = av.open(str(self.path), metadata_errors="replace")
            else:
                # A file that was sent to us may name others (SDP, concat, HLS), and FFmpeg would open or await them.
                container = av.open(io.BytesIO(self._content), options=ALONE, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: not a media file that can be read ({reason(error)})") from None
        if not container.streams.audio:
            container.close()
            raise MediaError(f"{self.path}: has no audio track")
        if container.streams.audio[0].codec_context is None:
            container.close()
            raise MediaError(f"{self.path}: the audio is of a kind that cannot be decoded")
        rate = container.streams.audio[0].codec_context.sample_rate
        if rate not in RATES:
            container.close()
            raise MediaError(f"{self.path}: not a recording of sound ({rate} samples a second)")
        return container

    def _channels_differ(self) -> bool:
        """Whether the first 30 s say that the two channels carry different voices, not one stereo scene."""
        parts, seconds = [], 0.0
        for samples in self._audio(split=True):
            parts.append(samples)
            seconds += samples.shape[1] / RATE
            if seconds > 30:
                break
        self.repaired, self.ended_early = 0, None
        if not parts:
            return False
        left, right = np.concatenate(parts, 1)
        power = float(np.sqrt((left**2).mean() * (right**2).mean()))
        return power > 0 and abs(float((left * right).mean())) / power < 0.5

    def stop(self) -> None:
        """Deliver no further block."""
        self._stopped = True

    def __iter__(self) -> Iterator[Block]:
        """Blocks in order; a file that breaks off ends the iteration and says why in `ended_early`."""
        frames = self._video() if self.info.video else iter(())
        upcoming = next(frames, None)
        held: list[Samples] = []
        size = number = done = 0

        def block(samples: Samples) -> Block:
            nonlocal number, done, upcoming
            end, shown = (done + samples.shape[1]) / RATE, []
            while upcoming is not None and upcoming.time < end:
                shown.append(upcoming)
                upcoming = next(frames, None)
            made = Block(number, done / RATE, samples, tuple(shown))
            number, done = number + 1, done + samples.shape[1]
            return made

        for samples in self._audio(self.split):
            held.append(samples)
            size += samples.shape[1]
            if size >= BLOCK:
                joined = np.concatenate(held, 1)
                whole = size - size % BLOCK
                for start in range(0, whole, BLOCK):
                    if self._stopped:
                        return
                    yield block(joined[:, start : start + BLOCK])
                held, size = [joined[:, whole:]], size - whole
        if size:
            yield block(np.concatenate(held, 1))

    def _audio(self, split: bool) -> Iterator[Samples]:
        """[channels or 1, n] at 16 kHz, on the media clock."""
        with self._open() as container:
            sound = Sound(container.streams.audio[0].codec_context.layout if split else None)
            try:
                for frame in container.decode(container.streams.audio[0]):
                    yield from sound.take(frame)
                yield from sound.flush()
            except (av.error.FFmpegError, ValueError, OSError) as error:
                self.ended_early = f"the recording breaks off ({reason(error)})"
        self.repaired += sound.repaired

    def _video(self) -> Iterator[VideoFrame]:
        with self._open() as container:
            stream, audio = _film(container), container.streams.audio[0]
            assert stream is not None
            stream.thread_type = "AUTO"
            start = float(audio.start_time * audio.time_base) if audio.start_time and audio.time_base else 0.0
            pictures = Pictures(start)
            try:
                for frame in container.decode(stream):
                    yield from pictures.take(frame)
            except (av.error.FFmpegError, ValueError, OSError):
                return  # the audio track says how the file ends


def _film(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first track of pictures that move and can be decoded."""
    cover = av.stream.Disposition.attached_pic
    film = (s for s in container.streams.video if s.codec_context is not None and not s.disposition & cover)
    return next(film, None)


def read_audio(path: Path, channels: str = "mix") -> Samples:
    """All of a file, [channels, n] at 16 kHz. Raises MediaError."""
    return np.concatenate([block.samples for block in FileSource(path, channels)], 1)


class Sound:
    """Decoded audio frames to samples at 16 kHz on the media clock, which starts with the first frame."""

    HOLE = 0.05  # seconds missing between time stamps, in all, from which on silence is put in

    def __init__(self, layout: av.AudioLayout | None = None) -> None:
        """layout: of the channels that come out, whatever the frames have; None: mixed into one."""
        self._channels = 1 if layout is None else layout.nb_channels
        self._layout = "mono" if layout is None else layout
        self._resampler: AudioResampler | None = None
        self._kind: tuple[object, ...] = ()
        self._start: Fraction | None = None
        self._taken = Fraction(0)  # seconds of media given out, silence included
        self.repaired = 0
        """Samples that were not finite numbers and became silence."""

    @property
    def start(self) -> float | None:
        """The time stamp of the media clock's zero, in seconds."""
        return None if self._start is None else float(self._start)

    def take(self, frame: av.AudioFrame) -> Iterator[Samples]:
        """[channels or 1, n] of one frame, with silence before it where time stamps leave a hole. Raises ValueError for
        a frame that is no sound."""
        if frame.sample_rate not in RATES:
            raise ValueError(f"{frame.sample_rate} samples a second")
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * frame.time_base
            if self._start is None:
                self._start = time
            hole = float(time - self._start - self._taken)
            if self.HOLE < hole < 3600:
                silence = round(hole * RATE)
                for done in range(0, silence, RATE):  # an hour at once would be a quarter of a gigabyte
                    yield np.zeros((self._channels, min(RATE, silence - done)), np.float32)
            if hole > self.HOLE or hole < -1:  # a jump back, or of hours, is the sender's clock set anew
                self._taken = time - self._start if self.HOLE < hole < 3600 else self._taken
                self._start = time - self._taken
            frame.pts = None  # the clock is ours; the resampler shall only convert
        kind = frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate
        if self._resampler is None or kind != self._kind:  # broadcasts change from stereo to 5.1 and back
            yield from self.flush()
            self._kind, self._resampler = kind, AudioResampler("fltp", self._layout, RATE)
        self._taken += Fraction(frame.samples, frame.sample_rate)
        yield from map(self._clean, self._resampler.resample(frame))

    def flush(self) -> Iterator[Samples]:
        """What the resampler still holds."""
        if self._resampler is not None:
            yield from map(self._clean, self._resampler.resample(None))

    def _clean(self, frame: av.AudioFrame) -> Samples:
        samples = frame.to_ndarray().astype(np.float32, copy=False)
        finite = np.isfinite(samples)
        if not finite.all():
            self.repaired += int(samples.size - finite.sum())
            samples = np.where(finite, samples, 0).astype(np.float32)
        clipped: Samples = samples.clip(-1, 1)
        return clipped


class Pictures:
    """Decoded video frames to the few and small ones that are looked at."""

    def __init__(self, start: float) -> None:
        """start: time stamp of the media clock's zero, in seconds."""
        self.start = start
        self._due = -math.inf

    def take(self, frame: av.VideoFrame) -> Iterator[VideoFrame]:
        """The frame, if it is due, on the media clock."""
        if frame.time is None or frame.time < self._due < frame.time + 60:  # later, it is a clock that was set anew
            return
        self._due = frame.time + 0.99 / VIDEO_RATE
        scale = min(1.0, VIDEO_WIDTH / frame.width)
        small = frame.reformat(round(frame.width * scale), round(frame.height * scale), "rgb24")
        yield VideoFrame(frame.time - self.start, small.to_ndarray())


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
