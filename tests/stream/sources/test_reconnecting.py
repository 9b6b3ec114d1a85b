from __future__ import annotations

import threading
import time

import pytest

from stream.block import RATE
from stream.clock import VirtualClock
from stream.errors import MediaError
from stream.sources.reconnecting import ReconnectingSource
from tests.support.senders import Tone


def test_a_source_that_breaks_is_opened_again_and_the_clock_runs_on() -> None:
    clock = VirtualClock()
    made = iter([Tone(5, ended="connection reset", clock=clock), Tone(5, wait=0.3, clock=clock)])
    source = ReconnectingSource(lambda: next(made), first=0.2, clock=clock)
    blocks = list(source)
    assert [block.number for block in blocks] == list(range(len(blocks)))
    notices = [block.notice for block in blocks if block.notice]
    assert len(notices) == 2 and "is lost: connection reset" in notices[0] and "is back after" in notices[1]
    gap = next(block.dropped for block in blocks if block.dropped)
    assert gap == pytest.approx(0.2 + 0.3) and source.reconnects == 1
    sounding = [block for block in blocks if block.samples.shape[1]]
    assert sounding[5].start == pytest.approx(0.5 + gap)
    assert sounding[5].frames[0].time == pytest.approx(sounding[5].start)


def test_a_source_that_does_not_come_back_ends_with_its_reason() -> None:
    clock = VirtualClock()
    made = [Tone(2, ended="cable pulled", clock=clock)]

    def connect() -> Tone:
        if not made:
            raise MediaError("no answer")
        return made.pop()

    source = ReconnectingSource(connect, give_up=100, clock=clock)
    assert len([block for block in source if block.samples.shape[1]]) == 2
    assert clock.now() == pytest.approx(0.2 + 0.5 + 1 + 2 + 4 + 8 + 16 + 3 * 30), "tried less and less often"
    assert source.ended_early is not None and "cable pulled" in source.ended_early and "100 s" in source.ended_early


def test_a_source_that_never_opens_is_an_error() -> None:
    def connect() -> Tone:
        raise MediaError("no such device")

    with pytest.raises(MediaError, match="no such device"):
        ReconnectingSource(connect)


def test_stop_ends_the_wait_for_a_lost_source() -> None:
    source = ReconnectingSource(lambda: Tone(1, ended="gone"), give_up=60, first=30)
    threading.Timer(0.4, source.stop).start()
    started = time.monotonic()
    assert len(list(source)) == 2  # one block, one notice
    assert time.monotonic() - started < 5 and source.ended_early is None


def test_seconds_of_media_end_a_source() -> None:
    source = ReconnectingSource(lambda: Tone(50, burst=True), seconds=1.0)
    assert sum(block.samples.shape[1] for block in source) == RATE


def test_seconds_of_media_end_a_source_that_is_lost() -> None:
    clock = VirtualClock()
    made = [Tone(5, ended="connection reset", clock=clock)]

    def connect() -> Tone:
        if not made:
            raise MediaError("no answer")
        return made.pop()

    source = ReconnectingSource(connect, give_up=300, seconds=10, clock=clock)
    assert sum(block.samples.shape[1] for block in source) == RATE / 2
    assert clock.now() == pytest.approx(10) and source.ended_early is None
