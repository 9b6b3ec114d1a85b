"""Audio and video files, decoded with PyAV, as blocks on one media clock."""

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

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples, VideoFrame
from stream.errors import MediaError
from stream.sources.channels import Channels, judge_channels
from stream.sources.decoding import (
    CONTAINERS,
    LIMITS,
    MAX_FRAMES_PER_BLOCK,
    MAX_PIXELS,
    AudioDecoder,
    VideoDecoder,
    check_limits,
    error_text,
)


@dataclass(frozen=True)
class MediaInfo:
    """Properties of a media file."""

    channels: int
    """Number of audio channels in the file."""
    rate: int
    """Sample rate of the file in Hz."""
    duration: float | None
    """Duration in seconds; None if the container does not say."""
    video: bool
    """True if it has a video track that can be decoded."""


class FileSource:
    """A media file as blocks of audio, mixed to mono or one channel per speaker, with its video frames."""

    live = False

    def __init__(
        self, path: Path, channels: str = "auto", content: bytes | None = None, max_seconds: float | None = None
    ) -> None:
        """channels: "mix", "split", or "auto", which splits a stereo file whose channels have a speaker each.

        content: the file's bytes, for uploads that must not touch a disk; `path` is then only a name. max_seconds:
        longest duration that is accepted.

        Raises MediaError if the file cannot be read, has no audio, or is longer than `max_seconds`.
        """
        if content is None and not path.exists():
            raise MediaError(f"{path}: no such file")
        if content is None and path.is_dir():
            raise MediaError(f"{path}: is a folder, not a recording")
        if not (path.stat().st_size if content is None else content):
            raise MediaError(f"{path}: the file is empty")
        self.path, self._content, self._max_seconds = path, content, max_seconds
        self.repaired = 0
        """Number of samples that were not finite and were replaced by silence."""
        self.ended_early: str | None = None
        """Reason of a premature end; None if the file was read to its end."""
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
                # FFmpeg drops a size beyond the limit; decoding would return no frames and no error.
                raise MediaError(f"{path}: video of unknown size, or of more than {MAX_PIXELS} pixels")
        if max_seconds is not None and self.info.duration is not None and self.info.duration > max_seconds:
            raise MediaError(f"{path}: {self.info.duration / 3600:.1f} h long; {self._bound} are accepted")
        judged = self._judge_channels() if self.info.channels == 2 and channels != "split" else Channels(False)
        self.split = self.info.channels > 1 and (channels == "split" or (channels == "auto" and judged.apart))
        self._weights = None if self.split or judged.weights is None else np.array([judged.weights], np.float32)
        self.channels = self.info.channels if self.split else 1
        self.name, self.video = str(path), self.info.video

    def _open(self) -> av.container.InputContainer:
        try:
            file: Any = str(self.path) if self._content is None else io.BytesIO(self._content)
            opens = {"protocol_whitelist": "file" if self._content is None else "", "format_whitelist": CONTAINERS}
            container = av.open(file, metadata_errors="replace", options=LIMITS | opens)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: not a media file that can be read ({error_text(error)})") from None
        if not container.streams.audio:
            container.close()
            raise MediaError(f"{self.path}: has no audio track")
        if container.streams.audio[0].codec_context is None:
            container.close()
            raise MediaError(f"{self.path}: the audio codec is unknown")
        try:
            check_limits(container, str(self.path))
        except MediaError:
            container.close()
            raise
        return container

    @property
    def _bound(self) -> str:
        return f"at most {(self._max_seconds or 0) / 3600:g} h"

    def _judge_channels(self) -> Channels:
        judged = judge_channels(self._audio(split=True))
        self.repaired, self.ended_early = 0, None
        return judged

    def counts(self) -> dict[str, int]:
        return {"repaired_samples": self.repaired}

    def stop(self) -> None:
        """Deliver no further blocks."""
        self._stopped = True

    def __iter__(self) -> Iterator[Block]:
        """Blocks in order, audio float32 [channels, n]. If the file breaks off, `ended_early` says why."""
        frames = self._video() if self.info.video else iter(())
        upcoming = next(frames, None)
        held: list[Samples] = []
        size = number = done = 0

        def block(samples: Samples) -> Block:
            nonlocal number, done, upcoming
            end, shown = (done + samples.shape[1]) / RATE, deque[VideoFrame](maxlen=MAX_FRAMES_PER_BLOCK)
            while upcoming is not None and upcoming.time < end:
                shown.append(upcoming)
                upcoming = next(frames, None)
            made = Block(number, done / RATE, samples, tuple(shown))
            number, done = number + 1, done + samples.shape[1]
            return made

        for samples in self._heard():
            held.append(samples)
            size += samples.shape[1]
            if size >= BLOCK_SAMPLES:
                joined = np.concatenate(held, 1)
                whole = size - size % BLOCK_SAMPLES
                for start in range(0, whole, BLOCK_SAMPLES):
                    if self._stopped:
                        return
                    yield block(joined[:, start : start + BLOCK_SAMPLES])
                held, size = [joined[:, whole:]], size - whole
        if size:
            yield block(np.concatenate(held, 1))

    def _audio(self, split: bool) -> Iterator[Samples]:
        """Audio on the media clock, float32 [channels or 1, n] at 16 kHz."""
        limit, count = math.inf if self._max_seconds is None else self._max_seconds * RATE, 0
        with self._open() as container:
            sound = AudioDecoder(container.streams.audio[0].codec_context.layout if split else None)
            try:
                for frame in container.decode(container.streams.audio[0]):
                    for samples in sound.decode(frame):
                        count += samples.shape[1]
                        if count > limit:
                            self.ended_early = (
                                f"the recording is longer than its header says; {self._bound} are accepted"
                            )
                            return
                        yield samples
                yield from sound.flush()
            except (av.error.FFmpegError, ValueError, OSError) as error:
                self.ended_early = f"the recording breaks off ({error_text(error)})"
        self.repaired += sound.repaired

    def _heard(self) -> Iterator[Samples]:
        """The audio as the blocks have it: channels of their own, or added up with `_weights`."""
        if self._weights is None:
            yield from self._audio(self.split)
            return
        for samples in self._audio(split=True):
            yield self._weights @ samples

    def _video(self) -> Iterator[VideoFrame]:
        with self._open() as container:
            stream, audio = _film(container), container.streams.audio[0]
            assert stream is not None
            stream.thread_type = "AUTO"
            start = float(audio.start_time * audio.time_base) if audio.start_time and audio.time_base else 0.0
            pictures = VideoDecoder(start)
            try:
                for frame in container.decode(stream):
                    yield from pictures.decode(frame)
            except (av.error.FFmpegError, ValueError, OSError):
                return  # the audio track says how the file ends


def _film(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video track that can be decoded and is not a cover picture."""
    cover = av.stream.Disposition.attached_pic
    film = (s for s in container.streams.video if s.codec_context is not None and not s.disposition & cover)
    return next(film, None)


def read_audio(path: Path, channels: str = "mix") -> Samples:
    """All audio of a file, float32 [channels, n] at 16 kHz; channels as in `FileSource`. Raises MediaError."""
    return np.concatenate([block.samples for block in FileSource(path, channels)], 1)
