"""Tracks that are sent to us: raw samples and WebM, whole, cut, replaced, and nonsense."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from stream.errors import MediaError
from stream.sources.mixing import MixedSource, Participant
from stream.sources.pushed import MAX_BUFFERED_BYTES, PushedTrack
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
    blocks = list(source)
    notices = [block.notice for block in blocks if block.notice]
    assert any("connection was lost" in notice for notice in notices) and any("is back" in notice for notice in notices)
    assert source.counts()["reconnects"] == 1 and source.ended_early is None
    assert blocks[-1].start == pytest.approx(1.0 + 1.5 + 0.9, abs=0.4)


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


def test_nonsense_is_refused() -> None:
    track = PushedTrack("Anna")
    send(track, bytes(range(256)) * 100)
    with pytest.raises(MediaError, match="Anna: cannot be opened"):
        list(track.connect())
    with pytest.raises(MediaError, match="format 'mp3'"):
        track.attach("a", "mp3")
    with pytest.raises(MediaError, match="rate 5"):
        track.attach("a", "pcm", 5)


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
