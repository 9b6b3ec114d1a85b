"""Small media files of every kind, made on the spot."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

RATE = 16_000


def write_wav(path: Path, samples: NDArray[np.float32], rate: int = RATE, width: int = 2) -> Path:
    """samples [channels, n]; width 1 (unsigned 8 bit), 2 or 4 (32-bit float, NaN allowed)."""
    if width == 4:
        with av.open(str(path), "w") as container:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
            stream = container.add_stream("pcm_f32le", rate=rate, layout=layout)
            data = np.ascontiguousarray(samples.T.reshape(1, -1), np.float32)
            frame = av.AudioFrame.from_ndarray(data, "flt", layout)
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path
    with wave.open(str(path), "wb") as file:
        file.setparams((len(samples), width, rate, 0, "NONE", ""))
        if width == 1:
            file.writeframes(((samples.T * 127) + 128).astype(np.uint8).tobytes())
        else:
            file.writeframes((samples.T * 32767).astype(np.int16).tobytes())
    return path


def write_mp4(path: Path, samples: NDArray[np.float32] | None, seconds: float = 2.0, video: bool = True) -> Path:
    """AAC audio (mono) and a picture that gets brighter, 10 frames a second."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10) if video else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono") if samples is not None else None
        if pictures is not None:
            for n in range(int(seconds * 10)):
                image = np.full((48, 64, 3), min(255, 10 * n), np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            container.mux(pictures.encode(None))
        if sound is not None and samples is not None:
            for first in range(0, samples.shape[1] - 1023, 1024):
                part = np.ascontiguousarray(samples[:1, first : first + 1024], np.float32)
                frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
                frame.sample_rate, frame.pts = RATE, first
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def write_tracks(
    path: Path,
    tracks: Sequence[tuple[NDArray[np.float32], Disposition]],
    starts: Sequence[float] = (),
    tags: Sequence[dict[str, str]] = (),
) -> Path:
    """A file with these audio tracks (float, mono) in order, the first ones beginning after so many seconds."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in tracks]
        packets = []
        for stream, (samples, disposition), start, named in zip_longest(streams, tracks, starts, tags):
            stream.disposition = disposition
            stream.metadata.update(named or {})
            offset = round((start or 0) * RATE)
            for first in range(0, len(samples), 1600):
                part = (samples[None, first : first + 1600] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, offset + first, Fraction(1, RATE)
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    return path


def voice(seconds: float, level: float = 0.2, seed: int = 0) -> NDArray[np.float32]:
    """[n] something a VAD takes for speech: syllables of harmonics with changing pitch, and a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 140 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    envelope = 0.15 + 0.85 * np.abs(np.sin(np.pi * 3.5 * time)) ** 0.7
    return (level * envelope * tone / 2 + rng.normal(0, 0.001, len(time))).astype(np.float32)


def silence(minutes: float, says_how_long: bool) -> bytes:
    """FLAC, in which silence takes next to nothing."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        sound = container.add_stream("flac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        for n in range(round(minutes * 60 * 8000 / 4608)):
            frame.pts = n * 4608
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    content = bytearray(file.getvalue())
    if not says_how_long:  # the 36 bits of STREAMINFO that count the samples
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    return bytes(content)


def webm(samples: np.ndarray, pictures: bool = False) -> bytes:
    """As MediaRecorder makes it: Opus in WebM (and VP8)."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        sound = container.add_stream("libopus", rate=48_000, layout="mono")
        picture = container.add_stream("libvpx", rate=10) if pictures else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            for n in range(int(len(samples) / RATE * 10)):
                image = np.full((48, 64, 3), min(255, 10 * n), np.uint8)
                container.mux(picture.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            container.mux(picture.encode(None))
        resampler = av.AudioResampler("flt", "mono", 48_000, frame_size=960)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "flt", "mono")
        frame.sample_rate = RATE
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return file.getvalue()


def encoded(
    path: Path,
    samples: NDArray[np.float32],
    codec: str,
    *,
    rate: int = RATE,
    layout: str = "mono",
    format: str | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    start: float = 0.0,
    films: Sequence[tuple[str, NDArray[np.uint8], Sequence[int]]] = (),
) -> Path:
    """A mono voice [n] by a codec, from `start` seconds on. options: of the codec; muxer: of the container; films:
    video tracks from 0 to the end of the sound, 10 pictures a second: codec, picture [h, w, 3], display matrix.

    Skips the test where PyAV has no such encoder: that of AMR is gone with PyAV 19."""
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV {av.__version__} has no encoder {codec}")
    with av.open(str(path), "w", format=format, options=muxer or {}) as container:
        sound = container.add_stream(codec, rate=rate, layout=layout, options=options or {})
        tracks = []
        for name, image, matrix in films:
            track = container.add_stream(name, rate=10)
            track.height, track.width, track.pix_fmt = *image.shape[:2], "yuvj420p" if name == "mjpeg" else "yuv420p"
            if len(matrix):
                track.set_display_matrix(list(matrix))
            tracks.append((track, av.VideoFrame.from_ndarray(image, "rgb24")))
        kind = sound.codec_context
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), "flt", "mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(kind.format.name, layout, rate, frame_size=kind.frame_size or 1024)
        position, packets = round(start * rate), []
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            part.pts, part.time_base = position, Fraction(1, rate)
            position += part.samples
            packets += sound.encode(part)
        packets += sound.encode(None)
        for track, picture in tracks:
            for n in range(round((start + len(samples) / RATE) * 10)):
                picture.pts, picture.time_base = n, Fraction(1, 10)
                packets += track.encode(picture)
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            container.mux(packet)
    return path


def crowded(path: Path, pictures: int) -> Path:
    """A second of sound, and pictures that all lie within its first 50 ms."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        film = container.add_stream("mjpeg", rate=1000)
        film.width, film.height, film.pix_fmt, film.time_base = 64, 48, "yuvj420p", Fraction(1, 1000)
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        for n in range(pictures):
            picture.pts, picture.time_base = n, Fraction(1, 1000)
            for packet in film.encode(picture):
                packet.pts = packet.dts = n * 50 // pictures
                container.mux(packet)
        frame = av.AudioFrame.from_ndarray((20_000 * voice(1)[None]).astype(np.int16), "s16", "mono")
        frame.sample_rate = RATE
        container.mux(sound.encode(frame))
    return path


def film() -> bytes:
    """WebM without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        picture = container.add_stream("libvpx", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for n in range(20):
            image = np.full((48, 64, 3), 10 * n, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(picture.encode(None))
    return file.getvalue()
