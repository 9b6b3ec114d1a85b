"""Audio and video files, decoded with PyAV, as blocks on one media clock."""

from __future__ import annotations

import io
import math
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples, VideoFrame
from stream.errors import MediaError
from stream.sources.base import Source, SourceWrapper
from stream.sources.channels import Channels, choose_track, judge_channels, track_name
from stream.sources.decoding import (
    CONTAINERS,
    LIMITS,
    MAX_FRAMES_PER_BLOCK,
    MAX_VIDEO_THREADS,
    UNTIMED,
    AudioDecoder,
    VideoDecoder,
    clock_zero,
    damage,
    error_text,
    ffmpeg_path,
    limit_audio,
    limited_film,
    open_container,
    packets,
)

MAX_MISSING_END_S, MAX_MISSING_END = 2.0, 0.02  # seconds and share by which a header may say too much
MAX_TRACKS = 16  # of a file that are analysed at once, each as a speaker
MAX_UNDECODED_PACKETS = 100_000  # of which none can be decoded, after which a file is no recording


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
        self,
        path: Path,
        channels: str = "auto",
        content: bytes | None = None,
        max_seconds: float | None = None,
        track: int | None = None,
        pictures: bool = True,
    ) -> None:
        """channels: "mix", "split", or "auto", which splits a stereo file whose channels have a speaker each.

        content: the file's bytes, for uploads that must not touch a disk; `path` is then only a name. max_seconds:
        longest duration that is accepted. track: number of the audio track, from 1; None: see `choose_track`.
        pictures: deliver those of its video track.

        Raises MediaError if the file cannot be read, has no audio, or is longer than `max_seconds`.
        """
        self.path, self.name, self._content, self._max_seconds = path, path.name, content, max_seconds
        self.repaired = 0
        """Number of samples that were not finite and were replaced by silence."""
        self.ended_early: str | None = None
        """Reason of a premature end; None if the file was read to its end."""
        self._stopping = threading.Event()
        self._sound, self._pictures = AudioDecoder(), VideoDecoder(0.0)
        self._track, choice = choose_track(self._open, str(path), track)
        with self._open() as container:
            audio = container.streams.audio[self._track]
            duration = audio.duration * audio.time_base if audio.duration and audio.time_base else None
            if duration is None and container.duration:
                duration = Fraction(container.duration, av.time_base)
            self._is_exact = container.format.name not in UNTIMED
            film, no_film = limited_film(container) if pictures else (None, None)
            self.info = MediaInfo(
                audio.codec_context.channels,
                audio.codec_context.sample_rate,
                float(duration) if duration is not None else None,
                film is not None,
            )
        self._notices = [notice for notice in (choice, no_film) if notice is not None]
        self._require_sound()
        if max_seconds is not None and self.info.duration is not None and self.info.duration > max_seconds:
            raise MediaError(f"{path}: {self.info.duration / 3600:.1f} h long; {self._bound} are accepted")
        judged = self._judge_channels() if self.info.channels == 2 and channels != "split" else Channels(False)
        self.split = self.info.channels > 1 and (channels == "split" or (channels == "auto" and judged.apart))
        self._weights = None if self.split or judged.weights is None else np.array([judged.weights], np.float32)
        self.channels = self.info.channels if self.split else 1
        self.video = self.info.video
        self.names: dict[int, str] = {}
        """Names of the channels: none."""

    def _open(self) -> av.container.InputContainer:
        return _open(self.path, self._content)

    def _require_sound(self) -> None:
        """Raises MediaError if there are packets of audio, but none that can be decoded."""
        with self._open() as container:
            sound = AudioDecoder()
            for packet in self._packets(container):
                deque(sound.read(packet), maxlen=0)
                if sound.has_decoded:
                    return
                if sound.damaged > MAX_UNDECODED_PACKETS:
                    break
        if sound.damaged:
            raise MediaError(f"{self.path}: not a media file that can be read (nothing of its audio can be decoded)")

    def _packets(self, container: av.container.InputContainer) -> Iterator[av.Packet]:
        """Packets of the audio track. Raises MediaError, FFmpegError, OSError."""
        track = container.streams.audio[self._track]
        limit_audio(track, self.name)
        return packets(container, track)

    @property
    def _bound(self) -> str:
        return f"at most {(self._max_seconds or 0) / 3600:g} h"

    def _judge_channels(self) -> Channels:
        judged = judge_channels(self._audio(split=True))
        self.repaired, self.ended_early = 0, None
        return judged

    def counts(self) -> dict[str, int]:
        return {"repaired_samples": self.repaired} | damage(self._sound, self._pictures)

    def stop(self) -> None:
        """Deliver no further blocks."""
        self._stopping.set()

    @property
    def is_stopped(self) -> bool:
        return self._stopping.is_set()

    def sound_again(self) -> FileSource:
        """Its sound from the beginning, whatever has been read, as a source that stops when this one does."""
        again = copy(self)
        again.repaired, again.ended_early, again._notices = 0, None, []
        again.info, again.video = replace(self.info, video=False), False
        again._sound, again._pictures = AudioDecoder(), VideoDecoder(0.0)
        return again

    def __iter__(self) -> Iterator[Block]:
        """Blocks in order, audio float32 [channels, n]. If the file breaks off, `ended_early` says why."""
        last: Block | None = None
        for block in self._blocks():
            if last is not None:
                yield last
            last = block
        if last is not None:
            end = last.start + last.samples.shape[1] / RATE
            yield replace(last, notice="; ".join(filter(None, (last.notice, self._missing_end(end)))) or None)

    def _missing_end(self, end: float) -> str | None:
        """Message if the audio ends, at `end` in seconds, well before the time that the file's header says."""
        duration = self.info.duration
        if (
            duration is None
            or not self._is_exact
            or self._stopping.is_set()
            or end > duration - max(MAX_MISSING_END_S, MAX_MISSING_END * duration)
        ):
            return None
        return f"its audio ends after {end:.1f} s; its header says {duration:.1f} s"

    def _blocks(self) -> Iterator[Block]:
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
            notices = [*self._notices, *filter(None, [self._sound.take_notice(), self._pictures.take_notice()])]
            made = Block(number, done / RATE, samples, tuple(shown), notice="; ".join(notices) or None)
            self._notices = []
            number, done = number + 1, done + samples.shape[1]
            return made

        for samples in self._heard():
            held.append(samples)
            size += samples.shape[1]
            if size >= BLOCK_SAMPLES:
                joined = np.concatenate(held, 1)
                whole = size - size % BLOCK_SAMPLES
                for start in range(0, whole, BLOCK_SAMPLES):
                    if self._stopping.is_set():
                        return
                    yield block(joined[:, start : start + BLOCK_SAMPLES])
                held, size = [joined[:, whole:]], size - whole
        if size:
            yield block(np.concatenate(held, 1))

    def _audio(self, split: bool) -> Iterator[Samples]:
        """Audio on the media clock, float32 [channels or 1, n] at 16 kHz."""
        limit, count = math.inf if self._max_seconds is None else self._max_seconds * RATE, 0
        with self._open() as container:
            layout = container.streams.audio[self._track].codec_context.layout if split else None
            sound = AudioDecoder(layout, clock_zero(container), container.format.name not in UNTIMED)
            self._sound = sound
            try:
                for packet in self._packets(container):
                    for samples in sound.read(packet):
                        count += samples.shape[1]
                        if count > limit:
                            self.ended_early = (
                                f"the recording is longer than its header says; {self._bound} are accepted"
                            )
                            return
                        yield samples
            except (av.error.FFmpegError, OSError) as error:
                self.ended_early = f"the recording breaks off ({error_text(error)})"
            yield from sound.flush()
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
            film, _ = limited_film(container)
            assert film is not None
            film.thread_type, film.codec_context.thread_count = "AUTO", min(MAX_VIDEO_THREADS, os.cpu_count() or 1)
            self._pictures = VideoDecoder(float(clock_zero(container) or 0))
            try:
                for packet in packets(container, film):
                    if self._stopping.is_set():
                        return
                    yield from self._pictures.read(packet)
            except (av.error.FFmpegError, OSError):
                return  # the audio track says how the file ends


class TracksSource:
    """All audio tracks of a media file at once, each mixed to mono and the channel of one speaker, with its pictures.

    Each lies on the file's clock; one that ends before the others is followed by silence. Tracks of which nothing can
    be decoded are left out, and told.
    """

    live, split = False, True

    def __init__(self, path: Path, content: bytes | None = None, max_seconds: float | None = None) -> None:
        """Arguments as of `FileSource`. Raises MediaError, also for more tracks than `MAX_TRACKS`."""
        with _open(path, content) as container:
            tags = [track_name(track) for track in container.streams.audio]
        if not tags:
            raise MediaError(f"{path}: has no audio track")
        if len(tags) > MAX_TRACKS:
            raise MediaError(f"{path}: has {len(tags)} audio tracks; at most {MAX_TRACKS} can be channels")
        self._sources, left_out, problem = dict[int, FileSource](), list[int](), None
        for number in range(1, len(tags) + 1):
            try:
                self._sources[number] = FileSource(path, "mix", content, max_seconds, number, not self._sources)
            except MediaError as error:
                left_out.append(number)
                problem = error
        if problem is not None and not self._sources:
            raise problem
        self.name, self.path, self.channels = path.name, path, len(self._sources)
        self.video = any(source.video for source in self._sources.values())
        self.names: dict[int, str] = {}
        """Names of the channels, as far as the file has any: titles of the tracks, or their languages."""
        for channel, number in enumerate(self._sources):
            if (tag := tags[number - 1]) is not None:
                self.names[channel] = tag if tags.count(tag) == 1 else f"{tag} {tags[:number].count(tag)}"
        numbers = [f"{n} ({self.names[c]})" if c in self.names else str(n) for c, n in enumerate(self._sources)]
        self._notice = f"{len(tags)} audio tracks, each a speaker's channel: {', '.join(numbers)}"
        if left_out:
            self._notice += f"; left out, for nothing can be decoded: {', '.join(map(str, left_out))}"

    @property
    def repaired(self) -> int:
        return sum(source.repaired for source in self._sources.values())

    @property
    def ended_early(self) -> str | None:
        return "; ".join(dict.fromkeys(filter(None, (s.ended_early for s in self._sources.values())))) or None

    def counts(self) -> dict[str, int]:
        """Sums over the tracks."""
        counted = [source.counts() for source in self._sources.values()]
        return {name: sum(count[name] for count in counted) for name in counted[0]}

    def stop(self) -> None:
        """Deliver no further blocks."""
        for source in self._sources.values():
            source.stop()

    def __iter__(self) -> Iterator[Block]:
        """Blocks in order, audio float32 [tracks, n]."""
        sources = list(self._sources.values())
        last: list[Block | None] = []
        for blocks in zip_longest(*(source._blocks() for source in sources)):
            if last:
                yield self._joined(last)
            last = list(blocks)
        if last:
            block = self._joined(last)
            missing = sources[0]._missing_end(block.start + block.samples.shape[1] / RATE)
            yield replace(block, notice="; ".join(filter(None, (block.notice, missing))) or None)

    def _joined(self, blocks: Sequence[Block | None]) -> Block:
        """The blocks of all tracks for the same time as one; None: the track has ended."""
        there = [block for block in blocks if block is not None]
        samples = np.zeros((len(blocks), max(block.samples.shape[1] for block in there)), np.float32)
        for channel, block in enumerate(blocks):
            if block is not None:
                samples[channel, : block.samples.shape[1]] = block.samples[0]
        notices = [self._notice, *dict.fromkeys(block.notice for block in there)]
        self._notice = ""
        frames = tuple(frame for block in there for frame in block.frames)
        return Block(there[0].number, there[0].start, samples, frames, notice="; ".join(filter(None, notices)) or None)


def _open(path: Path, content: bytes | None) -> av.container.InputContainer:
    """Open a file, or its bytes, under the limits. Raises MediaError."""
    if content is None and not path.exists():
        raise MediaError(f"{path}: no such file")
    if content is None and path.is_dir():
        raise MediaError(f"{path}: is a folder, not a recording")
    if not (path.stat().st_size if content is None else content):
        raise MediaError(f"{path}: the file is empty")
    try:
        file: Any = ffmpeg_path(path) if content is None else io.BytesIO(content)
        opens = {"protocol_whitelist": "file" if content is None else "", "format_whitelist": CONTAINERS}
        return open_container(file, options=LIMITS | opens)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: not a media file that can be read ({error_text(error)})") from None


def open_recording(
    path: Path,
    channels: str = "auto",
    content: bytes | None = None,
    max_seconds: float | None = None,
    track: int | Literal["all"] | None = None,
) -> FileSource | TracksSource:
    """A media file as a source: one of its audio tracks, or all of them. Arguments and errors as of `FileSource`."""
    if track == "all":
        return TracksSource(path, content, max_seconds)
    return FileSource(path, channels, content, max_seconds, track)


def played_file(source: Source) -> FileSource | None:
    """The file that a source plays, by whatever it is wrapped; None where it plays several tracks at once, or none."""
    while isinstance(source, SourceWrapper):
        source = source.source
    return source if isinstance(source, FileSource) else None


def read_audio(path: Path, channels: str = "mix") -> Samples:
    """All audio of a file, float32 [channels, n] at 16 kHz; channels as in `FileSource`. Raises MediaError."""
    return np.concatenate([block.samples for block in FileSource(path, channels)], 1)
