"""A session kept on disk, for those who asked for it: what was heard and seen, and what was published.

FOLDER/SESSION/sound.mkv      the sound, bit by bit as it was labelled
               pictures*.mkv  the pictures (JPEG), a file for each camera
               events.jsonl   the events, one a line
               session.json   how the session listened, so that a replay listens the same way
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any

import av
import numpy as np
from pydantic import ValidationError

from stream.block import RATE, Block, VideoFrame
from stream.errors import MediaError
from stream.events import Event, parse
from stream.sources.base import Source, SourceWrapper
from stream.sources.decoding import error_text
from stream.sources.file import FileSource

SOUND, PICTURES, EVENTS, SETTINGS = "sound.mkv", "pictures", "events.jsonl", "session.json"
CLOCK = Fraction(1, 1000)  # seconds, of the pictures' time stamps


class Recorder(SourceWrapper):
    """A source that keeps what passes through it, and a display that keeps the events."""

    def __init__(self, source: Source, folder: Path, settings: dict[str, Any], annotations: dict[str, Path]) -> None:
        """settings: what a replay needs to listen the same way, as JSON; annotations: files it needs (a transcript,
        turns), by name. Raises MediaError when the folder exists or cannot be written."""
        super().__init__(source)
        self.folder = folder
        settings = {**settings, "split": source.split, "source": source.name}
        try:
            folder.mkdir(parents=True)
            for name, path in annotations.items():
                settings[name] = name + path.suffix
                shutil.copyfile(path, folder / settings[name])
            (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            self._events = (folder / EVENTS).open("w", encoding="utf-8")
            self._sound = _Track(folder / SOUND)
        except OSError as error:
            raise MediaError(f"{folder}: cannot record there ({error_text(error)})") from None
        self._cameras: dict[int | None, _Track] = {}
        self._broken = False

    def __iter__(self) -> Iterator[Block]:
        """The source's blocks. A disk that fails ends the recording, not the session; the block's notice says so."""
        try:
            for block in self.source:
                if not self._broken:
                    try:
                        self._keep(block)
                    except (OSError, av.error.FFmpegError) as error:
                        self._broken = True
                        block = replace(block, notice=f"the recording stops: {error_text(error)}")
                yield block
        finally:
            for track in (self._sound, *self._cameras.values()):
                with suppress(OSError, av.error.FFmpegError):  # what a full disk did not take is lost anyway
                    track.close()

    def event(self, event: Event) -> None:
        """Keep an event. What a full disk does not take is missing from the recording, not from the session."""
        with suppress(OSError):
            if event.type == "session.ended":
                self._events.write(event.wire() + "\n")
                self._events.close()
            elif not self._broken:
                self._events.write(event.wire() + "\n")
                self._events.flush()

    def position(self, seconds: float) -> None:
        pass

    def _keep(self, block: Block) -> None:
        if block.samples.shape[1]:
            self._sound.sound(block)
        for frame in block.frames:
            if frame.channel not in self._cameras:
                which = "" if frame.channel is None else f"-{frame.channel}"
                self._cameras[frame.channel] = _Track(self.folder / f"{PICTURES}{which}.mkv")
            self._cameras[frame.channel].picture(frame)


class _Track:
    """A Matroska file of one stream; readable up to where it broke off."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path), "w")
        self._stream: Any = None

    def sound(self, block: Block) -> None:
        channels = len(block.samples)
        layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
        if self._stream is None:
            self._stream = self._container.add_stream("pcm_f32le", rate=RATE)
            self._stream.codec_context.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.samples.T.reshape(1, -1)), "flt", layout)
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(block.start * RATE)
        self._container.mux(self._stream.encode(frame))

    def picture(self, taken: VideoFrame) -> None:
        height, width, _ = taken.image.shape
        if self._stream is None:
            self._stream = self._container.add_stream("mjpeg", rate=1 / CLOCK, options={"qmin": "2", "qmax": "3"})
            self._stream.width, self._stream.height = width // 2 * 2, height // 2 * 2
            self._stream.pix_fmt, self._stream.time_base = "yuvj420p", CLOCK
        frame = av.VideoFrame.from_ndarray(taken.image, "rgb24").reformat(
            self._stream.width, self._stream.height, "yuvj420p"
        )
        frame.time_base, frame.pts = CLOCK, round(taken.time / CLOCK)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


class RecordedSource:
    """The media of a recorded session, with its pictures at their times."""

    live = False

    def __init__(self, folder: Path) -> None:
        """Raises MediaError when the folder holds no recording."""
        self.settings = read_settings(folder)
        self._sound = FileSource(folder / SOUND, "split" if self.settings.get("split") else "mix")
        self._cameras = sorted(folder.glob(f"{PICTURES}*.mkv"))
        self.name, self.path = str(folder), folder
        self.channels, self.split, self.video = self._sound.channels, self._sound.split, bool(self._cameras)

    @property
    def repaired(self) -> int:
        return self._sound.repaired

    def counts(self) -> dict[str, int]:
        return self._sound.counts()

    @property
    def ended_early(self) -> str | None:
        return self._sound.ended_early

    def stop(self) -> None:
        self._sound.stop()

    def __iter__(self) -> Iterator[Block]:
        cameras = [_pictures(path) for path in self._cameras]
        upcoming = [next(camera, None) for camera in cameras]
        for block in self._sound:
            end, shown = block.start + block.samples.shape[1] / RATE, []
            for n, camera in enumerate(cameras):
                while (frame := upcoming[n]) is not None and frame.time < end:
                    shown.append(frame)
                    upcoming[n] = next(camera, None)
            yield replace(block, frames=tuple(shown))


def _pictures(path: Path) -> Iterator[VideoFrame]:
    _, _, channel = path.stem.partition("-")
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            if frame.time is not None:
                yield VideoFrame(frame.time, frame.to_ndarray(format="rgb24"), int(channel) if channel else None)


def unused(folder: Path) -> Path:
    """FOLDER, or FOLDER~2, FOLDER~3 …: the first that is not there. (No session's id has a tilde.)"""
    numbered = (folder.with_name(f"{folder.name}~{n}") for n in count(2))
    return next(path for path in chain([folder], numbered) if not path.exists())


def parts_of(folder: Path) -> list[Path]:
    """The folders of a session that several processes recorded, one after the other."""
    return [folder, *sorted(folder.parent.glob(f"{folder.name}~*"))]


def files_of(folder: Path) -> list[Path]:
    """What a recording consists of, the folder itself last; [] where there is none. Other files are none of it."""
    if not folder.is_dir():
        return []
    names = (SETTINGS, EVENTS, SOUND, f"{PICTURES}*.mkv", "transcript.*", "rttm.*")
    files = sorted({path for name in names for path in folder.glob(name)})
    return [*files, folder] if files or not any(folder.iterdir()) else []


def read_settings(folder: Path) -> dict[str, Any]:
    """How a recorded session listened. Raises MediaError."""
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MediaError(f"{folder}: is a folder, not a recording (no {SETTINGS} in it)") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{folder / SETTINGS}: cannot be read ({error})") from None
    if not isinstance(settings, dict):
        raise MediaError(f"{folder / SETTINGS}: is not what a recording writes")
    return settings


def read_events(path: Path) -> list[Event]:
    """The events of a JSONL file, or of a recorded session's folder. Raises MediaError, with the line that is none."""
    path = path / EVENTS if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path}: cannot be read ({error_text(error)})") from None
    events = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            events.append(parse(line))
        except ValidationError as error:
            raise MediaError(f"{path}:{number}: not an event ({error.errors()[0]['msg']})") from None
    if not events:
        raise MediaError(f"{path}: holds no events")
    return events
