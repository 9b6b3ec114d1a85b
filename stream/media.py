"""Audio and video files, through PyAV, as blocks on one media clock."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from stream import RATE
from stream.block import BLOCK, Block, Samples, VideoFrame
from stream.errors import InputError

VIDEO_RATE = 10  # frames kept a second: enough to see whose mouth moves with the voice
VIDEO_WIDTH, VIDEO_HEIGHT = 480, 1080  # pixels, larger pictures are scaled down
CROWD = 30  # pictures that one block may bring; more in its 100 ms come from a clock gone wrong

# What is decoded: bounds that hold before memory is taken, because a small file may claim to be anything.
PIXELS = 4096 * 2304  # of a picture
RATES = range(4_000, 384_001)  # Hz; below, a second of sound becomes many when it is resampled
CHANNELS = 64
# Containers, of FFmpeg's many: those of recordings, none that is a list of other files or addresses to open.
CONTAINERS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dss,dts,dv,eac3,flac,flv,g722,g726,gsm,ircam,loas,matroska,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,mulaw,mxf,nistsphere,nut,ogg,qcp,sox,tak,truehd,tta,voc,w64,wav,webm,wv"
)
LIMITS = {"max_pixels": str(PIXELS), "max_samples": str(1 << 19), "max_streams": "64"}


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

    def __init__(
        self, path: Path, channels: str = "auto", content: bytes | None = None, longest: float | None = None
    ) -> None:
        """channels: "mix", "split", or "auto": split a stereo file whose two channels differ.

        content: the file's bytes, for what shall touch no disk; `path` then is only a name. longest: in seconds.

        Raises MediaError when there is nothing to hear.
        """
        if content is None and not path.exists():
            raise MediaError(f"{path}: no such file")
        if content is None and path.is_dir():
            raise MediaError(f"{path}: is a folder, not a recording")
        if not (path.stat().st_size if content is None else content):
            raise MediaError(f"{path}: the file is empty")
        self.path, self._content, self._longest = path, content, longest
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
            first = container.streams.video[0] if self.info.video else None
            if first is not None and first.codec_context is not None and not first.codec_context.width:
                # FFmpeg forgets a size that is beyond the limit; decoding would give no picture and no reason.
                raise MediaError(f"{path}: pictures of more than {PIXELS} pixels, or of no known size")
        if longest is not None and self.info.duration is not None and self.info.duration > longest:
            raise MediaError(f"{path}: {self.info.duration / 3600:.1f} h long; {self._bound} are taken")
        if channels == "auto":
            channels = "split" if self.info.channels == 2 and self._channels_differ() else "mix"
        self.split = channels == "split" and self.info.channels > 1
        self.channels = self.info.channels if self.split else 1
        self.name, self.video = str(path), self.info.video

    def _open(self) -> av.container.InputContainer:
        try:
            file: Any = str(self.path) if self._content is None else io.BytesIO(self._content)
            opens = {"protocol_whitelist": "file" if self._content is None else "", "format_whitelist": CONTAINERS}
            container = av.open(file, metadata_errors="replace", options=LIMITS | opens)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: not a media file that can be read ({reason(error)})") from None
        if not container.streams.audio:
            container.close()
            raise MediaError(f"{self.path}: has no audio track")
        if container.streams.audio[0].codec_context is None:
            container.close()
            raise MediaError(f"{self.path}: the audio is of a kind that cannot be decoded")
        try:
            bound(container, str(self.path))
        except MediaError:
            container.close()
            raise
        return container

    @property
    def _bound(self) -> str:
        return f"at most {(self._longest or 0) / 3600:g} h"

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
            end, shown = (done + samples.shape[1]) / RATE, deque[VideoFrame](maxlen=CROWD)
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
        most, count = math.inf if self._longest is None else self._longest * RATE, 0
        with self._open() as container:
            sound = Sound(container.streams.audio[0].codec_context.layout if split else None)
            try:
                for frame in container.decode(container.streams.audio[0]):
                    for samples in sound.take(frame):
                        count += samples.shape[1]
                        if count > most:
                            self.ended_early = f"the recording is longer than said; {self._bound} are taken"
                            return
                        yield samples
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
    PIECE = 10 * RATE  # samples of silence that are made at once

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
        """[channels or 1, n] of one frame, with silence before it where time stamps leave a hole.

        Raises ValueError for one that is beyond the limits.
        """
        if beyond := _beyond(frame):
            raise ValueError(beyond)
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * frame.time_base
            if self._start is None:
                self._start = time
            hole = float(time - self._start - self._taken)
            if self.HOLE < hole < 3600:
                missing = round(hole * RATE)
                for first in range(0, missing, self.PIECE):
                    yield np.zeros((self._channels, min(self.PIECE, missing - first)), np.float32)
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
        scale = min(1.0, VIDEO_WIDTH / frame.width, VIDEO_HEIGHT / frame.height)
        small = frame.reformat(max(1, round(frame.width * scale)), max(1, round(frame.height * scale)), "rgb24")
        yield VideoFrame(frame.time - self.start, small.to_ndarray())


def bound(container: av.container.InputContainer, name: str) -> None:
    """Hold what will be decoded to the limits. Raises MediaError for what a header already says to be beyond them."""
    for sound in container.streams.audio[:1]:
        if sound.codec_context is None:
            raise MediaError(f"{name}: its sound is in a form that is not known")
        if sound.codec_context.sample_rate and (beyond := _beyond(sound.codec_context)):
            raise MediaError(f"{name}: {beyond}")
        sound.codec_context.options = LIMITS
    for pictures in container.streams.video[:1]:
        if pictures.codec_context is not None:
            width, height = pictures.codec_context.width, pictures.codec_context.height
            if width * height > PIXELS:
                raise MediaError(f"{name}: pictures of {width} × {height}; at most {PIXELS} pixels are decoded")
            pictures.codec_context.options = LIMITS


def _beyond(sound: av.AudioFrame | av.AudioCodecContext) -> str | None:
    """What of its form is beyond the limits."""
    rate, channels = sound.sample_rate, len(sound.layout.channels)
    if rate in RATES and channels <= CHANNELS:
        return None
    return f"sound at {rate} Hz in {channels} channels; {RATES[0]} … {RATES[-1]} Hz in at most {CHANNELS} are decoded"


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
