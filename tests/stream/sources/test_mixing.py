from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stream.block import BLOCK_SAMPLES, RATE, Block
from stream.clock import VirtualClock
from stream.errors import MediaError
from stream.sources.mixing import ClockAligner, MixedSource, Participant, Track
from stream.sources.reconnecting import ReconnectingSource
from tests.support.senders import TONE_BLOCK, Tone


class Sleeper(Tone):
    """A laptop that sleeps for 2 s after half a second: its clock goes on where it was."""

    def __iter__(self) -> Iterator[Block]:
        for block in super().__iter__():
            if block.number == 5:
                self._clock.wait(threading.Event(), 2.0)
            yield block


def test_participants_run_in_step_and_a_late_one_is_silent_until_then() -> None:
    clock = VirtualClock(threads=3)
    one, other = Tone(20, 1.0, clock=clock), Tone(8, 2.0, wait=1.0, clock=clock)
    together = MixedSource([Participant(one, name="Anna"), Participant(other)], clock=clock)
    assert together.began(1) is None
    blocks = list(together)
    audio = np.concatenate([block.samples for block in blocks], 1)
    assert together.channels == 2 and together.split
    assert [block.number for block in blocks] == list(range(len(blocks)))
    first = int(np.argmax(audio[1] == 2.0)) / RATE
    assert 0.8 < first < 1.6  # when it began to arrive
    assert together.began(1) == pytest.approx(first, abs=0.01)
    assert (audio[0] == 1.0).sum() == pytest.approx(20 * TONE_BLOCK, abs=2 * TONE_BLOCK)
    assert (audio[1] == 2.0).sum() == pytest.approx(8 * TONE_BLOCK, abs=2 * TONE_BLOCK)
    assert all(frame.channel in (0, 1) for block in blocks for frame in block.frames)


def test_a_participant_who_is_lost_does_not_hold_up_the_others() -> None:
    clock = VirtualClock(threads=3)
    made = iter([Tone(3, 2.0, ended="reset", clock=clock)])

    def connect() -> Tone:
        try:
            return next(made)
        except StopIteration:
            raise MediaError("still away") from None

    lost = ReconnectingSource(connect, give_up=1.0, first=0.2, clock=clock)
    together = MixedSource([Participant(Tone(30, 1.0, clock=clock)), Participant(lost)], clock=clock)
    blocks = list(together)
    audio = np.concatenate([block.samples for block in blocks], 1)
    assert (audio[0] == 1.0).sum() >= 28 * TONE_BLOCK
    assert any("is lost: reset" in (block.notice or "") for block in blocks)
    assert together.ended_early is not None and "reset" in together.ended_early


def test_a_burst_is_kept_until_it_is_due() -> None:
    """HLS delivers a segment of seconds at once."""
    clock = VirtualClock(threads=3)
    together = MixedSource(
        [Participant(Tone(12, burst=True, clock=clock)), Participant(Tone(12, clock=clock))], clock=clock
    )
    audio = np.concatenate([block.samples for block in together], 1)
    assert clock.now() == pytest.approx(1.2, abs=0.05)
    assert (audio[0] == 1.0).sum() >= 11 * TONE_BLOCK


def test_a_camera_that_does_not_open_costs_the_pictures_alone() -> None:
    class Broken(Tone):
        def __iter__(self) -> Iterator[Block]:
            raise MediaError("/dev/video0: cannot be opened")

    clock = VirtualClock(threads=2)
    blocks = list(MixedSource([Participant(Tone(5, clock=clock), camera=Broken(0), name="Anna")], clock=clock))
    assert sum(block.samples.shape[1] for block in blocks) >= 4 * TONE_BLOCK
    assert [block.notice for block in blocks if block.notice] == ["/dev/video0: cannot be opened"]


@pytest.mark.parametrize("rate", [0.99, 1.01, 0.9999, 1.0])
def test_a_clock_that_runs_wrong_is_followed_for_an_hour(rate: float) -> None:
    track, blocks = Track(1), round(3600 * RATE / BLOCK_SAMPLES)
    apart = []
    for n in range(blocks):
        now = (n + 1) * BLOCK_SAMPLES / RATE / rate
        sound = np.sin(2 * np.pi * 100 * (np.arange(BLOCK_SAMPLES) + n * BLOCK_SAMPLES) / RATE)[None].astype(np.float32)
        track.append(*track.aligner.place(n * BLOCK_SAMPLES / RATE, BLOCK_SAMPLES / RATE, now), sound)
        apart.append(track.end / RATE - now)
        samples = track.take(track.size)
        assert np.abs(np.diff(samples)).max() < 0.05  # neither a hole nor a jump: the tone itself moves by 0.04
    assert max(map(abs, apart)) < (0.4 if rate in (0.99, 1.01) else 0.02)


def test_a_network_that_is_busy_for_a_while_moves_nothing() -> None:
    track = Track(1)
    for n in range(3000):
        late = 0.5 if 800 < n < 1000 else 0.0
        begin, _ = track.aligner.place(
            n * BLOCK_SAMPLES / RATE, BLOCK_SAMPLES / RATE, (n + 1) * BLOCK_SAMPLES / RATE + late
        )
        assert begin == pytest.approx(n * BLOCK_SAMPLES / RATE)


def test_a_sender_whose_clock_had_stopped_is_heard_whole_where_it_arrives() -> None:
    clock = VirtualClock(threads=3)
    one, other = Tone(90, 1.0, clock=clock), Sleeper(60, 2.0, clock=clock)
    blocks = list(MixedSource([Participant(one), Participant(other)], clock=clock))
    sound = np.concatenate([block.samples for block in blocks], 1)[1]
    heard = np.flatnonzero(sound == 2.0) / RATE
    assert heard[5 * TONE_BLOCK] == pytest.approx(2.5, abs=0.1) and heard[-1] == pytest.approx(8.0, abs=0.1)
    assert len(heard) / RATE == pytest.approx(6.0, abs=0.01)
    told = [block.notice for block in blocks if block.notice]
    assert told == ["tone 2.0: sound came 2.0 s late; it lies where it came"]


class Hiccup(Tone):
    """A network that delivers nothing for a while, and then all of it at once."""

    def __iter__(self) -> Iterator[Block]:
        for block in super().__iter__():
            if block.number == 20:
                self._clock.wait(threading.Event(), 2.9)
                self._burst = True
            if block.number == 49:
                self._burst = False
            yield block


def test_a_network_that_hung_loses_nothing_and_its_sound_comes_back_to_its_time() -> None:
    clock = VirtualClock(threads=3)
    one, other = Tone(3000, 1.0, clock=clock), Hiccup(3000, 2.0, clock=clock)
    blocks = list(MixedSource([Participant(one), Participant(other)], clock=clock))
    sound = np.concatenate([block.samples for block in blocks], 1)[1]
    heard = np.flatnonzero(sound == 2.0) / RATE
    assert heard[20 * TONE_BLOCK] == pytest.approx(4.9, abs=0.1) and heard[0] == pytest.approx(0, abs=0.1)
    assert np.diff(heard).max() == pytest.approx(2.9, abs=0.1), "one gap alone"
    assert heard[-1] == pytest.approx(300.0, abs=0.3)


def test_silence_that_is_late_moves_nothing() -> None:
    """A decoder fills a gap in the time stamps with silence when the gap is over."""
    clock = VirtualClock(threads=2)

    class Gap(Tone):
        def __iter__(self) -> Iterator[Block]:
            for block in super().__iter__():
                if block.number == 10:
                    self._clock.wait(self._stopping, 5.0)
                    self._burst = True
                if block.number == 60:
                    self._burst = False
                yield replace(block, samples=block.samples * 0) if 10 <= block.number < 60 else block

    blocks = list(MixedSource([Participant(Gap(100, 1.0, clock=clock))], clock=clock))
    heard = np.flatnonzero(np.concatenate([block.samples for block in blocks], 1)[0]) / RATE
    assert len(heard) == 50 * TONE_BLOCK and not any(block.notice for block in blocks)
    assert heard[10 * TONE_BLOCK] == pytest.approx(6.0, abs=0.1) and heard[-1] == pytest.approx(10.0, abs=0.1)


def test_a_stream_that_was_ahead_is_brought_back_by_a_pause() -> None:
    aligner = ClockAligner()
    assert aligner.place(0.0, 0.04, 0.04) == (0.0, 0.04)
    assert aligner.place(0.04, 4.96, 0.05)[1] == pytest.approx(5.0)  # in one burst
    assert aligner.place(9.0, 0.04, 4.04)[0] == pytest.approx(6.0)  # a second of the pause stays
    assert aligner.place(20.0, 0.04, 15.04)[0] == pytest.approx(15.0)
