from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from stream import RATE
from stream.block import BLOCK
from stream.media import FileSource, MediaError
from tests.conftest import DEMO
from tests.recordings import voice, write_mp4, write_wav


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
    assert all(block.samples.shape[1] == BLOCK for block in blocks[:-1])


def test_a_stereo_file_is_split_only_if_its_channels_differ(tmp_path: Path) -> None:
    one, other = voice(2, seed=1), np.roll(voice(2, seed=2) * np.linspace(0, 1, 2 * RATE, dtype=np.float32), 5000)
    same = FileSource(write_wav(tmp_path / "same.wav", np.stack([one, 0.8 * one])))
    apart = FileSource(write_wav(tmp_path / "apart.wav", np.stack([one, other[::-1]])))
    assert (same.channels, apart.channels) == (1, 2)
    assert FileSource(tmp_path / "same.wav", "split").channels == 2
    assert FileSource(DEMO).split


def test_video_frames_come_with_the_audio_of_their_time(tmp_path: Path) -> None:
    source = FileSource(write_mp4(tmp_path / "a.mp4", voice(2)[None]))
    frames = [(block, frame) for block in source for frame in block.frames]
    assert source.info.video and 18 <= len(frames) <= 21  # 10 a second
    for block, frame in frames:
        assert frame.time < block.start + BLOCK / RATE + 1e-6
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
