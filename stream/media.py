"""Audio and video files, through PyAV, as blocks on one media clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler

from stream import RATE
from stream.block import Block, Samples, VideoFrame

BLOCK = RATE // 5  # 200 ms
VIDEO_RATE = 5  # frames kept a second; facial expression changes slower
VIDEO_WIDTH = 640  # pixels, larger pictures are scaled down


class MediaError(Exception):
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

    def __init__(self, path: Path, channels: str = "auto") -> None:
        """channels: "mix", "split", or "auto": split a stereo file whose two channels differ.

        Raises MediaError when there is nothing to hear.
        """
        if not path.exists():
            raise MediaError(f"{path}: no such file")
        if path.is_dir():
            raise MediaError(f"{path}: is a folder, not a recording")
        if path.stat().st_size == 0:
            raise MediaError(f"{path}: the file is empty")
        self.path = path
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
                any(not s.disposition & av.stream.Disposition.attached_pic for s in container.streams.video),
            )
        if channels == "auto":
            channels = "split" if self.info.channels == 2 and self._channels_differ() else "mix"
        self.split = channels == "split" and self.info.channels > 1
        self.channels = self.info.channels if self.split else 1

    def _open(self) -> av.container.InputContainer:
        try:
            container = av.open(str(self.path), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: not a media file that can be read ({_reason(error)})") from None
        if not container.streams.audio:
            container.close()
            raise MediaError(f"{self.path}: has no audio track")
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
        """[channels or 1, n] at 16 kHz, on the media clock: holes in the time stamps are filled with silence."""
        resampler = AudioResampler("fltp", None if split else "mono", RATE)
        expected: Fraction | None = None
        with self._open() as container:
            stream = container.streams.audio[0]
            try:
                for frame in container.decode(stream):
                    if frame.pts is not None and frame.time_base is not None:
                        time = frame.pts * frame.time_base
                        hole = float(time - expected) if expected is not None else 0.0
                        if 0.05 < hole < 3600:
                            yield np.zeros((len(frame.layout.channels) if split else 1, round(hole * RATE)), np.float32)
                        expected = time + Fraction(frame.samples, frame.sample_rate)
                        frame.pts = None  # the clock is ours; the resampler shall only convert
                    yield from map(self._clean, resampler.resample(frame))
                yield from map(self._clean, resampler.resample(None))
            except (av.error.FFmpegError, ValueError, OSError) as error:
                self.ended_early = f"the recording breaks off ({_reason(error)})"

    def _clean(self, frame: av.AudioFrame) -> Samples:
        samples = frame.to_ndarray().astype(np.float32, copy=False)
        finite = np.isfinite(samples)
        if not finite.all():
            self.repaired += int(samples.size - finite.sum())
            samples = np.where(finite, samples, 0).astype(np.float32)
        clipped: Samples = samples.clip(-1, 1)
        return clipped

    def _video(self) -> Iterator[VideoFrame]:
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            due = 0.0
            try:
                for frame in container.decode(stream):
                    if frame.time is None or frame.time < due:
                        continue
                    due = frame.time + 0.99 / VIDEO_RATE
                    scale = min(1.0, VIDEO_WIDTH / frame.width)
                    small = frame.reformat(round(frame.width * scale), round(frame.height * scale), "rgb24")
                    yield VideoFrame(frame.time, small.to_ndarray())
            except (av.error.FFmpegError, ValueError, OSError):
                return  # the audio track says how the file ends


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
