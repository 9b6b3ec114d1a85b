from __future__ import annotations

import io
import itertools
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stream.block import BLOCK_SAMPLES, RATE, VideoFrame
from stream.errors import MediaError
from stream.sources.base import SourceWrapper
from stream.sources.decoding import AudioDecoder, VideoDecoder
from stream.sources.file import FileSource, TracksSource, played_file
from tests.support.paths import DEMO
from tests.support.recordings import crowded, silence, voice, write_mp4, write_wav


def read(source: FileSource) -> np.ndarray:
    return np.concatenate([block.samples for block in source], 1)


@pytest.mark.parametrize(
    ("rate", "channels", "width"), [(8000, 1, 1), (96_000, 1, 2), (44_100, 2, 2), (48_000, 6, 4), (16_000, 1, 2)]
)
def test_any_audio_becomes_16_khz_mono(tmp_path: Path, rate: int, channels: int, width: int) -> None:
    time = np.arange(rate) / rate
    tone = np.tile(0.5 * np.sin(2 * np.pi * 440 * time), (channels, 1)).astype(np.float32)
    audio = read(FileSource(write_wav(tmp_path / "a.wav", tone, rate, width), "mix"))
    assert audio.shape[0] == 1 and audio.dtype == np.float32
    assert audio.shape[1] == pytest.approx(RATE, abs=20)
    spectrum = np.abs(np.fft.rfft(audio[0, :RATE], RATE))
    assert spectrum.argmax() == pytest.approx(440, abs=2)
    assert np.abs(audio).max() <= 1


def test_blocks_are_numbered_without_gaps_on_the_media_clock() -> None:
    blocks = list(FileSource(DEMO))
    assert [block.number for block in blocks] == list(range(len(blocks)))
    for earlier, later in itertools.pairwise(blocks):
        assert later.start == pytest.approx(earlier.start + earlier.samples.shape[1] / RATE)
    assert all(block.samples.shape[1] == BLOCK_SAMPLES for block in blocks[:-1])


def test_a_stereo_file_is_split_only_if_its_channels_differ(tmp_path: Path) -> None:
    one, other = voice(2, seed=1), voice(2, seed=2)
    same = FileSource(write_wav(tmp_path / "same.wav", np.stack([one, 0.8 * one])))
    turns = np.stack([np.concatenate([one, 0 * one]), np.concatenate([0 * other, other])])
    apart = FileSource(write_wav(tmp_path / "apart.wav", turns))
    assert (same.channels, apart.channels) == (1, 2)
    assert FileSource(tmp_path / "same.wav", "split").channels == 2
    assert FileSource(DEMO).split


def test_opposite_channels_do_not_cancel_each_other_out(tmp_path: Path) -> None:
    sound = np.concatenate([voice(2, seed=1), np.zeros(RATE, np.float32)])
    source = FileSource(write_wav(tmp_path / "opposite.wav", np.stack([sound, -sound])))
    assert source.channels == 1 and np.allclose(read(source)[0], sound, atol=1e-3)
    source = FileSource(write_wav(tmp_path / "noise.wav", np.stack([sound, 0 * sound])), "mix")
    assert np.allclose(read(source)[0], sound, atol=1e-3), "as loud as it was"


def test_video_frames_come_with_the_audio_of_their_time(tmp_path: Path) -> None:
    source = FileSource(write_mp4(tmp_path / "a.mp4", voice(2)[None]))
    frames = [(block, frame) for block in source for frame in block.frames]
    assert source.info.video and 18 <= len(frames) <= 21  # 10 a second
    for block, frame in frames:
        assert frame.time < block.start + BLOCK_SAMPLES / RATE + 1e-6
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.mean() == pytest.approx(min(255, 100 * frame.time), abs=12)


def test_samples_that_are_no_numbers_become_silence_and_are_counted(tmp_path: Path) -> None:
    audio = voice(1)[None].copy()
    audio[0, 100:150] = np.nan
    audio[0, 200] = np.inf
    source = FileSource(write_wav(tmp_path / "nan.wav", audio, width=4))
    samples = read(source)
    assert np.isfinite(samples).all() and source.repaired == 51


def test_a_file_of_one_frame(tmp_path: Path) -> None:
    assert read(FileSource(write_wav(tmp_path / "a.wav", np.zeros((1, 1), np.float32)))).shape[1] <= 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.wav", None, "no such file"),
        ("empty.wav", b"", "the file is empty"),
        ("text.wav", b"This is no sound.\n" * 50, "not a media file"),
        ("noise.mp4", bytes(range(256)) * 20, "not a media file"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message):
        FileSource(tmp_path / name)


def test_a_folder_and_a_silent_film_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a folder"):
        FileSource(tmp_path)
    with pytest.raises(MediaError, match="no audio track"):
        FileSource(write_mp4(tmp_path / "a.mp4", None))


def test_truncated_files(tmp_path: Path) -> None:
    """An MP4 whose index is cut off is refused; a FLAC or WAV that breaks off gives what it has."""
    whole = write_mp4(tmp_path / "a.mp4", voice(2)[None]).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="not a media file"):
        FileSource(tmp_path / "cut.mp4")
    (tmp_path / "cut.opus").write_bytes(DEMO.read_bytes()[:100_000])
    audio = read(FileSource(tmp_path / "cut.opus", "split"))
    assert 5 * RATE < audio.shape[1] < 50 * RATE


def test_many_small_holes_add_up(tmp_path: Path) -> None:
    """A recorder that loses 30 ms again and again: none is worth filling alone, all together shift the clock."""
    with av.open(str(tmp_path / "holes.mkv"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for n in range(50):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 1000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = RATE, n * (1600 + 480)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert read(FileSource(tmp_path / "holes.mkv")).shape[1] / RATE == pytest.approx(50 * 0.13, abs=0.1)


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (1_000_000, 1), (16_000, 200)])
def test_sound_that_would_grow_beyond_measure_is_refused(tmp_path: Path, rate: int, channels: int) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, 1, rate, 0, "NONE", ""))
        file.writeframes(bytes(1000 * channels))
    with pytest.raises(
        MediaError, match=f"a.wav: audio at {rate} Hz with {channels} channels; supported are 4000 … 384000 Hz"
    ):
        FileSource(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'b.wav'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nb.wav\n#EXT-X-ENDLIST\n",
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n",
    ],
    ids=["concat", "hls", "sdp"],
)
def test_lists_of_other_files_and_addresses_are_no_recordings(tmp_path: Path, text: str) -> None:
    write_wav(tmp_path / "b.wav", voice(1)[None])
    for name in ("a.ffconcat", "a.m3u8", "a.sdp", "a.wav"):
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaError, match="not a media file"):
            FileSource(tmp_path / name)
        with pytest.raises(MediaError, match="not a media file"):
            FileSource(tmp_path / name, content=text.encode())


def test_a_recording_may_be_bounded_in_time() -> None:
    with pytest.raises(MediaError, match=r"a.flac: 0.1 h long; at most 0.05 h are accepted"):
        FileSource(Path("a.flac"), content=silence(5, True), max_seconds=180)
    source = FileSource(Path("a.flac"), content=silence(5, False), max_seconds=180)
    assert read(source).shape[1] / RATE == pytest.approx(180, abs=1)
    assert source.ended_early == "the recording is longer than its header says; at most 0.05 h are accepted"


def test_hours_between_time_stamps_are_not_made_at_once() -> None:
    sound = AudioDecoder()
    longest = total = 0
    for n in range(5):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, n * 3000 * RATE, Fraction(1, RATE)
        for samples in sound.decode(frame):
            longest, total = max(longest, samples.shape[1]), total + samples.shape[1]
    assert total / RATE == pytest.approx(4 * 3000, abs=1) and longest <= 10 * RATE


def png(width: int, height: int) -> bytes:
    """Black, and small."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(1), bytes(width + 1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def film(path: Path, picture: bytes, width: int, height: int) -> Path:
    """A second of sound and ten times the picture, whose size the container claims to be this."""
    with av.open(str(path), "w", format="nut") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        pictures = container.add_mux_stream("png", rate=10, width=width, height=height)
        for n in range(10):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 1000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = RATE, n * 1600
            container.mux(sound.encode(frame))
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.time_base = pictures, n, n, Fraction(1, 10)
            packet.is_keyframe = True
            container.mux(packet)
        container.mux(sound.encode(None))
    return path


MEASURE = """
import resource, sys
from pathlib import Path
from stream.errors import MediaError
from stream.sources.file import FileSource
try:
    blocks = list(FileSource(Path(sys.argv[1])))
    print(blocks[0].notice or sum(len(block.frames) for block in blocks))
except MediaError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.integration
def test_a_small_file_of_huge_pictures_takes_no_memory(tmp_path: Path) -> None:
    """12,000 × 12,000 in 0.6 MB: whether the container says so or lies, they are not decoded."""
    huge = png(12_000, 12_000)
    refusal = "video of unknown size is left out: at most 9437184 pixels can be analysed"
    used = {}
    for name, picture, size, expected in [
        ("small", png(64, 48), (64, 48), "10"),
        ("lies", huge, (64, 48), refusal),
        ("huge", huge, (12_000, 12_000), refusal),
    ]:
        path = film(tmp_path / f"{name}.nut", picture, *size)
        done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
        told, megabytes = done.stdout.splitlines()
        assert told.removeprefix(f"{path}: ") == expected
        used[name] = int(megabytes)
    assert max(used.values()) < used["small"] + 60  # one of the pictures would be 144


def test_stop_is_heard_while_pictures_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FileSource(crowded(tmp_path / "a.mkv", 900))
    read, seen = VideoDecoder.read, []

    def watched(decoder: VideoDecoder, packet: av.Packet) -> Iterator[VideoFrame]:
        seen.append(packet)
        if len(seen) == 10:
            source.stop()
        return read(decoder, packet)

    monkeypatch.setattr(VideoDecoder, "read", watched)
    list(source)
    assert len(seen) == 10


def test_pictures_without_end_are_left_out_and_told(tmp_path: Path) -> None:
    for count, notices in ((900, []), (3000, ["video of more than 500 pictures a second is left out"])):
        source = FileSource(crowded(tmp_path / f"{count}.mkv", count))
        blocks = list(source)
        assert len(np.concatenate([block.samples for block in blocks], 1)[0]) == RATE
        assert [block.notice for block in blocks if block.notice] == notices


@pytest.mark.parametrize("count", [7, 8, 9, 16])
def test_any_number_of_channels_is_split(count: int) -> None:
    recorded = io.BytesIO()
    samples = np.arange(1600 * count, dtype=np.int16).reshape(1600, count)
    with wave.open(recorded, "wb") as file:
        file.setparams((count, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    source = FileSource(Path("table.wav"), "split", content=recorded.getvalue())
    assert np.array_equal(read(source), samples.T.astype(np.float32) / 32768)


def test_the_sound_of_a_file_can_be_had_again_while_it_is_played(tmp_path: Path) -> None:
    source = FileSource(write_mp4(tmp_path / "a.mp4", voice(2)[None], 2))
    whole = np.concatenate([block.samples for block in source.sound_again()], 1)
    blocks = iter(source)
    first = next(blocks)
    again = list(source.sound_again())
    assert np.array_equal(np.concatenate([block.samples for block in again], 1), whole)
    assert not any(block.frames for block in again)
    rest = list(blocks)
    assert np.array_equal(np.concatenate([block.samples for block in (first, *rest)], 1), whole)
    assert any(block.frames for block in rest)
    source.stop()
    assert source.is_stopped and list(source.sound_again()) == []


def test_the_file_behind_a_source(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", voice(1)[None])
    source = FileSource(path)
    assert played_file(source) is source and played_file(SourceWrapper(SourceWrapper(source))) is source
    assert played_file(TracksSource(path)) is None
