"""Recordings that are damaged, begin late, change midway or lie on their side."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from stream.block import RATE, Block
from stream.errors import MediaError
from stream.sources.file import FileSource
from stream.sources.network import NetworkSource
from stream.sources.pushed import PushedTrack
from stream.sources.reconnecting import ReconnectingSource
from tests.support.recordings import encoded, voice, write_wav
from tests.support.senders import transport_stream

BEEPS_S = (1.0, 4.0, 9.0, 14.0)
"""Seconds at which `beeps` has half a second of tone; damage is done between them."""


def beeps() -> NDArray[np.float32]:
    """[n] 15 s of hiss with a tone at `BEEPS_S`."""
    samples = np.random.default_rng(0).normal(0, 1e-3, 15 * RATE).astype(np.float32)
    for moment in BEEPS_S:
        first = round(moment * RATE)
        samples[first : first + RATE // 2] += 0.4 * np.sin(2 * np.pi * 500 * np.arange(RATE // 2) / RATE)
    return samples


def found(blocks: list[Block], times: tuple[float, ...], tolerance: float = 0.07) -> None:
    """Assert that tones begin at these times, in seconds, and nowhere else."""
    audio = np.concatenate([block.samples for block in blocks], 1)[0]
    loud = [float(np.abs(audio[first : first + 160]).max()) > 0.1 for first in range(0, len(audio) - 160, 160)]
    begins = [n / 100 for n in range(10, len(loud)) if loud[n] and not any(loud[n - 10 : n])]
    assert begins == pytest.approx(times, abs=tolerance)


def damaged(path: Path, *seconds: float) -> Path:
    """The file with the packets at these times overwritten."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        packets = [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(track) if p.size]
    content = bytearray(path.read_bytes())
    for second in seconds:
        packet = next(packet for time, packet in packets if time >= second)
        position = content.index(packet)
        content[position : position + len(packet)] = b"\xff" * len(packet)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "rate", "muxer"),
    [
        ("a.mp3", "libmp3lame", 44_100, {}),
        ("a.aac", "aac", 44_100, {}),
        ("a.m4a", "aac", 44_100, {"movflags": "faststart"}),
        ("a.mkv", "mp2", 48_000, {}),
    ],
)
def test_packets_that_cannot_be_decoded_are_silence_on_the_clock(
    tmp_path: Path, name: str, codec: str, rate: int, muxer: dict[str, str]
) -> None:
    path = encoded(tmp_path / name, beeps(), codec, rate=rate, muxer=muxer)
    source = FileSource(damaged(path, 2.5, 2.9, 6.0, 7.0, 12.0))
    blocks = list(source)
    if (name, av.__version__.partition(".")[0]) == ("a.aac", "19"):  # its FFmpeg hears a tone in what is overwritten
        assert sum(block.samples.shape[1] for block in blocks) == pytest.approx(15 * RATE, abs=0.2 * RATE)
    else:
        found(blocks, BEEPS_S, 0.15)
    assert source.ended_early is None and source.counts()["damaged_packets"] >= 1
    notices = [block.notice for block in blocks if block.notice]
    assert notices[0] == "a packet of audio could not be decoded: silence took its place" and len(notices) <= 2


@pytest.mark.parametrize(("name", "format"), [("a.amr", "amr"), ("a.3gp", "3gp")])
def test_a_voice_memo_without_packets_for_pauses(tmp_path: Path, name: str, format: str) -> None:
    """AMR with discontinuous transmission, of which FFmpeg decodes the speech alone."""
    source = FileSource(
        encoded(tmp_path / name, beeps(), "libopencore_amrnb", rate=8_000, format=format, options={"dtx": "1"})
    )
    blocks = list(source)
    found(blocks, BEEPS_S)
    assert source.counts()["damaged_packets"] > 100
    assert sum(block.samples.shape[1] for block in blocks) == pytest.approx(15 * RATE, abs=0.1 * RATE)
    assert 2 <= sum(block.notice is not None for block in blocks) <= 3  # at 1, 10 and 100


@pytest.mark.parametrize(
    ("suffix", "codec", "kinds"),
    [
        ("mp3", "libmp3lame", [(44_100, "mono"), (44_100, "mono")]),
        ("mp3", "libmp3lame", [(44_100, "mono"), (48_000, "stereo"), (16_000, "mono")]),
        ("aac", "aac", [(44_100, "mono"), (48_000, "stereo"), (22_050, "mono")]),
    ],
)
def test_recordings_joined_end_to_end(tmp_path: Path, suffix: str, codec: str, kinds: list[tuple[int, str]]) -> None:
    """Sample rate and channels change midway, and headers stand where sound is expected."""
    with (tmp_path / f"joined.{suffix}").open("wb") as joined:
        for rate, layout in kinds:
            part = encoded(tmp_path / f"part.{suffix}", beeps(), codec, rate=rate, layout=layout)
            joined.write(part.read_bytes())
    source = FileSource(tmp_path / f"joined.{suffix}", "mix")
    blocks = list(source)
    expected = tuple(15 * n + moment for n in range(len(kinds)) for moment in BEEPS_S)
    found(blocks, expected, 0.25)  # encoders add a frame or two to each part
    assert source.ended_early is None


def test_a_recording_of_which_half_is_missing_is_told(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.m4a", beeps(), "aac", muxer={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *_, last = FileSource(path)
    assert last.notice is not None
    assert re.search(r"its audio ends after 7\.\d s; its header says 15\.0 s", last.notice)


@pytest.mark.parametrize("name", ["a.mp3", "a.aac", "a.m4a", "a.mkv", "a.ts", "a.flac", "a.ogg", "a.wav", "a.amr"])
def test_a_few_bytes_missing_at_the_end_cost_no_more(tmp_path: Path, name: str) -> None:
    codec = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libopus", "wav": "pcm_s16le", "amr": "libopencore_amrnb"}
    rate = {"ogg": 48_000, "amr": 8_000}.get(name[2:], RATE)
    muxer = {"movflags": "faststart"} if name == "a.m4a" else {}
    path = encoded(tmp_path / name, beeps(), codec.get(name[2:], "aac"), rate=rate, muxer=muxer)
    path.write_bytes(path.read_bytes()[:-37])
    source = FileSource(path)
    blocks = list(source)
    found(blocks, BEEPS_S, 0.15)
    assert source.ended_early is None
    assert sum(block.samples.shape[1] for block in blocks) / RATE == pytest.approx(15, abs=0.3)


def test_pictures_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mkv", beeps(), "flac", films=[("mjpeg", np.full((48, 64, 3), 128, np.uint8), ())])
    content = path.read_bytes()
    pictures = content.split(b"\xff\xd8\xff")
    for n in (20, 21, 22):
        pictures[n] = bytes(len(pictures[n]))
    path.write_bytes(b"\xff\xd8\xff".join(pictures))
    source = FileSource(path)
    blocks = list(source)
    found(blocks, BEEPS_S)
    assert sum(len(block.frames) for block in blocks) >= 140
    assert source.counts()["damaged_pictures"] >= 1


def test_a_file_of_which_nothing_can_be_decoded_is_one_clear_line(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.m4a", voice(1), "aac", muxer={"movflags": "faststart"})
    content = path.read_bytes()
    start = content.index(b"mdat") + 4
    path.write_bytes(content[:start] + random.Random(1).randbytes(len(content) - start))
    with pytest.raises(MediaError, match=r"a\.m4a: not a media file that can be read \(nothing of its audio can be"):
        FileSource(path)


def test_a_damaged_packet_does_not_end_a_live_stream(tmp_path: Path) -> None:
    """Neither one that is fetched, nor one that is pushed; what was damaged is told and counted."""
    stream = bytearray(transport_stream(beeps()))
    for position in (len(stream) // 5, len(stream) // 2):
        start = position // 188 * 188 + 20  # inside a packet of the transport stream
        stream[start : start + 160] = random.Random(1).randbytes(160)
    fetched = ReconnectingSource(lambda: NetworkSource("a.ts", "mpegts", None, io.BytesIO(stream)), give_up=0)
    blocks = list(fetched)
    found(blocks, BEEPS_S)
    assert fetched.counts()["damaged_packets"] >= 1 and fetched.reconnects == 0
    assert any(block.notice and "could not be decoded" in block.notice for block in blocks)

    sent = damaged(encoded(tmp_path / "a.mkv", beeps(), "mp2"), 2.5, 6.0, 12.0).read_bytes()
    track = PushedTrack("Mara")
    track.attach("a", "webm")
    track.feed("a", sent)
    track.detach("a", is_final=True)
    pushed = track.connect()
    found(list(pushed), BEEPS_S)
    assert pushed.ended_early is None and pushed.counts()["damaged_packets"] == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_time_zero_is_the_beginning_of_the_film_not_of_the_sound(tmp_path: Path, name: str) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    path = encoded(tmp_path / name, beeps(), "aac", start=5.0, films=[("mpeg4", picture, ())])
    blocks = list(FileSource(path))
    found(blocks, tuple(5 + moment for moment in BEEPS_S))
    frames = [frame.time for block in blocks for frame in block.frames]
    assert frames[0] == pytest.approx(0, abs=0.05) and frames[-1] == pytest.approx(19.9, abs=0.2)


@pytest.mark.parametrize("offset", [1.4, 100.0, 26.0 * 3600])
@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_time_zero_of_what_was_cut_from_a_broadcast_is_its_beginning(tmp_path: Path, name: str, offset: float) -> None:
    muxer = {"output_ts_offset": str(offset)}
    path = encoded(tmp_path / name, beeps(), "aac", muxer=muxer)
    found(list(FileSource(path)), BEEPS_S)


def test_a_recording_on_a_web_server_has_the_same_times(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    path = encoded(tmp_path / "a.mp4", beeps(), "aac", start=5.0, films=[("mpeg4", picture, ())])
    found(list(NetworkSource(str(path))), tuple(5 + moment for moment in BEEPS_S))


def test_minutes_without_sound_at_the_beginning(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    path = encoded(tmp_path / "a.mkv", beeps(), "aac", start=200.0, films=[("mpeg4", picture, ())])
    source = FileSource(path)
    found(list(source), tuple(200 + moment for moment in BEEPS_S))
    assert source.counts()["gaps_ms"] == 0


@pytest.mark.data
def test_times_of_a_film_whose_sound_begins_late(data: Path) -> None:
    audio = np.concatenate([block.samples for block in FileSource(data / "faults" / "audio_late.mp4")], 1)[0]
    first = int(np.argmax(np.abs(audio) > 0.05)) / RATE
    assert first == pytest.approx(6.0, abs=0.1)


@pytest.mark.data
def test_all_of_a_damaged_mp3_is_heard(data: Path) -> None:
    source = FileSource(data / "faults" / "corrupt.mp3")
    audio = np.concatenate([block.samples for block in source], 1)[0]
    assert len(audio) / RATE == pytest.approx(24.3, abs=0.05) and source.counts()["damaged_packets"] == 1
    for begin, end in ((1.0, 3.47), (7.81, 11.29), (20.2, 22.81)):
        assert np.abs(audio[round(begin * RATE) : round((begin + 0.2) * RATE)]).max() > 0.05
        assert np.abs(audio[round((end + 0.3) * RATE) : round((end + 0.6) * RATE)]).max() < 0.02


def test_sound_of_no_length(tmp_path: Path) -> None:
    assert list(FileSource(write_wav(tmp_path / "a.wav", np.zeros((1, 0), np.float32)))) == []


ONE = 1 << 16
UPRIGHT = {
    "as it is": (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30),
    "a quarter": (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
    "a half": (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    "three quarters": (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
    "mirrored": (-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30),
    "upside down": (ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    "transposed": (0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
    "transposed the other way": (0, -ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
}


@pytest.mark.parametrize("turn", UPRIGHT)
def test_a_film_is_turned_upright_as_its_display_matrix_says(tmp_path: Path, turn: str) -> None:
    """The sensor's picture has a mark at the place that the matrix maps to the top left."""
    a, b, _, c, d, *_ = UPRIGHT[turn]
    sensor = np.zeros((64, 96, 3), np.uint8)
    # Where x' = ax + cy and y' = bx + dy are smallest.
    left, top = a + b > 0, c + d > 0
    sensor[slice(0, 16) if top else slice(48, 64), slice(0, 16) if left else slice(80, 96)] = 255
    path = encoded(tmp_path / "a.mp4", voice(1), "aac", films=[("mpeg4", sensor, UPRIGHT[turn])])
    image = next(frame.image for block in FileSource(path) for frame in block.frames)
    assert image.shape == ((96, 64, 3) if b else (64, 96, 3))
    assert image[:12, :12].mean() > 200 and image[20:].mean() < 30 and image[:, 20:].mean() < 30
    assert image.flags["C_CONTIGUOUS"]


def test_a_tall_film_keeps_its_width(tmp_path: Path) -> None:
    """Scaled by its size as it is seen: 1080 by 1920, not 1920 by 1080."""
    sensor = np.zeros((544, 960, 3), np.uint8)
    path = encoded(tmp_path / "a.mp4", voice(1), "aac", films=[("mpeg4", sensor, UPRIGHT["a quarter"])])
    image = next(frame.image for block in FileSource(path) for frame in block.frames)
    assert image.shape == (847, 480, 3)
