"""Raw samples, placed by their arrival: senders that pause, networks that scatter and hang."""

from __future__ import annotations

import itertools
import threading
from random import Random

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytest import approx, mark

from stream.block import RATE
from stream.clock import VirtualClock
from stream.sources.arrival import PAUSE_S, SETTLE_S, ArrivalClock, Placed
from stream.sources.mixing import MixedSource, Participant
from stream.sources.pushed import PushedTrack
from stream.sources.reconnecting import ReconnectingSource

Piece = tuple[float, np.ndarray]  # its arrival in seconds, and samples
JITTER_S = 0.1  # that a network adds to each piece, at most


def spoken(number: int, seconds: float, piece_s: float, end: float) -> list[Piece]:
    """An utterance, whose samples all have its number, sent in pieces as it is spoken until `end`."""
    pieces = []
    for first in np.arange(0, seconds, piece_s):
        length = min(piece_s, seconds - first)
        samples = np.full((1, round(length * RATE)), number, np.float32)
        pieces.append((end - seconds + first + length, samples))
    return [(at, samples) for at, samples in pieces if samples.size]


def in_order(pieces: list[Piece]) -> list[Piece]:
    """As TCP delivers them: none overtakes another."""
    arrivals = itertools.accumulate((at for at, _ in pieces), max)
    return [(at, samples) for at, (_, samples) in zip(arrivals, pieces, strict=True)]


def placed(pieces: list[Piece]) -> list[Placed]:
    """What becomes of pieces, if what is held back is placed in time."""
    arrivals, done = ArrivalClock(), []
    for arrival, samples in pieces:
        if arrivals.due is not None and arrivals.due < arrival:
            done += arrivals.settle()
        done += arrivals.add(samples, arrival)
    return done + arrivals.settle()


def starts(done: list[Placed]) -> dict[int, float]:
    """Start of each utterance in seconds; checks that everything is in order and nothing overlaps."""
    found: dict[int, float] = {}
    end = 0
    for piece in done:
        assert piece.start >= end
        end = piece.start + piece.samples.shape[1]
        for number in np.unique(piece.samples[0]):
            first = int(np.argmax(piece.samples[0] == number))
            found.setdefault(int(number), (piece.start + first) / RATE)
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.3, 5.0), st.floats(0.0, 90.0) | st.floats(0.0, 1.5)), min_size=1, max_size=8),
    st.sampled_from([0.02, 0.1, 0.25, 1.0]),
    st.randoms(use_true_random=False),
)
@example([(2.0, 2.0)] * 6, 0.1, Random(0))
@example([(2.0, 8.0)] * 6, 0.1, Random(0))
def test_every_utterance_of_a_sender_that_pauses_is_heard_at_its_time(turns, piece_s: float, random) -> None:
    pieces: list[Piece] = []
    truth, now = [], 0.0
    for number, (seconds, pause) in enumerate(turns):
        truth.append(now)
        now += seconds
        pieces += spoken(number + 1, seconds, piece_s, now)
        now += pause
    done = placed(in_order([(at + random.uniform(0, JITTER_S), samples) for at, samples in pieces]))
    assert sum(piece.samples.shape[1] for piece in done) == sum(samples.shape[1] for _, samples in pieces)
    found = starts(done)
    for number, start in enumerate(truth):
        # A pause that is shorter than PAUSE_S is not seen before the next one.
        assert abs(found[number + 1] - start) <= PAUSE_S + 2 * JITTER_S


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0.5, 20.0), st.floats(0.0, 30.0)), min_size=1, max_size=5), st.floats(0.0, 0.2))
def test_a_network_that_hangs_moves_nothing(hangs, burst_s: float) -> None:
    """What was recorded meanwhile comes in one burst: sound without a gap stays so."""
    pieces: list[Piece] = []
    total = sum(wait + seconds for wait, seconds in hangs) + 2.0
    for at, samples in spoken(1, total, 0.1, total):
        now = 0.0
        for wait, seconds in hangs:
            now += wait
            if now < at < now + seconds:
                at = now + seconds + burst_s * (at - now) / max(seconds, 0.1)
            now += seconds
        pieces.append((at, samples))
    done = placed(in_order(pieces))
    end = 0
    for piece in done:
        assert piece.start == end
        end += piece.samples.shape[1]


@settings(deadline=None, max_examples=60)
@given(st.floats(0.0, 1.0), st.floats(1.0, 20.0))
def test_a_detector_that_sends_what_it_heard_before_it_was_sure(before: float, pause: float) -> None:
    """The beginning of the utterance comes at once, the rest as it is spoken."""
    first = spoken(1, 2.0, 0.1, 2.0)
    begun = 2.0 + pause
    second = [(begun + before, np.full((1, round(before * RATE)), 2, np.float32))] if before else []
    second += spoken(2, 2.0, 0.1, begun + before + 2.0)
    assert starts(placed(first + second))[2] == approx(begun, abs=PAUSE_S)


@mark.parametrize("drift", [0.995, 1.0, 1.005])
def test_a_clock_that_runs_wrong_is_no_pause(drift: float) -> None:
    done = placed([(at * drift, samples) for at, samples in spoken(1, 600.0, 0.1, 600.0)])
    assert sum(piece.samples.shape[1] for piece in done) == 600 * RATE
    assert done[-1].start + done[-1].samples.shape[1] == 600 * RATE


def test_what_is_held_back_is_placed_when_nothing_more_comes() -> None:
    arrivals = ArrivalClock()
    sound = np.ones((1, RATE // 10), np.float32)
    assert [piece.start for piece in arrivals.add(sound, 0.1)] == [0] and arrivals.due is None
    assert arrivals.add(sound, 5.1) == [] and arrivals.due == approx(5.1 + SETTLE_S)
    assert [piece.start / RATE for piece in arrivals.settle()] == approx([5.0]) and arrivals.due is None


def test_a_track_that_is_sent_while_somebody_talks_is_heard_beside_one_that_never_stops() -> None:
    """Through all of it, in virtual time: each utterance a level of its own."""
    clock = VirtualClock(threads=5)
    turns = [(1.0, 3.47), (4.47, 6.81), (7.81, 11.29), (19.3, 22.3), (24.3, 27.2), (27.9, 30.5)]
    talker, other = (PushedTrack(name, clock=clock) for name in ("Anna", "Ben"))
    source = MixedSource(
        [Participant(ReconnectingSource(track.connect, clock=clock)) for track in (talker, other)], clock=clock
    )

    def send(track: PushedTrack, turns: list[tuple[float, float]]) -> None:
        for number, (start, end) in enumerate(turns):
            for at, samples in spoken(number + 1, end - start, 0.1, end):
                clock.wait(threading.Event(), at - clock.now())
                track.feed(track.name, (samples * 3000).astype("<i2").tobytes())
        clock.wait(threading.Event(), 1.0)
        track.detach(track.name, is_final=True)

    for track in (talker, other):
        track.attach(track.name, "pcm")
    for track, said in ((talker, turns), (other, [(0.0, 31.0)])):
        threading.Thread(target=send, args=(track, said), daemon=True).start()
    blocks = list(source)
    audio = np.concatenate([block.samples for block in blocks], 1)
    levels = np.round(audio[0] * 32768 / 3000)
    # The clock of a track begins with its first sound.
    for number, (start, end) in enumerate(turns):
        heard = np.flatnonzero(levels == number + 1)
        assert len(heard) / RATE == approx(end - start, abs=0.02)
        assert heard[0] / RATE == approx(start, abs=0.15) and heard[-1] / RATE == approx(end, abs=0.15)
    assert (audio[1] > 0).sum() / RATE == approx(31.0, abs=0.1)
    assert not any(block.notice for block in blocks) and source.ended_early is None
