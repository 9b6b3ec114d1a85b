"""A session recorded on disk, on request: its audio, its video frames and its events.

FOLDER/SESSION/sound.mkv      the audio, bit for bit as it was analysed
               pictures*.mkv  the video frames (JPEG), one file per camera
               events.jsonl   the events, one per line
               session.json   the settings of the session, with which a replay is the same
               media.webm     sound and pictures for a browser, once somebody asked for them (`stream.sources.playable`)

The folder lets in its user alone, whatever the umask.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections import deque
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
from stream.private import make_parents
from stream.sources.base import Source, SourceWrapper
from stream.sources.decoding import (
    LIMITS,
    MAX_FRAMES_PER_BLOCK,
    VIDEO_FPS,
    VideoDecoder,
    error_text,
    ffmpeg_path,
    limited_film,
    packets,
)
from stream.sources.file import FileSource

log = logging.getLogger(__name__)

SOUND, PICTURES, EVENTS, SETTINGS = "sound.mkv", "pictures", "events.jsonl", "session.json"
PLAYABLE = "media.webm"  # while it is made it has an ending more
START = "start"  # setting of a recording that does not begin with its session: seconds of media before it
CAMERA = re.compile(re.escape(PICTURES) + r"(?:-([0-9]{1,3}))?\.mkv")
MAX_CAMERAS = 65  # one a channel, and one for all
RECORDED_FPS = 2 * VIDEO_FPS  # pictures per second that are read: all, though their times were rounded
MAX_SETTINGS_BYTES = 1 << 20
TIME_BASE_S = Fraction(1, 1000)  # unit of the video frames' time stamps


class Recorder(SourceWrapper):
    """Records a source's blocks as they pass through, and, as an event observer, the session's events."""

    def __init__(self, source: Source, folder: Path, settings: dict[str, Any], annotations: dict[str, Path]) -> None:
        """settings: settings of the session for a replay, JSON-serializable; annotations: files that a replay needs
        (transcript, turns), by name. Raises MediaError if the folder exists or cannot be written."""
        super().__init__(source)
        self.folder = folder
        self._settings = settings = {**settings, "split": source.split, "source": source.name}
        try:
            make_parents(folder)
            folder.mkdir(mode=0o700)
            for name, path in annotations.items():
                settings[name] = name + path.suffix
                shutil.copyfile(path, private_file(folder / settings[name]))
            private_file(folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            self._events = private_file(folder / EVENTS).open("w", encoding="utf-8")
            self._sound = _Track(folder / SOUND)
        except OSError as error:
            raise MediaError(f"{folder}: cannot be recorded to ({error_text(error)})") from None
        self._cameras: dict[int | None, _Track] = {}
        self._broken = False

    def __iter__(self) -> Iterator[Block]:
        """The source's blocks. A disk error ends the recording, not the session; a block's notice then says so."""
        try:
            for block in self.source:
                if not self._broken:
                    try:
                        self._record(block)
                    except (OSError, av.error.FFmpegError) as error:
                        self._broken = True
                        block = replace(block, notice=f"the recording stops: {error_text(error)}")
                yield block
        finally:
            for track in (self._sound, *self._cameras.values()):
                with suppress(OSError, av.error.FFmpegError):  # on a full disk the rest is lost anyway
                    track.close()

    def begin_at(self, seconds: float) -> None:
        """Note that the recording begins later than its session. On a disk error it is not noted."""
        settings = self._settings | {START: seconds}
        with suppress(OSError):
            (self.folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def event(self, event: Event) -> None:
        """Record an event. On a disk error it is missing from the recording, but not from the session."""
        with suppress(OSError):
            if event.type == "session.ended":
                self._events.write(event.wire() + "\n")
                self._events.close()
            elif not self._broken:
                self._events.write(event.wire() + "\n")
                self._events.flush()

    def position(self, seconds: float) -> None:
        """Nothing: the position is not recorded."""

    def _record(self, block: Block) -> None:
        """Write a block's audio and video frames."""
        if block.samples.shape[1]:
            self._sound.sound(block)
        for frame in block.frames:
            if frame.channel not in self._cameras:
                suffix = "" if frame.channel is None else f"-{frame.channel}"
                self._cameras[frame.channel] = _Track(self.folder / f"{PICTURES}{suffix}.mkv")
            self._cameras[frame.channel].picture(frame)


class _Track:
    """A Matroska file with one stream; after a crash it is readable up to its last packet."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(ffmpeg_path(private_file(path)), "w")
        self._stream: Any = None

    def sound(self, block: Block) -> None:
        """Append a block's audio."""
        channels = len(block.samples)
        layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
        if self._stream is None:
            self._stream = self._container.add_stream("pcm_f32le", rate=RATE)
            self._stream.codec_context.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.samples.T.reshape(1, -1)), "flt", layout)
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(block.start * RATE)
        self._container.mux(self._stream.encode(frame))

    def picture(self, picture: VideoFrame) -> None:
        """Append a video frame."""
        height, width, _ = picture.image.shape
        if self._stream is None:
            self._stream = self._container.add_stream("mjpeg", rate=1 / TIME_BASE_S, options={"qmin": "2", "qmax": "3"})
            self._stream.width, self._stream.height = width // 2 * 2, height // 2 * 2
            self._stream.pix_fmt, self._stream.time_base = "yuvj420p", TIME_BASE_S
        frame = av.VideoFrame.from_ndarray(picture.image, "rgb24").reformat(
            self._stream.width, self._stream.height, "yuvj420p"
        )
        frame.time_base, frame.pts = TIME_BASE_S, round(picture.time / TIME_BASE_S)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and close the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def private_file(path: Path) -> Path:
    """Make a file that only this user can read, to be written."""
    path.touch(mode=0o600)
    return path


class RecordedSource(SourceWrapper):
    """The media of a recorded session as a source. The folder may come from somebody else: see `file_of`."""

    live = False

    def __init__(self, folder: Path) -> None:
        """Raises MediaError if the folder does not contain a recording."""
        self.settings = read_settings(folder)
        super().__init__(FileSource(file_of(folder, SOUND), "split" if self.settings.get("split") else "mix"))
        self._cameras = recorded_cameras(folder)
        self.name, self.path, self.video = folder.resolve().name, folder, bool(self._cameras)
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        super().stop()

    def __iter__(self) -> Iterator[Block]:
        """The recorded blocks, audio float32 [channels, n] with video frames."""
        cameras = [self._pictures(path, channel) for path, channel in self._cameras]
        upcoming = [next(camera, None) for camera in cameras]
        for block in self.source:
            end = block.start + block.samples.shape[1] / RATE
            frames: list[VideoFrame] = []
            for n, camera in enumerate(cameras):
                shown = deque[VideoFrame](maxlen=MAX_FRAMES_PER_BLOCK)
                while (frame := upcoming[n]) is not None and frame.time < end:
                    shown.append(frame)
                    upcoming[n] = next(camera, None)
                frames += shown
            yield replace(block, frames=tuple(frames))

    def _pictures(self, path: Path, channel: int | None) -> Iterator[VideoFrame]:
        """Video frames of one camera's file, under the limits of any file; none if it cannot be read."""
        try:
            options = LIMITS | {"protocol_whitelist": "file", "format_whitelist": "matroska"}
            with av.open(ffmpeg_path(path), options=options) as container:
                film, _ = limited_film(container)
                pictures = VideoDecoder(0.0, RECORDED_FPS)
                for packet in () if film is None else packets(container, film):
                    if self._stopped:
                        return
                    for frame in pictures.read(packet):
                        yield replace(frame, channel=channel)
        except (av.error.FFmpegError, OSError):
            return  # the sound says how the recording ends


def file_of(folder: Path, name: str) -> Path:
    """A file of a recording, by its name in the folder: not elsewhere, nor a link to there. Raises MediaError."""
    try:
        path = (folder / name).resolve()
        if name == Path(name).name and path.is_file() and path.is_relative_to(folder.resolve()):
            return path
    except (OSError, ValueError):  # a name that no file system takes
        pass
    raise MediaError(f"{folder}: not a recording (it has no file {name[:100]!r} of its own)")


def recorded_cameras(folder: Path) -> list[tuple[Path, int | None]]:
    """The files of the cameras of a recording, each with the channel whose speaker it shows. Raises MediaError."""
    return [
        (file_of(folder, path.name), int(match[1]) if match[1] else None)
        for path in sorted(folder.glob(f"{PICTURES}*.mkv"))
        if (match := CAMERA.fullmatch(path.name))
    ][:MAX_CAMERAS]


def unused_folder(folder: Path) -> Path:
    """The first of FOLDER, FOLDER~2, FOLDER~3 … that does not exist. (Session ids contain no tilde.)"""
    numbered = (folder.with_name(f"{folder.name}~{n}") for n in count(2))
    return next(path for path in chain([folder], numbered) if not path.exists())


def session_folders(folder: Path) -> list[Path]:
    """All folders of a session that successive processes recorded."""
    return [folder, *sorted(folder.parent.glob(f"{folder.name}~*"))]


def recording_files(folder: Path) -> list[Path]:
    """The files of a recording, and the folder itself as the last; [] if there is none. Other files are ignored."""
    if not folder.is_dir():
        return []
    names = (SETTINGS, EVENTS, SOUND, f"{PICTURES}*.mkv", f"{PLAYABLE}*", "transcript.*", "rttm.*")
    files = sorted({path for name in names for path in folder.glob(name)})
    return [*files, folder] if files or not any(folder.iterdir()) else []


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a recorded session. Raises MediaError."""
    try:
        if (size := (folder / SETTINGS).stat().st_size) > MAX_SETTINGS_BYTES:
            raise ValueError(f"{size} bytes")
        settings = json.loads(file_of(folder, SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MediaError(f"{folder}: is a folder without {SETTINGS}, so not a recording") from None
    except (OSError, ValueError, RecursionError) as error:
        raise MediaError(f"{folder / SETTINGS}: cannot be read ({error})") from None
    if not isinstance(settings, dict):
        raise MediaError(f"{folder / SETTINGS}: is not the settings file of a recording")
    return settings


def read_events(path: Path) -> list[Event]:
    """The events of a JSONL file, or of a recording's folder; lines that are no events are counted, logged and skipped.

    Raises MediaError when there is no event at all.
    """
    path = path / EVENTS if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path}: cannot be read ({error_text(error)})") from None
    events, bad = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            events.append(parse(line))
        except ValidationError as error:
            bad.append(f"{path}:{number}: not an event ({error.errors()[0]['msg']})")
    if not events:
        raise MediaError(bad[0] if bad else f"{path}: contains no events")
    if bad:
        log.warning("%s; skipped%s", bad[0], f", and {len(bad) - 1} more" if bad[1:] else "")
    return events
