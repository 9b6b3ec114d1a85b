"""A recorded session as one file that browsers play: WebM with Opus, and VP8 where there was a camera."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from math import inf, sqrt
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from stream.block import RATE, Samples, VideoFrame
from stream.errors import MediaError
from stream.events import SessionStarted, parse
from stream.sources.decoding import LIMITS, AudioDecoder, VideoDecoder, error_text, ffmpeg_path, limited_film, packets
from stream.sources.recording import (
    EVENTS,
    RECORDED_FPS,
    SOUND,
    START,
    file_of,
    private_file,
    read_settings,
    recorded_cameras,
    session_folders,
)

OPUS_RATE, OPUS_SAMPLES = 48_000, 960  # Hz; in a frame of 20 ms
OPUS = {"b": "40000", "compression_level": "5"}
VP8 = {"deadline": "realtime", "cpu-used": "8", "b": "400000", "g": "50", "threads": "1"}
PICTURE_TIME_S = Fraction(1, 1000)  # unit of the pictures' time stamps
OPTIONS = LIMITS | {"protocol_whitelist": "file", "format_whitelist": "matroska"}
PIECE_SAMPLES = 10 * RATE  # of silence that are made at once
MAX_STARTED_BYTES = 1 << 20  # of the line with session.started
HEAD_BYTES = 4096  # of a playable file, in which its tracks are named


class _Timed(AudioDecoder):
    """Follows the time stamps of a recording, which are ours: also over hours."""

    MAX_HOLE_S = 30 * 24 * 3600
    MAX_LEAD_S = 30 * 24 * 3600


def make_playable(folder: Path, target: Path) -> None:
    """Write the recording of a session to `target`: all channels mixed to mono, and the first camera, on the session's
    media clock.

    Gaps in the recording are silence. What successive processes recorded of a session (`session_folders`) follows one
    another. `target` is this user's alone, and as old as the recording. Raises MediaError.
    """
    sources = [(part, round(_start(part) * RATE)) for part in session_folders(folder) if (part / SOUND).is_file()]
    if not sources:
        raise MediaError(f"{folder}: not a recording (it has no {SOUND})")
    ends = [start for _, start in sources[1:]] + [inf]
    parts = [(part, start, end) for (part, start), end in zip(sources, ends, strict=True)]
    try:
        with av.open(ffmpeg_path(private_file(target)), "w", format="webm") as container:
            _write(container, _sound(parts), _pictures(parts))
        recorded = (sources[-1][0] / SOUND).stat().st_mtime
        os.utime(target, (recorded, recorded))  # else `forget --older-than` would take it for a younger session
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{folder}: cannot be made playable ({error_text(error)})") from None


def has_pictures(playable: Path) -> bool:
    """True if a playable file has a video track. Raises OSError."""
    with playable.open("rb") as file:
        return b"V_VP8" in file.read(HEAD_BYTES)


def recorded_start(folder: Path) -> str | None:
    """Wall-clock start of the session that a folder is the recording of, ISO 8601; None if it does not say."""
    try:
        with file_of(folder, EVENTS).open("rb") as file:
            first = parse(file.readline(MAX_STARTED_BYTES))
    except (MediaError, OSError, ValueError):
        return None
    return first.time if isinstance(first, SessionStarted) else None


def _start(part: Path) -> float:
    """Place of a recording on the session's media clock, seconds; a live source that was resumed starts later."""
    start = read_settings(part).get(START, 0.0)
    return float(start) if isinstance(start, int | float) and 0 <= start < inf else 0.0


def _write(container: av.container.OutputContainer, sound: Iterator[Samples], pictures: Iterator[VideoFrame]) -> None:
    """Encode sound [n] and pictures in step."""
    upcoming = next(pictures, None)
    opus: Any = container.add_stream("libopus", rate=OPUS_RATE, layout="mono", options=OPUS)
    film: Any = None
    if upcoming is not None:
        film = container.add_stream("libvpx", rate=RECORDED_FPS // 2, options=VP8)
        film.height, film.width = (side // 2 * 2 for side in upcoming.image.shape[:2])
        film.pix_fmt, film.time_base = "yuv420p", PICTURE_TIME_S
        film.codec_context.time_base = PICTURE_TIME_S
    resampler = AudioResampler("flt", "mono", OPUS_RATE, frame_size=OPUS_SAMPLES)
    position = 0
    latest = -1

    def encode(frame: av.AudioFrame | None) -> None:
        nonlocal position
        for part in resampler.resample(frame):
            part.pts, part.time_base = position, Fraction(1, OPUS_RATE)
            position += part.samples
            container.mux(opus.encode(part))

    for samples in sound:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), "flt", "mono")
        frame.sample_rate = RATE
        encode(frame)
        while upcoming is not None and upcoming.time * OPUS_RATE <= position:
            time = round(upcoming.time / PICTURE_TIME_S)
            if time > latest:
                picture = av.VideoFrame.from_ndarray(upcoming.image, "rgb24").reformat(
                    film.width, film.height, "yuv420p"
                )
                picture.pts, picture.time_base, latest = time, PICTURE_TIME_S, time
                container.mux(film.encode(picture))
            upcoming = next(pictures, None)
    encode(None)
    if not position:
        raise MediaError("there is no sound in the recording")
    for stream in (opus, film):
        if stream is not None:
            container.mux(stream.encode(None))


Part = tuple[Path, int, float]
"""A recording of a session, and the first sample of it and of the next one on the session's clock."""


def _sound(parts: list[Part]) -> Iterator[Samples]:
    """The sound from 0 on, float32 [n] at 16 kHz, in pieces of at most ten seconds."""
    position = 0
    for part, start, end in parts:
        while position < start:
            yield np.zeros(min(PIECE_SAMPLES, start - position), np.float32)
            position = min(start, position + PIECE_SAMPLES)
        with suppress(av.error.FFmpegError, OSError):  # it broke off: its process was killed
            for samples in _decoded(part):
                piece = samples[:, : max(0, int(min(samples.shape[1], end - position)))]
                if not piece.size:
                    break
                position += piece.shape[1]
                mixed = piece.sum(0) / sqrt(len(piece))  # most of the time one channel talks: the mean would be faint
                yield mixed.clip(-1, 1).astype(np.float32)


def _decoded(part: Path) -> Iterator[Samples]:
    """The recorded channels, float32 [channels, n]; what there is, if the file breaks off."""
    with av.open(ffmpeg_path(file_of(part, SOUND)), options=OPTIONS) as container:
        track = next(iter(container.streams.audio), None)
        if track is None or track.codec_context is None:
            return
        decoder = _Timed(track.codec_context.layout, Fraction(0))
        for packet in packets(container, track):
            yield from decoder.read(packet)
        yield from decoder.flush()


def _pictures(parts: list[Part]) -> Iterator[VideoFrame]:
    """The pictures of the first camera, in order."""
    names = [path.name for part, _, _ in parts for path, _ in recorded_cameras(part)]
    for part, start, end in parts if names else ():
        if (part / names[0]).is_file():
            with suppress(av.error.FFmpegError, OSError):  # it broke off
                yield from _filmed(file_of(part, names[0]), start / RATE, end / RATE)


def _filmed(path: Path, start: float, end: float) -> Iterator[VideoFrame]:
    """The pictures of a file that begins at `start` of the session's clock, up to `end`, in seconds."""
    with av.open(ffmpeg_path(path), options=OPTIONS) as container:
        film, _ = limited_film(container)
        decoder = VideoDecoder(-start, RECORDED_FPS)
        for packet in packets(container, film) if film is not None else ():
            yield from (picture for picture in decoder.read(packet) if 0 <= picture.time < end)
