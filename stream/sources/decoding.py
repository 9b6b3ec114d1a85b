"""Decoding with PyAV: 16 kHz audio and small video frames, with limits that apply before memory is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler

from stream.block import RATE, Samples, VideoFrame
from stream.errors import MediaError

VIDEO_FPS = 10  # frames per second: enough to see whose mouth moves with the voice
VIDEO_WIDTH, VIDEO_HEIGHT = 480, 1080  # pixels; larger frames are scaled down
MAX_FRAMES_PER_BLOCK = 30  # more frames within the 40 ms of a block come from a wrong clock
# Limits of the input, checked before memory is allocated, because a small file may claim any size.
MAX_PIXELS = 4096 * 2304  # pixels of a video frame
SAMPLE_RATES = range(4_000, 384_001)  # Hz; at lower rates a small file would become much audio when resampled
MAX_CHANNELS = 64
# FFmpeg's container formats of recordings; none that lists other files or addresses to open.
CONTAINERS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dss,dts,dv,eac3,flac,flv,g722,g726,gsm,ircam,loas,matroska,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,mulaw,mxf,nistsphere,nut,ogg,qcp,sox,tak,truehd,tta,voc,w64,wav,webm,wv"
)
LIMITS = {"max_pixels": str(MAX_PIXELS), "max_samples": str(1 << 19), "max_streams": "64"}


class AudioDecoder:
    """Converts audio frames to 16 kHz samples on the media clock, which starts with the first frame."""

    MIN_HOLE_S = 0.05  # seconds missing between time stamps, in total, that are filled with silence
    SILENCE_SAMPLES = 10 * RATE  # maximum length of one array of silence

    def __init__(self, layout: av.AudioLayout | None = None) -> None:
        """layout: channels of the output, whatever the input has; None: mixed to mono."""
        self._channels = 1 if layout is None else layout.nb_channels
        self._layout = "mono" if layout is None else layout
        self._resampler: AudioResampler | None = None
        self._kind: tuple[object, ...] = ()
        self._start: Fraction | None = None
        self._position = Fraction(0)  # seconds of media returned, including silence
        self._replaced = 0.0  # seconds of silence in place of sound since the last frame
        self.repaired = 0
        """Number of samples that were not finite and were replaced by silence."""

    @property
    def start(self) -> float | None:
        """Time stamp, in seconds, at which the media clock is 0; None before the first frame."""
        return None if self._start is None else float(self._start)

    def decode(self, frame: av.AudioFrame) -> Iterator[Samples]:
        """Samples of one frame, float32 [channels or 1, n] at 16 kHz, after silence for a gap in the time stamps.

        Raises ValueError for a frame beyond the limits.
        """
        if violation := _limit_violation(frame):
            raise ValueError(violation)
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * frame.time_base
            if self._start is None:
                self._start = time - self._position
            hole = float(time - self._start - self._position)
            if -self._replaced <= hole < -1:  # silence stands where it belongs
                return
            if self.MIN_HOLE_S < hole < 3600:
                yield from self._zeros(hole)
            if hole > self.MIN_HOLE_S or hole < -1:  # a jump back, or of hours, means that the sender reset its clock
                self._position = time - self._start if self.MIN_HOLE_S < hole < 3600 else self._position
                self._start = time - self._position
            frame.pts = None  # the resampler must not fill gaps itself
        kind = frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate
        if self._resampler is None or kind != self._kind:  # broadcasts switch between stereo and 5.1
            yield from self.flush()
            self._kind, self._resampler = kind, AudioResampler("fltp", self._layout, RATE)
        self._replaced = 0.0
        self._position += Fraction(frame.samples, frame.sample_rate)
        yield from map(self._clean, self._resampler.resample(frame))

    def silence(self, seconds: float) -> Iterator[Samples]:
        """Silence in place of sound that does not come, float32 [channels or 1, n]; the media clock goes on."""
        self._position += Fraction(round(seconds * RATE), RATE)
        self._replaced += seconds
        return self._zeros(seconds)

    def _zeros(self, seconds: float) -> Iterator[Samples]:
        missing = round(seconds * RATE)
        for first in range(0, missing, self.SILENCE_SAMPLES):
            yield np.zeros((self._channels, min(self.SILENCE_SAMPLES, missing - first)), np.float32)

    def flush(self) -> Iterator[Samples]:
        """Remaining samples of the resampler, float32 [channels or 1, n]."""
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


class VideoDecoder:
    """Selects and scales down the video frames that are analysed."""

    def __init__(self, start: float) -> None:
        """start: time stamp, in seconds, at which the media clock is 0."""
        self.start = start
        self._next_time = -math.inf

    def decode(self, frame: av.VideoFrame) -> Iterator[VideoFrame]:
        """The frame on the media clock, RGB uint8 [height, width, 3], unless it comes too soon after the one before."""
        if frame.time is None or frame.time < self._next_time < frame.time + 60:  # else the sender reset its clock
            return
        self._next_time = frame.time + 0.99 / VIDEO_FPS
        scale = min(1.0, VIDEO_WIDTH / frame.width, VIDEO_HEIGHT / frame.height)
        small = frame.reformat(max(1, round(frame.width * scale)), max(1, round(frame.height * scale)), "rgb24")
        yield VideoFrame(frame.time - self.start, small.to_ndarray())


def check_limits(container: av.container.InputContainer, name: str) -> None:
    """Apply the limits to a container's decoders. Raises MediaError if its headers already exceed them."""
    for sound in container.streams.audio[:1]:
        if sound.codec_context is None:
            raise MediaError(f"{name}: the audio codec is unknown")
        if sound.codec_context.sample_rate and (violation := _limit_violation(sound.codec_context)):
            raise MediaError(f"{name}: {violation}")
        sound.codec_context.options = LIMITS
    for pictures in container.streams.video[:1]:
        if pictures.codec_context is not None:
            width, height = pictures.codec_context.width, pictures.codec_context.height
            if width * height > MAX_PIXELS:
                raise MediaError(
                    f"{name}: video of {width} × {height} pixels; at most {MAX_PIXELS} pixels are supported"
                )
            pictures.codec_context.options = LIMITS


def _limit_violation(sound: av.AudioFrame | av.AudioCodecContext) -> str | None:
    """Message if sample rate or number of channels is beyond the limits."""
    rate, channels = sound.sample_rate, len(sound.layout.channels)
    if rate in SAMPLE_RATES and channels <= MAX_CHANNELS:
        return None
    low, high = SAMPLE_RATES[0], SAMPLE_RATES[-1]
    supported = f"{low} … {high} Hz and at most {MAX_CHANNELS} channels"
    return f"audio at {rate} Hz with {channels} channels; supported are {supported}"


def error_text(error: Exception) -> str:
    """Short text of an error: its system message, else its own message, else its type."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
