"""Real streams over loopback, as FFmpeg's demuxers see them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

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
