"""Tracks that are sent to us: raw samples and WebM, whole, cut, replaced, and nonsense."""

from __future__ import annotations

import io
import threading
import time

import av
import numpy as np
import pytest

from stream.block import Block
from stream.clock import VirtualClock
from stream.errors import MediaError
from stream.sources.arrival import MAX_BUFFERED_BYTES
from stream.sources.mixing import MAX_KEPT_PAUSE_S, MixedSource, Participant
from stream.sources.pushed import HEADER_S, PushedTrack
from stream.sources.reconnecting import ReconnectingSource
from tests.support.recordings import RATE, voice, webm


def send(
    track: PushedTrack, data: bytes, form: str = "webm", rate: int = RATE, over: bool = True, name: str = "a"
) -> None:
    track.attach(name, form, rate)
    for first in range(0, len(data), 2000):
        track.feed(name, data[first : first + 2000])
    track.detach(name, over)


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize(("form", "rate"), [("pcm", 16_000), ("pcm", 48_000), ("webm", 0)])
def test_what_is_sent_is_heard(form: str, rate: int) -> None:
    said = voice(3.0)
    track = PushedTrack("Anna")
    if form == "webm":
        send(track, webm(said))
    else:
        repeated = np.repeat(said, rate // RATE)
        send(track, pcm(repeated), "pcm", rate)
    source = track.connect()
    heard = np.concatenate([block.samples for block in source], 1)[0]
    assert len(heard) / RATE == pytest.approx(3.0, abs=0.05)
    assert source.ended_early is None
    n = min(len(heard), len(said))
    assert max(np.correlate(heard[:n], said[:n], "same")) / np.sum(said[:n] ** 2) > 0.8


def test_pictures_come_along() -> None:
    track = PushedTrack("Anna", video=True)
    send(track, webm(voice(2.0), pictures=True))
    frames = [frame for block in track.connect() for frame in block.frames]
    assert len(frames) >= 15 and frames[0].image.shape == (48, 64, 3)


def test_a_lost_connection_comes_again() -> None:
    """The clock runs on through the gap, which is told of."""
    track = PushedTrack("Anna")
    source = MixedSource([Participant(ReconnectingSource(track.connect, give_up=10, first=0.05))])
    send(track, webm(voice(1.0)), over=False, name="first")
    threading.Timer(1.5, lambda: send(track, webm(voice(1.0, seed=1)), name="second")).start()
    began = time.monotonic()
    blocks = list(source)
    took = time.monotonic() - began
    notices = [block.notice for block in blocks if block.notice]
    assert any("connection was lost" in notice for notice in notices) and any("is back" in notice for notice in notices)
    assert source.counts()["reconnects"] == 1 and source.ended_early is None
    heard = np.flatnonzero(np.abs(np.concatenate([block.samples for block in blocks], 1)[0]) > 0.03) / RATE
    # Each came at once, and the second when the first had just ended; on a busy machine it may come later than that.
    shortest = 1.0 + MAX_KEPT_PAUSE_S + 1.0
    assert shortest - 0.1 < heard[-1] - heard[0] < max(shortest, took) + 0.1


def test_nobody_comes() -> None:
    with pytest.raises(MediaError, match="Anna: no sender connected within"):
        list(PushedTrack("Anna", patience=0.3).connect())


def test_a_track_that_was_over_before_this_process_listened() -> None:
    track = PushedTrack("Anna")
    track.detach("of another process", is_final=True)
    source = MixedSource([Participant(ReconnectingSource(track.connect, give_up=10))])
    started = time.monotonic()
    assert not any(block.samples.any() for block in source) and source.ended_early is None
    assert time.monotonic() - started < 5


def container(format: str) -> bytes:
    """Two seconds of sound as MP4 (in fragments, as Safari records it), Ogg, FLAC or MP3."""
    file, codec = io.BytesIO(), {"mp4": "aac", "ogg": "libopus", "flac": "flac", "mp3": "libmp3lame"}[format]
    options = {"movflags": "frag_keyframe+empty_moov"} if format == "mp4" else {}
    with av.open(file, "w", format=format, options=options) as output:
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((voice(2.0)[None] * 32767).astype(np.int16), "s16p", "mono")
        frame.sample_rate = RATE
        for part in (*(resampler := av.AudioResampler(stream.format, "mono", 48_000)).resample(frame), None):
            output.mux(stream.encode(part))
        del resampler
    return file.getvalue()


def headless() -> bytes:
    """A recorder's later chunks, without the first."""
    whole = webm(voice(4.0))
    return whole[whole.index(b"\x1f\x43\xb6\x75") :]  # the first cluster


NONSENSE = bytes(range(256)) * 100


@pytest.mark.parametrize(
    ("form", "content", "reason"),
    [
        ("webm", NONSENSE, "Anna: no WebM header, which only a recorder's first chunk has"),
        ("webm", headless(), "Anna: no WebM header, which only a recorder's first chunk has"),
        ("webm", container("mp4"), "Anna: this is MP4 and no WebM"),
        ("webm", container("ogg"), "Anna: this is Ogg and no WebM"),
        ("pcm", webm(voice(1.0)), "Anna: this is WebM and no PCM"),
        ("pcm", container("ogg"), "Anna: this is Ogg and no PCM"),
        ("pcm", container("flac"), "Anna: this is FLAC and no PCM"),
        ("pcm", container("mp3"), "Anna: this is MP3 and no PCM"),
    ],
)
@pytest.mark.parametrize("size", [3, 700, 1 << 20])
def test_a_sender_of_another_format_is_told_at_once_and_can_begin_again(
    form: str, content: bytes, reason: str, size: int
) -> None:
    """The track waits for a better connection; what that one sends is heard."""
    track = PushedTrack("Anna")
    source = MixedSource([Participant(ReconnectingSource(track.connect, give_up=10, first=0.05))])
    blocks: list[Block] = []
    thread = threading.Thread(target=lambda: blocks.extend(source))
    thread.start()
    track.attach("bad", form)
    with pytest.raises(MediaError, match=reason) as refused:
        for first in range(0, len(content), size):
            track.feed("bad", content[first : first + size])
        while True:  # as the gateway does
            track.full("bad")
            time.sleep(0.01)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 120
    track.detach("bad", is_final=False)
    send(track, webm(voice(1.0)), name="good")
    thread.join(timeout=10)
    assert source.ended_early is None and np.abs(np.concatenate([b.samples for b in blocks], 1)).max() > 0.05
    assert any(reason.removeprefix("Anna: ") in (block.notice or "") for block in blocks)


def test_what_is_no_format_is_refused() -> None:
    track = PushedTrack("Anna")
    with pytest.raises(MediaError, match="format 'mp3'"):
        track.attach("a", "mp3")
    with pytest.raises(MediaError, match="rate 5"):
        track.attach("a", "pcm", 5)


def test_a_header_that_cannot_be_read_is_told_of_in_time() -> None:
    clock = VirtualClock()
    track = PushedTrack("Anna", clock=clock)
    track.attach("a", "webm")
    thread = threading.Thread(target=lambda: list(track.connect()))
    whole = webm(voice(1.0))
    head = whole[: whole.index(b"\x11\x4d\x9b\x74")]  # up to the index, before which something of 256 MB is to come
    track.feed("a", head + b"\xec\x01\x00\x00\x00\x10\x00\x00\x00" + NONSENSE)
    track.full("a")
    thread.start()
    clock.wait(threading.Event(), HEADER_S + 1)
    with pytest.raises(MediaError, match="Anna: its header cannot be read"):
        track.full("a")
    thread.join(timeout=10)


def test_nonsense_that_was_all_ends_the_track_at_once() -> None:
    track = PushedTrack("Anna")
    send(track, b"\x1aE\xdf\xa3" + NONSENSE)
    with pytest.raises(MediaError, match="Anna: cannot be opened"):
        list(track.connect())


def test_a_connection_without_anything_is_no_failure() -> None:
    track = PushedTrack("Anna")
    send(track, b"", name="empty")
    source = track.connect()
    assert list(source) == [] and source.ended_early is None
    send(track, b"", over=False, name="lost")
    source = track.connect()
    assert list(source) == [] and source.ended_early == "the connection was lost"


def test_a_sender_that_is_too_fast_waits_and_one_that_was_replaced_hears_so() -> None:
    track = PushedTrack("Anna")
    track.attach("old", "pcm")
    track.feed("old", b"\0" * 100)
    assert not track.full("old")
    track.feed("old", b"\0" * MAX_BUFFERED_BYTES)
    assert track.full("old")
    track.attach("new", "pcm")
    with pytest.raises(MediaError, match="another connection has replaced this one"):
        track.feed("old", b"\0")


def test_stopping_ends_a_track_that_waits_for_bytes() -> None:
    track = PushedTrack("Anna")
    track.attach("a", "pcm")
    source = track.connect()
    threading.Timer(0.3, source.stop).start()
    started = time.monotonic()
    assert list(source) == [] and time.monotonic() - started < 5


TURNS = ((0.0, 2.0), (5.0, 7.0), (15.0, 17.0))  # seconds in which somebody talks


def webm_while_somebody_talks(stamped: bool) -> list[tuple[float, bytes]]:
    """Pieces of WebM with the seconds at which they are sent; without what lies between the turns.

    stamped: its time stamps have the pauses (DTX); else they do not (`MediaRecorder.pause`).
    """
    file, pieces, sent, spoken = io.BytesIO(), [], 0, 0
    with av.open(file, "w", format="webm", options={"cluster_time_limit": "100"}) as output:
        stream = output.add_stream("libopus", rate=48_000, layout="mono")
        for number, part in enumerate(np.split(voice(TURNS[-1][1]), round(TURNS[-1][1] * 50))):
            if not any(start <= number / 50 < end for start, end in TURNS):
                continue
            frame = av.AudioFrame.from_ndarray(np.repeat(part, 3)[None].astype(np.float32), "flt", "mono")
            frame.sample_rate, frame.pts = 48_000, 960 * (number if stamped else spoken)
            spoken += 1
            for packet in stream.encode(frame):
                output.mux(packet)
            pieces.append(((number + 1) / 50, file.getvalue()[sent:]))
            sent = file.tell()
    return [*[(at, piece) for at, piece in pieces if piece], (pieces[-1][0], file.getvalue()[sent:])]


@pytest.mark.parametrize("stamped", [True, False])
def test_webm_that_is_sent_while_somebody_talks_is_heard_at_its_time(stamped: bool) -> None:
    clock = VirtualClock(threads=3)
    track = PushedTrack("Anna", clock=clock)
    source = MixedSource([Participant(ReconnectingSource(track.connect, clock=clock))], clock=clock)
    track.attach("a", "webm")

    def sender() -> None:
        for at, piece in webm_while_somebody_talks(stamped):
            clock.wait(threading.Event(), at - clock.now())
            track.feed("a", piece)
        clock.wait(threading.Event(), 1.0)
        track.detach("a", is_final=True)

    threading.Thread(target=sender, daemon=True).start()
    audio = np.concatenate([block.samples for block in source], 1)[0]
    loud = np.flatnonzero(np.abs(audio) > 0.03) / RATE
    ends = np.flatnonzero(np.diff(loud) > 1.0)
    heard = list(zip([loud[0], *loud[ends + 1]], [*loud[ends], loud[-1]], strict=True))
    assert len(heard) == len(TURNS)
    for (start, end), (begun, over) in zip(TURNS, heard, strict=True):
        assert begun - heard[0][0] == pytest.approx(start, abs=0.25)
        assert over - heard[0][0] == pytest.approx(end, abs=0.25)
