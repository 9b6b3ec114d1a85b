"""Decoding with PyAV: 16 kHz audio and small video frames, with limits that apply before memory is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from stream.block import RATE, Samples, VideoFrame
from stream.errors import MediaError

VIDEO_FPS = 10  # frames per second: enough to see whose mouth moves with the voice
VIDEO_WIDTH, VIDEO_HEIGHT = 480, 1080  # pixels; larger frames are scaled down
MAX_VIDEO_FPS = 500  # frames per second that are decoded to select those; a small file may hold any number of them
SPARE_FRAMES = 1000  # above that rate, in all, before a track is left out
MAX_VIDEO_THREADS = 4  # that decode a file; each holds frames in memory
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
# Those that store packets without time stamps: FFmpeg makes these up from the sample rate that the file begins with.
UNTIMED = {"aac", "ac3", "amr", "amrnb", "amrwb", "dts", "eac3", "g722", "g726", "gsm", "loas", "mp3", "qcp", "truehd"}
MAX_DEMUX_ERRORS = 100  # one after the other, with no packet between them, after which a recording breaks off
LIMITS = {"max_pixels": str(MAX_PIXELS), "max_samples": str(1 << 19), "max_streams": "64"}


class AudioDecoder:
    """Converts audio packets to 16 kHz samples on the media clock; what cannot be decoded becomes silence."""

    MIN_HOLE_S = 0.05  # seconds missing between time stamps, in total, that are filled with silence
    MAX_HOLE_S = 3600  # a jump of hours means that the sender reset its clock
    MAX_LEAD_S = 24 * 3600  # of silence before the first frame
    MAX_PACKET_S = 10  # of silence for one packet, whose header may claim any duration
    SILENCE_SAMPLES = 10 * RATE  # maximum length of one array of silence

    def __init__(
        self, layout: av.AudioLayout | None = None, zero: Fraction | None = None, has_timestamps: bool = True
    ) -> None:
        """layout: channels of the output, whatever the input has; None: mixed to mono. zero: time stamp, in seconds,
        at which the media clock is 0; None: that of the first frame. has_timestamps: False if those of the container
        are made up (see `UNTIMED`); the samples are then counted.
        """
        self._channels = 1 if layout is None else layout.nb_channels
        self._layout = "mono" if layout is None else layout
        self._has_timestamps = has_timestamps
        self._resampler: AudioResampler | None = None
        self._kind: tuple[object, ...] = ()
        self._start = zero
        self._position = Fraction(0)  # seconds of media returned, including silence
        self._replaced = 0.0  # seconds of silence in place of sound since the last frame
        self._frame_s = Fraction(0)  # duration of the last frame
        self._bytes = 0  # of packets that could be decoded
        self._notice: str | None = None
        self.repaired = 0
        """Number of samples that were not finite and were replaced by silence."""
        self.damaged = 0
        """Number of packets that could not be decoded and were replaced by silence."""
        self.gaps = Fraction(0)
        """Seconds missing between time stamps, which were filled with silence."""

    @property
    def start(self) -> float | None:
        """Time stamp, in seconds, at which the media clock is 0; None before the first frame."""
        return None if self._start is None else float(self._start)

    @property
    def has_decoded(self) -> bool:
        """True once a frame could be decoded."""
        return self._resampler is not None

    def read(self, packet: av.Packet) -> Iterator[Samples]:
        """Samples of one packet, float32 [channels or 1, n] at 16 kHz; silence if it cannot be decoded."""
        try:
            for frame in packet.decode():
                if isinstance(frame, av.AudioFrame):
                    yield from self.decode(frame)
            self._bytes += packet.size
        except (av.error.FFmpegError, ValueError):
            yield from self._replace(packet)

    def decode(self, frame: av.AudioFrame) -> Iterator[Samples]:
        """Samples of one frame, float32 [channels or 1, n] at 16 kHz, after silence for a gap in the time stamps.

        Raises ValueError for a frame beyond the limits, FFmpegError for one that cannot be resampled.
        """
        if violation := _limit_violation(frame):
            raise ValueError(violation)
        if frame.pts is not None and frame.time_base and self._has_timestamps:
            time = frame.pts * frame.time_base
            if self._is_replaced(time):
                return
            yield from self._follow(time)
        frame.pts = None  # the resampler must not fill gaps itself
        kind = frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate
        if self._resampler is None or kind != self._kind:  # broadcasts switch between stereo and 5.1
            yield from self.flush()
            # Interleaved, as PyAV reads beyond the planes of 8 and more channels.
            self._kind, self._resampler = kind, AudioResampler("flt", self._layout, RATE)
        resampled = self._resampler.resample(frame)
        self._frame_s = Fraction(frame.samples, frame.sample_rate)
        self._position += self._frame_s
        self._replaced = 0.0
        yield from map(self._clean, resampled)

    def take_notice(self) -> str | None:
        """The message on damaged packets that is due: at the 1st, 10th, 100th … of them."""
        notice, self._notice = self._notice, None
        return notice

    def _follow(self, time: Fraction) -> Iterator[Samples]:
        """Silence up to a frame's time stamp, unless that means that the sender reset its clock."""
        if self._start is None:
            self._start = time - self._position
        hole = time - self._start - self._position
        first = not self._position
        if (0 if first else self.MIN_HOLE_S) < hole < (self.MAX_LEAD_S if first else self.MAX_HOLE_S):
            self.gaps += 0 if first else hole
            yield from self._silence(hole)
        elif hole > self.MIN_HOLE_S or hole < -1:
            self._start = time - self._position

    def _replace(self, packet: av.Packet) -> Iterator[Samples]:
        """Silence in place of a packet that cannot be decoded, which is counted."""
        if not packet.size and self.has_decoded:  # the end of the stream
            return
        self.damaged += 1
        if math.log10(self.damaged).is_integer():
            what, whose = ("a packet", "its") if self.damaged == 1 else (f"{self.damaged} packets", "their")
            self._notice = f"{what} of audio could not be decoded: silence took {whose} place"
        base = packet.time_base
        length = packet.duration * base if packet.duration and base else self._frame_s
        if packet.pts is not None and base and self._has_timestamps:
            if self._start is None:
                return
            length = min(length, packet.pts * base + length - self._start - self._position)
        elif self._bytes and packet.stream.codec_context.name == "aac":  # of a wrong length: one of several, or a part
            length = self._position * packet.size / self._bytes
        yield from self._silence(min(length, Fraction(self.MAX_PACKET_S)))

    def _silence(self, seconds: Fraction) -> Iterator[Samples]:
        missing = round(seconds * RATE)
        self._position += max(Fraction(0), seconds)
        for first in range(0, missing, self.SILENCE_SAMPLES):
            yield np.zeros((self._channels, min(self.SILENCE_SAMPLES, missing - first)), np.float32)

    def silence(self, seconds: float) -> Iterator[Samples]:
        """Silence in place of sound that does not come, float32 [channels or 1, n]; the media clock goes on."""
        self._replaced += seconds
        return self._silence(Fraction(round(seconds * RATE), RATE))

    def _is_replaced(self, time: Fraction) -> bool:
        """True if silence has taken the place of a frame, which comes late."""
        return self._start is not None and -self._replaced <= time - self._start - self._position < -1

    def flush(self) -> Iterator[Samples]:
        """Remaining samples of the resampler, float32 [channels or 1, n]."""
        if self._resampler is not None:
            yield from map(self._clean, self._resampler.resample(None))

    def _clean(self, frame: av.AudioFrame) -> Samples:
        samples = np.ascontiguousarray(frame.to_ndarray().reshape(-1, self._channels).T, np.float32)
        finite = np.isfinite(samples)
        if not finite.all():
            self.repaired += int(samples.size - finite.sum())
            samples = np.where(finite, samples, 0).astype(np.float32)
        clipped: Samples = samples.clip(-1, 1)
        return clipped


class VideoDecoder:
    """Selects the video frames that are analysed, scales them down and turns them upright."""

    def __init__(self, start: float, fps: float = VIDEO_FPS) -> None:
        """start: time stamp, in seconds, at which the media clock is 0; fps: frames per second that are selected."""
        self.start, self._fps = start, fps
        self._next_time = self._latest = -math.inf
        self._spare: float = SPARE_FRAMES
        self._notice: str | None = None
        self.damaged = 0
        """Number of packets that could not be decoded."""

    def read(self, packet: av.Packet) -> Iterator[VideoFrame]:
        """Frames of one packet, as from `decode`; none if it cannot be decoded, or once there were far too many."""
        if self._spare <= 0:
            return
        try:
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    yield from self.decode(frame)
        except (av.error.FFmpegError, ValueError):
            self.damaged += bool(packet.size)

    def decode(self, frame: av.VideoFrame) -> Iterator[VideoFrame]:
        """The frame on the media clock, RGB uint8 [height, width, 3], unless it comes too soon after the one before."""
        self._spare -= 1
        if self._spare <= 0:
            self._notice = f"video of more than {MAX_VIDEO_FPS} pictures a second is left out"
            return
        if frame.time is None or frame.time < self._next_time < frame.time + 60:  # else the sender reset its clock
            return
        self._next_time = frame.time + 0.99 / self._fps
        if frame.time > self._latest:
            self._latest, self._spare = frame.time, min(self._spare + MAX_VIDEO_FPS / self._fps, SPARE_FRAMES)
        lies_on_its_side, flips = _orientation(frame)
        width, height = (frame.height, frame.width) if lies_on_its_side else (frame.width, frame.height)
        scale = min(1.0, VIDEO_WIDTH / width, VIDEO_HEIGHT / height)
        small = frame.reformat(max(1, round(frame.width * scale)), max(1, round(frame.height * scale)), "rgb24")
        image = small.to_ndarray()
        if lies_on_its_side or flips:
            image = np.ascontiguousarray(np.flip(image.swapaxes(0, 1) if lies_on_its_side else image, flips))
        yield VideoFrame(frame.time - self.start, image)

    def take_notice(self) -> str | None:
        """The message that is due, if the track is left out from here on."""
        notice, self._notice = self._notice, None
        return notice


def _orientation(frame: av.VideoFrame) -> tuple[bool, tuple[int, ...]]:
    """True if rows and columns of a frame are to be exchanged, and the axes to be flipped then, for it to be upright.

    A camera held upright says in a matrix [a b u, c d v, x y w] where a pixel belongs: x' = ax + cy, y' = bx + dy.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, ()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    lies_on_its_side = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if lies_on_its_side else (a, d)
    return lies_on_its_side, ((0,) if down < 0 else ()) + ((1,) if across < 0 else ())


def packets(container: av.container.InputContainer, *streams: av.AudioStream | av.VideoStream) -> Iterator[av.Packet]:
    """Packets of streams of a recording; damage between them is passed over.

    Raises FFmpegError or OSError where nothing follows it.
    """
    errors = 0
    while True:
        try:
            for packet in container.demux(streams):
                errors = 0
                yield packet
            return
        except (av.error.FFmpegError, OSError):
            errors += 1
            if errors > MAX_DEMUX_ERRORS:
                raise


def open_container(file: Any, **options: Any) -> av.container.InputContainer:
    """`av.open` for reading; tags that are no UTF-8 are no reason to refuse a file.

    PyAV before 19 has to be told so; later ones do not know the argument.
    """
    if hasattr(av.container.InputContainer, "metadata_errors"):
        options["metadata_errors"] = "replace"
    container: av.container.InputContainer = av.open(file, **options)
    return container


def clock_zero(container: av.container.InputContainer) -> Fraction | None:
    """Time stamp, in seconds, at which a recording begins, with whichever track is the first; None if it has none."""
    return None if container.start_time is None else Fraction(container.start_time, av.time_base)


def ffmpeg_path(path: Path) -> str:
    """A path as FFmpeg takes it for a file, whatever its name: the part before a colon would be a protocol."""
    return f"file:{path}"


def limit_audio(sound: av.AudioStream, name: str) -> None:
    """Apply the limits to the decoder of an audio track. Raises MediaError if its header already exceeds them."""
    if sound.codec_context is None:
        raise MediaError(f"{name}: the audio codec is unknown")
    if sound.codec_context.sample_rate and (violation := _limit_violation(sound.codec_context)):
        raise MediaError(f"{name}: {violation}")
    sound.codec_context.options = LIMITS


def limited_film(
    container: av.container.InputContainer, live: bool = False
) -> tuple[av.VideoStream | None, str | None]:
    """The first video track that can be decoded and is no cover picture, with the limits applied to its decoder.

    live: its size may become known later. Without such a track, a message if that is because of the limits.
    """
    problem = None
    for film in container.streams.video:
        if film.codec_context is None or film.disposition & av.stream.Disposition.attached_pic:
            continue
        width, height = film.codec_context.width, film.codec_context.height
        if (0 if live else 1) <= width * height <= MAX_PIXELS:
            film.codec_context.options = LIMITS
            return film, None
        # FFmpeg drops a size beyond the limit; decoding would return no frames and no error.
        size = f"of {width} × {height} pixels" if width else "of unknown size"
        problem = problem or f"video {size} is left out: at most {MAX_PIXELS} pixels can be analysed"
    return None, problem


def damage(sound: AudioDecoder, pictures: VideoDecoder) -> dict[str, int]:
    """Counts of what was missing, by their names in `session.ended`."""
    return {
        "damaged_packets": sound.damaged,
        "damaged_pictures": pictures.damaged,
        "gaps_ms": round(1000 * sound.gaps),
    }


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
