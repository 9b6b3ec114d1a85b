"""Real streams over loopback, as FFmpeg's demuxers see them."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from stream.block import Block
from stream.clock import VirtualClock
from stream.errors import MediaError
from stream.sources.file import FileSource
from stream.sources.network import NetworkSource
from stream.sources.reconnecting import ReconnectingSource
from tests.support.recordings import RATE, voice
from tests.support.senders import hls, tcp_sender, transport_stream, web_server


def test_a_cut_connection_is_restored_and_the_gap_is_marked() -> None:
    parts = [(transport_stream(voice(3, seed=1)), 2.0), (transport_stream(voice(3, seed=2)), 2.0)]
    with tcp_sender(parts, pause=1.0) as url:
        source = ReconnectingSource(lambda: NetworkSource(url), give_up=1.5, first=0.2)
        blocks = list(source)
    notices = [block.notice for block in blocks if block.notice]
    assert "is lost" in notices[0] and "is back after" in notices[1]
    assert source.reconnects == 1 and source.ended_early is not None
    heard = sum(block.samples.shape[1] for block in blocks) / RATE
    assert heard == pytest.approx(6, abs=0.4)
    gap = sum(block.dropped for block in blocks)
    assert gap > 0.5
    assert blocks[-1].start + blocks[-1].samples.shape[1] / RATE == pytest.approx(heard + gap, abs=0.2)


class Arriving:
    """A stream that takes its time to arrive, as its clock tells."""

    def __init__(self, stream: bytes, seconds: float, clock: VirtualClock) -> None:
        self._stream, self._clock = io.BytesIO(stream), clock
        self._seconds_per_byte = seconds / len(stream)

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(min(size, 2000))
        self._clock.wait(threading.Event(), len(piece) * self._seconds_per_byte)
        return piece


def pictures(seconds: float) -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 255, (48, 64, 3), np.uint8) for n in range(round(seconds * 25))]


def paced(sound: np.ndarray, seconds: float, limit: float | None = None) -> list[Block]:
    """The blocks of a stream of pictures and of a sound that may be shorter, on a clock of its own."""
    clock = VirtualClock()
    stream = Arriving(transport_stream(sound, pictures(seconds)), seconds, clock)
    source = NetworkSource("tcp://camera", "mpegts", {"probesize": "20000"}, stream, clock)
    return list(ReconnectingSource(lambda: source, 1, limit, clock=clock))


def test_a_sound_that_ends_while_pictures_go_on_is_told_and_the_clock_goes_on() -> None:
    blocks = paced(voice(4), 20)
    assert next(block.notice for block in blocks if block.notice) == (
        "pictures come, and for 5 s no sound: silence takes its place"
    )
    sound = np.concatenate([block.samples for block in blocks], 1)[0]
    assert len(sound) / RATE == pytest.approx(20, abs=2.5), "some of it had arrived when its clock began"
    assert np.abs(sound[: 3 * RATE]).max() > 0.05 and not sound[5 * RATE :].any()
    starts = [block.start for block in blocks if block.samples.shape[1]]
    assert np.diff(starts) == pytest.approx(0.04)
    frames = [frame for block in blocks for frame in block.frames]
    assert frames[-1].time == pytest.approx(20, abs=0.7)
    seconds = sum(block.samples.shape[1] for block in paced(voice(4), 20, limit=12)) / RATE
    assert seconds == pytest.approx(12, abs=0.05), "the seconds that were asked for come to an end"


def test_a_sound_that_comes_back_lies_where_it_belongs() -> None:
    gone, back = 4 * RATE, 13 * RATE
    said = 0.5 * np.sin(2 * np.pi * 440 * np.arange(20 * RATE) / RATE).astype(np.float32)
    said[gone:back] = np.nan  # is not sent
    blocks = paced(said, 20)
    notices = [block.notice or "" for block in blocks if block.notice]
    assert "for 5 s no sound" in notices[0] and notices[1] == "there is sound again"
    heard = np.abs(np.concatenate([block.samples for block in blocks], 1)[0]) > 0.2
    assert not heard[gone + RATE : back - RATE].any()
    first = back - RATE + int(np.argmax(heard[back - RATE :]))
    assert first / RATE == pytest.approx(13, abs=0.7)


def test_a_sound_that_never_comes_is_silence() -> None:
    blocks = paced(np.full(20 * RATE, np.nan, np.float32), 20)
    assert any("for 5 s no sound" in (block.notice or "") for block in blocks)
    assert sum(block.samples.shape[1] for block in blocks) / RATE == pytest.approx(20, abs=2.5)
    late = [frame.time - block.start for block in blocks if block.start > 6 for frame in block.frames]
    assert late and max(map(abs, late)) < 2.5


def flashes_and_beeps() -> tuple[bytes, tuple[float, ...]]:
    """A flash and a beep at the same moments of a stream; MPEG-TS time stamps begin at 1.4 s."""
    seconds, moments = 6, (1.0, 2.5, 4.0)
    sound = np.zeros(seconds * RATE, np.float32)
    images = [np.zeros((48, 64, 3), np.uint8) for _ in range(seconds * 25)]
    for moment in moments:
        at = round(moment * RATE)
        sound[at : at + RATE // 5] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE // 5) / RATE)
        for n in range(round(moment * 25), round((moment + 0.2) * 25)):
            images[n][:] = 255
    return transport_stream(sound, images), moments


@pytest.mark.parametrize("way", ["stream", "file"])
def test_sound_and_pictures_are_in_step(way: str, tmp_path: Path) -> None:
    stream, moments = flashes_and_beeps()
    if way == "file":
        (tmp_path / "a.ts").write_bytes(stream)
        blocks = list(FileSource(tmp_path / "a.ts"))
    else:
        with tcp_sender([(stream, 1.0)]) as url:
            blocks = list(NetworkSource(url))
    audio = np.concatenate([block.samples for block in blocks], 1)[0]
    frames = [frame for block in blocks for frame in block.frames]
    for moment in moments:
        near = slice(round((moment - 0.4) * RATE), round((moment + 0.4) * RATE))
        beep = moment - 0.4 + int(np.argmax(np.abs(audio[near]) > 0.2)) / RATE
        flash = next(frame.time for frame in frames if frame.time > moment - 0.4 and frame.image.mean() > 128)
        assert flash - beep == pytest.approx(0.0, abs=0.12)  # pictures come every 100 ms


def test_a_recording_on_a_web_server_ends(tmp_path: Path) -> None:
    (tmp_path / "talk.ts").write_bytes(transport_stream(voice(2)))
    with web_server(tmp_path) as url:
        source = NetworkSource(f"{url}/talk.ts")
        heard = sum(block.samples.shape[1] for block in source) / RATE
        assert heard == pytest.approx(2, abs=0.2)
        assert source.ended_early is None
        with pytest.raises(MediaError, match="cannot be opened"):
            list(NetworkSource(f"{url}/nothing.ts"))


def test_hls(tmp_path: Path) -> None:
    hls(tmp_path / "live.m3u8", voice(4))
    with web_server(tmp_path) as url:
        blocks = list(NetworkSource(f"{url}/live.m3u8"))
    assert sum(block.samples.shape[1] for block in blocks) / RATE == pytest.approx(4, abs=0.3)


def test_a_stream_without_sound_is_one_clear_line(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "mute.ts"), "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for _ in range(25):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        container.mux(video.encode(None))
    with web_server(tmp_path) as url, pytest.raises(MediaError, match="no audio track"):
        list(NetworkSource(f"{url}/mute.ts"))
