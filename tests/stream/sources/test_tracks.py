"""Recordings with several tracks and with pictures beyond measure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from stream.block import RATE
from stream.errors import MediaError
from stream.sources.file import FileSource


def tone(hertz: float, level: float, seconds: float = 2.0) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def film(path: Path, tracks: Sequence[tuple[NDArray[np.float32], Disposition]]) -> Path:
    """Matroska with these audio tracks (float, mono) in order."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in tracks]
        packets = []
        for stream, (samples, disposition) in zip(streams, tracks, strict=True):
            stream.disposition = disposition
            for first in range(0, len(samples), 1600):
                part = (samples[None, first : first + 1600] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    return path


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
    path = film(tmp_path / "a.mkv", tracks)
    found, notice = heard(FileSource(path))
    assert found == frequency and notice is not None and notice.startswith(f"{len(tracks)} audio tracks: {reason}")
    assert notice.endswith("; --track chooses another")


def test_a_track_may_be_chosen(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [(tone(500, 0.1), DEFAULT), (tone(700, 0.1), NONE)])
    assert heard(FileSource(path, track=2)) == (700, None)
    assert heard(FileSource(path, track=1)) == (500, None)
    with pytest.raises(MediaError, match=r"a\.mkv: has no audio track 3; it has 2"):
        FileSource(path, track=3)


def test_a_long_track_is_listened_to_in_many_places(tmp_path: Path) -> None:
    """The default track speaks in the last of five minutes only."""
    late = np.concatenate([tone(500, 0.0, 240), tone(500, 0.1, 60)])
    path = film(tmp_path / "a.mkv", [(late, DEFAULT), (tone(700, 0.5, 300), NONE)])
    found, notice = heard(FileSource(path))
    assert found == 500 and notice is not None and "number 1" in notice


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
