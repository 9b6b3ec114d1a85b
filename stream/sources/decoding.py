"""Decoding with PyAV: samples at 16 kHz and small pictures, within bounds that hold before memory is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler

from stream.block import RATE, Samples, VideoFrame
from stream.errors import MediaError

VIDEO_FPS = 10  # frames kept a second: enough to see whose mouth moves with the voice
VIDEO_WIDTH, VIDEO_HEIGHT = 480, 1080  # pixels, larger pictures are scaled down
MAX_FRAMES_PER_BLOCK = 30  # pictures that one block may bring; more in its 40 ms come from a broken clock
# What is decoded: bounds that hold before memory is taken, because a small file may claim to be anything.
MAX_PIXELS = 4096 * 2304  # of a picture
SAMPLE_RATES = range(4_000, 384_001)  # Hz; below, a second of sound becomes many when it is resampled
MAX_CHANNELS = 64
# Containers, of FFmpeg's many: those of recordings, none that is a list of other files or addresses to open.
CONTAINERS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dss,dts,dv,eac3,flac,flv,g722,g726,gsm,ircam,loas,matroska,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,mulaw,mxf,nistsphere,nut,ogg,qcp,sox,tak,truehd,tta,voc,w64,wav,webm,wv"
)
LIMITS = {"max_pixels": str(MAX_PIXELS), "max_samples": str(1 << 19), "max_streams": "64"}


class AudioDecoder:
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


class VideoDecoder:
    """Decoded video frames to the few and small ones that are looked at."""

    def __init__(self, start: float) -> None:
        """start: time stamp of the media clock's zero, in seconds."""
        self.start = start
        self._due = -math.inf

    def take(self, frame: av.VideoFrame) -> Iterator[VideoFrame]:
        """The frame, if it is due, on the media clock."""
        if frame.time is None or frame.time < self._due < frame.time + 60:  # later, it is a clock that was set anew
            return
        self._due = frame.time + 0.99 / VIDEO_FPS
        scale = min(1.0, VIDEO_WIDTH / frame.width, VIDEO_HEIGHT / frame.height)
        small = frame.reformat(max(1, round(frame.width * scale)), max(1, round(frame.height * scale)), "rgb24")
        yield VideoFrame(frame.time - self.start, small.to_ndarray())


def check_limits(container: av.container.InputContainer, name: str) -> None:
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
            if width * height > MAX_PIXELS:
                raise MediaError(f"{name}: pictures of {width} × {height}; at most {MAX_PIXELS} pixels are decoded")
            pictures.codec_context.options = LIMITS


def _beyond(sound: av.AudioFrame | av.AudioCodecContext) -> str | None:
    """What of its form is beyond the limits."""
    rate, channels = sound.sample_rate, len(sound.layout.channels)
    if rate in SAMPLE_RATES and channels <= MAX_CHANNELS:
        return None
    least, most = SAMPLE_RATES[0], SAMPLE_RATES[-1]
    return f"sound at {rate} Hz in {channels} channels; {least} … {most} Hz in at most {MAX_CHANNELS} are decoded"


def error_text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
