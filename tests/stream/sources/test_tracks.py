"""Recordings with several tracks, with pictures beyond measure, and with names that look like addresses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from stream.block import RATE
from stream.errors import MediaError
from stream.sources.file import FileSource, open_recording
from stream.sources.network import NetworkSource
from stream.sources.recording import RecordedSource, Recorder
from tests.support.events import ended
from tests.support.recordings import encoded, voice, write_tracks, write_wav


def tone(hertz: float, level: float, seconds: float = 2.0) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def heard(source: FileSource) -> tuple[float, str | None]:
    """Frequency in Hz that a source plays, and the notice of its first block."""
    blocks = list(source)
    audio = np.concatenate([block.samples for block in blocks], 1)[0]
    return round(float(np.abs(np.fft.rfft(audio)).argmax()) * RATE / len(audio)), blocks[0].notice


NONE, DEFAULT = Disposition(0), Disposition.default
SILENT = tone(500, 0.0)


@pytest.mark.parametrize(
    ("tracks", "frequency", "reason"),
    [
        ([(tone(500, 0.1), NONE), (tone(700, 0.1), DEFAULT)], 700, "number 2 is analysed (the default)"),
        ([(tone(500, 0.1), DEFAULT), (tone(700, 0.5), NONE)], 500, "number 1 is analysed (the default)"),
        ([(tone(500, 0.1), NONE), (tone(700, 0.5), NONE)], 500, "number 1 is analysed (the first)"),
        (
            [(SILENT, DEFAULT), (tone(700, 0.1), NONE), (tone(900, 0.3), NONE)],
            900,
            "number 3 is analysed (the default, number 1, is silent)",
        ),
        ([(tone(500, 0.1), DEFAULT | Disposition.comment), (tone(700, 0.1), DEFAULT)], 700, "number 2 is analysed"),
    ],
    ids=["default second", "default first", "no default", "default silent", "commentary"],
)
def test_of_several_tracks_the_default_or_the_loudest_is_heard_and_told(
    tmp_path: Path, tracks: list[tuple[NDArray[np.float32], Disposition]], frequency: float, reason: str
) -> None:
    path = write_tracks(tmp_path / "a.mkv", tracks)
    found, notice = heard(FileSource(path))
    assert found == frequency and notice is not None and notice.startswith(f"{len(tracks)} audio tracks: {reason}")
    assert notice.endswith("; --track chooses another")


def test_a_track_may_be_chosen(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [(tone(500, 0.1), DEFAULT), (tone(700, 0.1), NONE)])
    assert heard(FileSource(path, track=2)) == (700, None)
    assert heard(FileSource(path, track=1)) == (500, None)
    with pytest.raises(MediaError, match=r"a\.mkv: has no audio track 3; it has 2"):
        FileSource(path, track=3)


THREE = [(tone(500, 0.1), NONE), (tone(700, 0.2, 1.03), DEFAULT), (tone(900, 0.0, 3.5), NONE)]
NAMED = [{"title": "Anna"}, {"title": "Anna", "language": "fra"}, {"language": "deu"}]


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_all_tracks_are_channels_on_one_clock(tmp_path: Path, suffix: str) -> None:
    """Of different lengths and beginnings, one of them silent; what they are is told first."""
    path = write_tracks(tmp_path / f"a{suffix}", THREE, starts=[0.0, 1.5, 0.25])
    for source in (open_recording(path, track="all"), open_recording(path, content=path.read_bytes(), track="all")):
        blocks = list(source)
        audio = np.concatenate([block.samples for block in blocks], 1)
        assert source.split and source.channels == len(audio) == 3 and source.ended_early is None
        assert audio.shape[1] / RATE == pytest.approx(3.75, abs=0.01)
        assert [block.start for block in blocks] == pytest.approx([0.04 * n for n in range(len(blocks))])
        for channel, begin, end in [(0, 0.0, 2.0), (1, 1.5, 2.53)]:
            loud = np.flatnonzero(np.abs(audio[channel]) > 0.01) / RATE
            assert loud[[0, -1]] == pytest.approx([begin, end], abs=0.01)
        assert not audio[2].any()
        assert blocks[0].notice == "3 audio tracks, each a speaker's channel: 1, 2, 3"
        assert not [block.notice for block in blocks[1:] if block.notice], "a shorter track is no broken file"


def test_tracks_name_their_speakers(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", THREE, tags=NAMED)
    source = open_recording(path, track="all")
    assert source.names == {0: "Anna 1", 1: "Anna 2", 2: "deu"}
    assert next(iter(source)).notice == "3 audio tracks, each a speaker's channel: 1 (Anna 1), 2 (Anna 2), 3 (deu)"
    two = open_recording(write_tracks(tmp_path / "b.mkv", THREE[:2], tags=[{}, {"language": "und"}]), track="all")
    assert two.names == {} and two.channels == 2
    one = open_recording(write_tracks(tmp_path / "c.mkv", THREE[:1]), track="all")
    assert one.channels == 1 and len(list(one)) == 50
    assert open_recording(path).names == {}


def test_all_tracks_are_recorded_and_replayed(tmp_path: Path) -> None:
    source = open_recording(write_tracks(tmp_path / "a.mkv", THREE, starts=[0.0, 1.5, 0.25]), track="all")
    recorder = Recorder(source, tmp_path / "session", {}, {})
    heard = np.concatenate([block.samples for block in recorder], 1)
    recorder.event(ended("session"))
    again = RecordedSource(tmp_path / "session")
    assert again.split and again.channels == 3
    assert np.array_equal(np.concatenate([block.samples for block in again], 1), heard)


def test_what_of_all_tracks_cannot_be_analysed_is_left_out_and_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="has 17 audio tracks; at most 16 can be channels"):
        open_recording(write_tracks(tmp_path / "a.mkv", [THREE[0]] * 17), track="all")
    with pytest.raises(MediaError, match="no such file"):
        open_recording(tmp_path / "none.mkv", track="all")
    path = write_tracks(tmp_path / "b.mkv", THREE)
    content = path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_XXX/INT/LIT", 1)  # the codec of the first
    source = open_recording(path, content=content, track="all")
    assert source.channels == 2
    assert next(iter(source)).notice == (
        "3 audio tracks, each a speaker's channel: 2, 3; left out, for nothing can be decoded: 1"
    )


def test_a_long_track_is_listened_to_in_many_places(tmp_path: Path) -> None:
    """The default track speaks in the last of five minutes only."""
    late = np.concatenate([tone(500, 0.0, 240), tone(500, 0.1, 60)])
    path = write_tracks(tmp_path / "a.mkv", [(late, DEFAULT), (tone(700, 0.5, 300), NONE)])
    found, notice = heard(FileSource(path))
    assert found == 500 and notice is not None and "number 1" in notice


def test_of_a_stream_with_several_tracks_the_default_is_heard_and_told(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [(tone(500, 0.1), NONE), (tone(700, 0.1), DEFAULT)])
    blocks = list(NetworkSource(str(path)))
    audio = np.concatenate([block.samples for block in blocks], 1)[0]
    assert np.abs(np.fft.rfft(audio)).argmax() == pytest.approx(1400, abs=2)  # of two seconds
    assert blocks[0].notice == "2 audio tracks: number 2 is analysed (the default)"


@pytest.mark.data
def test_the_second_track_of_a_film_is_its_default(data: Path) -> None:
    blocks = list(FileSource(data / "faults" / "defaultsecond.mkv"))
    assert np.abs(np.concatenate([block.samples for block in blocks], 1)).max() > 0.1
    assert blocks[0].notice == "2 audio tracks: number 2 is analysed (the default); --track chooses another"


@pytest.mark.data
def test_a_picture_beyond_the_limit_costs_the_picture_only(data: Path) -> None:
    source = FileSource(data / "faults" / "gopro53k.mp4")
    blocks = list(source)
    assert not source.video and sum(block.samples.shape[1] for block in blocks) / RATE == pytest.approx(2, abs=0.1)
    assert blocks[0].notice == "video of 5312 × 2988 pixels is left out: at most 9437184 pixels can be analysed"


NAMES = ["2026-11-26T12:30:00.wav", "http:talk.wav", "file:talk.wav", "concat:a|b.wav", "-talk.wav", "a%03d?#.wav"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_plays_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(Path(f"./{name}"), voice(1)[None])
    for path in (Path(name), tmp_path / name):
        assert sum(block.samples.shape[1] for block in FileSource(path)) == RATE


def test_a_recording_in_a_folder_whose_name_has_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = np.full((48, 64, 3), 200, np.uint8)
    talk = FileSource(encoded(Path("talk.mkv"), voice(1), "flac", films=[("mpeg4", picture, ())]))
    recorder = Recorder(talk, Path("12:30/session"), {}, {})
    for _ in recorder:
        pass
    recorder.event(ended("session"))
    blocks = list(RecordedSource(Path("12:30/session")))
    assert sum(block.samples.shape[1] for block in blocks) == RATE and any(block.frames for block in blocks)
