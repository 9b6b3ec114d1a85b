"""Recordings: WAV, MP4, WebM, Ogg Opus, FLAC, MP3 and MPEG-TS made here and then spoilt, as uploads and as files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import av
import numpy as np
from hypothesis import strategies as st

from stream.block import BLOCK_SAMPLES
from stream.errors import MediaError
from stream.sources.file import FileSource
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target
from tests.support.recordings import RATE, voice

SECONDS = 0.4
SOUNDS = (
    ("wav", "pcm_s16le"), ("wav", "pcm_u8"), ("wav", "pcm_f32le"), ("mp4", "aac"), ("webm", "libopus"),
    ("ogg", "libopus"), ("flac", "flac"), ("mp3", "libmp3lame"), ("mpegts", "aac"),
)  # fmt: skip
PICTURES = {"mp4": "mpeg4", "webm": "libvpx", "mpegts": "mpeg2video"}
LISTS = (
    b"ffconcat version 1.0\nfile 'x.wav'\n",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nx.ts\n#EXT-X-ENDLIST\n",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n",
)
"""Files that name other places to read from."""


def recording(container: str, codec: str, layout: str = "mono") -> bytes:
    """A short voice, with pictures where the container takes them."""
    file, channels = io.BytesIO(), 2 if layout == "stereo" else 1
    with av.open(file, "w", format=container) as output:
        sound = output.add_stream(codec, rate=48_000 if codec == "libopus" else RATE, layout=layout)
        picture = output.add_stream(PICTURES[container], rate=25) if container in PICTURES else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 32, 24, "yuv420p"
            for n in range(int(SECONDS * 25)):
                shade = np.full((24, 32, 3), min(255, 20 * n), np.uint8)
                output.mux(picture.encode(av.VideoFrame.from_ndarray(shade, "rgb24")))
            output.mux(picture.encode(None))
        said = np.stack([voice(SECONDS, seed=n) for n in range(channels)])
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(said), "fltp", layout)
        frame.sample_rate = RATE
        codec_context = sound.codec_context
        resampler = av.AudioResampler(
            codec_context.format, layout, codec_context.rate, codec_context.frame_size or 1024
        )
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(sound.encode(part))
        output.mux(sound.encode(None))
    return file.getvalue()


@cache
def recordings() -> tuple[bytes, ...]:
    return (
        *(recording(*each) for each in SOUNDS),
        recording("wav", "pcm_s16le", "stereo"),
        recording("mp4", "aac", "stereo"),
    )


def listen(source: FileSource) -> None:
    """All of it, as a session would hear it."""
    done = 0
    for number, block in enumerate(source):
        channels, size = block.samples.shape
        assert block.number == number and block.start == done / RATE
        assert channels == source.channels and 0 < size <= BLOCK_SAMPLES and block.samples.dtype == np.float32
        assert np.isfinite(block.samples).all() and np.abs(block.samples).max() <= 1
        assert all(frame.image.ndim == 3 and frame.image.dtype == np.uint8 for frame in block.frames)
        done += size
    for note in (source.ended_early,):
        assert note is None or note.isprintable()


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    def take(given: tuple[str, bytes]) -> None:
        suffix, content = given
        if suffix == "upload":
            listen(FileSource(Path("sent"), content=content))
        else:
            file = folder / f"given.{suffix}"
            file.write_bytes(content)
            listen(FileSource(file))

    how = st.sampled_from(["upload", "upload", "wav", "mp4", "webm", "opus"])
    yield Target(st.tuples(how, mutated((*recordings(), *LISTS))), take, refusals=(MediaError,))
