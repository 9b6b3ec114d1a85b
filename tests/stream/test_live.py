from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from stream import RATE
from stream.block import Block, VideoFrame
from stream.live import Participant, Reconnecting, Together
from stream.media import MediaError

BLOCK = RATE // 10


class Tone:
    """A live source of `blocks` blocks at real time (or as one burst), which then breaks, ends, or stays silent."""

    repaired, split, video, channels = 0, False, False, 1

    def __init__(
        self, blocks: int, value: float = 1.0, ended: str | None = None, wait: float = 0.0, burst=False
    ) -> None:
        self.name, self.ended_early = f"tone {value}", None
        self._blocks, self._value, self._ended, self._wait, self._burst = blocks, value, ended, wait, burst
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def __iter__(self) -> Iterator[Block]:
        time.sleep(self._wait)
        for n in range(self._blocks):
            if self._stopping.is_set():
                return
            if not self._burst:
                time.sleep(0.1)
            frame = VideoFrame(n / 10, np.zeros((1, 1, 3), np.uint8))
            yield Block(n, n / 10, np.full((1, BLOCK), self._value, np.float32), (frame,))
        self.ended_early = self._ended


def test_a_source_that_breaks_is_opened_again_and_the_clock_runs_on() -> None:
    made = iter([Tone(5, ended="connection reset"), Tone(5, wait=0.3)])
    source = Reconnecting(lambda: next(made), first=0.2)
    blocks = list(source)
    assert [block.number for block in blocks] == list(range(len(blocks)))
    notices = [block.notice for block in blocks if block.notice]
    assert len(notices) == 2 and "is lost: connection reset" in notices[0] and "is back after" in notices[1]
    gap = next(block.dropped for block in blocks if block.dropped)
    assert 0.4 < gap < 1.5 and source.reconnects == 1
    sounding = [block for block in blocks if block.samples.shape[1]]
    assert sounding[5].start == pytest.approx(0.5 + gap)
    assert sounding[5].frames[0].time == pytest.approx(sounding[5].start)


def test_a_source_that_does_not_come_back_ends_with_its_reason() -> None:
    made = [Tone(2, ended="cable pulled")]

    def connect() -> Tone:
        if not made:
            raise MediaError("no answer")
        return made.pop()

    source = Reconnecting(connect, give_up=0.5, first=0.1)
    assert len([block for block in source if block.samples.shape[1]]) == 2
    assert source.ended_early is not None and "cable pulled" in source.ended_early and "0 s" in source.ended_early


def test_a_source_that_never_opens_is_an_error() -> None:
    def connect() -> Tone:
        raise MediaError("no such device")

    with pytest.raises(MediaError, match="no such device"):
        Reconnecting(connect)


def test_stop_ends_the_wait_for_a_lost_source() -> None:
    source = Reconnecting(lambda: Tone(1, ended="gone"), give_up=60, first=30)
    threading.Timer(0.4, source.stop).start()
    started = time.monotonic()
    assert len(list(source)) == 2  # one block, one notice
    assert time.monotonic() - started < 5 and source.ended_early is None


def test_seconds_of_media_end_a_source() -> None:
    source = Reconnecting(lambda: Tone(50, burst=True), seconds=1.0)
    assert sum(block.samples.shape[1] for block in source) == RATE


def test_participants_run_in_step_and_a_late_one_is_silent_until_then() -> None:
    one, other = Tone(20, 1.0), Tone(8, 2.0, wait=1.0)
    together = Together([Participant(one, name="Anna"), Participant(other)])
    blocks = list(together)
    audio = np.concatenate([block.samples for block in blocks], 1)
    assert together.channels == 2 and together.split
    assert [block.number for block in blocks] == list(range(len(blocks)))
    first = int(np.argmax(audio[1] == 2.0)) / RATE
    assert 0.8 < first < 1.6  # when it began to arrive
    assert (audio[0] == 1.0).sum() == pytest.approx(20 * BLOCK, abs=2 * BLOCK)
    assert (audio[1] == 2.0).sum() == pytest.approx(8 * BLOCK, abs=2 * BLOCK)
    assert all(frame.channel in (0, 1) for block in blocks for frame in block.frames)


def test_a_participant_who_is_lost_does_not_hold_up_the_others() -> None:
    made = iter([Tone(3, 2.0, ended="reset")])

    def connect() -> Tone:
        try:
            return next(made)
        except StopIteration:
            raise MediaError("still away") from None

    together = Together([Participant(Tone(30, 1.0)), Participant(Reconnecting(connect, give_up=1.0, first=0.2))])
    blocks = list(together)
    audio = np.concatenate([block.samples for block in blocks], 1)
    assert (audio[0] == 1.0).sum() >= 28 * BLOCK
    assert any("is lost: reset" in (block.notice or "") for block in blocks)
    assert together.ended_early is not None and "reset" in together.ended_early


def test_a_burst_is_kept_until_it_is_due() -> None:
    """HLS delivers a segment of seconds at once."""
    started = time.monotonic()
    together = Together([Participant(Tone(12, burst=True)), Participant(Tone(12))])
    audio = np.concatenate([block.samples for block in together], 1)
    assert time.monotonic() - started > 1.0
    assert (audio[0] == 1.0).sum() >= 11 * BLOCK


def test_a_camera_that_does_not_open_costs_the_pictures_alone() -> None:
    class Broken(Tone):
        def __iter__(self) -> Iterator[Block]:
            raise MediaError("/dev/video0: cannot be opened")

    blocks = list(Together([Participant(Tone(5), camera=Broken(0), name="Anna")]))
    assert sum(block.samples.shape[1] for block in blocks) >= 4 * BLOCK
    assert [block.notice for block in blocks if block.notice] == ["/dev/video0: cannot be opened"]
