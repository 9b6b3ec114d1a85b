"""Utterances of people who talk at the same time, with a network that tells tones apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stream.block import RATE, Utterance
from stream.speech.local_speakers import FRAME, FRAMES, SPEAKERS, WINDOW
from stream.speech.overlap_segmenter import OverlapSegmenter

TONES = 400.0, 1500.0, 4000.0  # the voices of three people


class Tones:
    """Hears each person as a tone; the columns change places from window to window."""

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, window: np.ndarray) -> np.ndarray:
        assert window.shape == (WINDOW,) and window.dtype == np.float32
        self.windows += 1
        frames = np.lib.stride_tricks.sliding_window_view(window, 991)[::FRAME]
        assert len(frames) == FRAMES
        turns = np.exp(-2j * np.pi * np.outer(np.arange(991), TONES) / RATE)
        activity = (np.abs(frames @ turns) / 991 > 0.05).astype(np.float32)
        return np.roll(activity, self.windows % SPEAKERS, axis=1)


def tone(person: int, start: float, end: float, seconds: float) -> np.ndarray:
    """A tone from start to end of so many seconds."""
    at = np.arange(round(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * TONES[person] * at) * ((at >= start) & (at < end))
    return sound.astype(np.float32)


def segment(audio: np.ndarray, block: int = 640, **options) -> list[Utterance]:
    segmenter = OverlapSegmenter(Tones(), **options)
    found = []
    for first in range(0, len(audio), block):
        found += segmenter.push(audio[first : first + block])
    return found + segmenter.flush()


def spans(found: list[Utterance]) -> list[tuple[float, float]]:
    return sorted((round(u.onset, 1), round(u.end, 1)) for u in found)


def test_two_people_who_talk_at_once_give_two_utterances() -> None:
    audio = tone(0, 1, 4, 8) + tone(1, 3, 6, 8)
    one, other = segment(audio)
    assert spans([one, other]) == [(1.0, 4.0), (3.0, 6.0)] and one.voice != other.voice
    assert one.alone is not None and other.alone is not None
    assert [[round(time + one.start, 1) for time in stretch] for stretch in one.alone] == [[1.0, 3.0]]
    assert [[round(time + other.start, 1) for time in stretch] for stretch in other.alone] == [[4.0, 6.0]]
    for utterance in (one, other):
        assert utterance.confirmed == pytest.approx(utterance.end + 0.5, abs=0.3)
        assert utterance.start == pytest.approx(utterance.onset - 0.1, abs=0.03)


def test_a_first_syllable_that_sounds_like_another_is_part_of_the_utterance() -> None:
    (whole,) = segment(tone(0, 1, 1.35, 6) + tone(1, 1.4, 4, 6))
    assert spans([whole]) == [(1.0, 4.0)]
    assert np.abs(whole.samples[: RATE // 5]).max() == pytest.approx(0.3, abs=0.01), "its sound is there"
    assert whole.alone is not None and sum(end - start for start, end in whole.alone) == pytest.approx(3.0, abs=0.2)
    answers = segment(tone(0, 1, 1.3, 6) + tone(1, 1.7, 4, 6))
    assert spans(answers) == [(1.0, 1.3), (1.7, 4.0)], "after a pause it is another"


def test_where_only_another_talks_an_utterance_is_silent() -> None:
    audio = tone(0, 1, 3, 8) + tone(1, 3.05, 3.25, 8) + tone(0, 3.3, 5, 8)
    whole = max(segment(audio), key=lambda utterance: utterance.end - utterance.start)
    assert spans([whole]) == [(1.0, 5.0)], "a short pause does not end it"
    first = round((3.1 - whole.start) * RATE)
    assert np.abs(whole.samples[first : first + RATE // 10]).max() < 0.01
    assert np.abs(whole.samples[: first - RATE // 4]).max() == pytest.approx(0.3, abs=0.01)


def test_the_length_of_the_blocks_does_not_matter() -> None:
    audio = tone(0, 0.5, 3, 7) + tone(2, 2.5, 6.8, 7)
    one, other, third = (segment(audio, block) for block in (160, 640, 7 * RATE))
    for found in (other, third):
        assert [(u.start, u.end, u.voice, u.alone) for u in found] == [(u.start, u.end, u.voice, u.alone) for u in one]
        assert all(np.array_equal(a.samples, b.samples) for a, b in zip(found, one, strict=True))


def test_the_future_changes_nothing() -> None:
    audio = tone(0, 0.5, 3, 9) + tone(1, 2.5, 5, 9)
    changed = audio.copy()
    changed[round(5.9 * RATE) :] = tone(2, 0, 9, 9)[round(5.9 * RATE) :]
    before = [segment(each)[:2] for each in (audio, changed)]
    for one, other in zip(*before, strict=True):
        assert (one.start, one.end, one.confirmed) == (other.start, other.end, other.confirmed)
        assert np.array_equal(one.samples, other.samples)


def test_one_who_will_have_ended_is_sample_by_sample_the_same() -> None:
    audio = tone(0, 0.5, 3, 6) + tone(1, 2.5, 4, 6)
    segmenter, likely, ended, ongoing = OverlapSegmenter(Tones(), step=15), [], [], []
    for first in range(0, len(audio), 640):
        ended += segmenter.push(audio[first : first + 640])
        likely += segmenter.likely_ended()
        ongoing += segmenter.ongoing()
    for utterance in ended:
        guesses = [each for each in likely if each.voice == utterance.voice]
        assert any(np.array_equal(each.samples, utterance.samples) for each in guesses)
        grown = [each for each in ongoing if each.voice == utterance.voice]
        assert {each.start for each in grown} == {utterance.start}
        assert [each.end for each in grown] == sorted(each.end for each in grown)


def test_the_end_of_the_source_ends_all() -> None:
    audio = tone(0, 1, 3, 3) + tone(1, 2, 3, 3)
    found = segment(audio)
    assert spans(found) == [(1.0, 3.0), (2.0, 3.0)] and all(u.confirmed == 3.0 for u in found)


def test_a_gap_ends_what_goes_on_and_numbers_are_not_used_twice() -> None:
    audio = tone(0, 1, 3, 3)
    segmenter = OverlapSegmenter(Tones())
    found = [*segmenter.push(audio), *segmenter.flush(10.0), *segmenter.push(audio), *segmenter.flush()]
    assert spans(found) == [(1.0, 3.0), (14.0, 16.0)] and found[0].voice != found[1].voice
    assert [len(u.samples) / RATE for u in found] == pytest.approx([2.1, 2.1], abs=0.05)


def test_a_long_one_is_split_and_a_short_one_dropped() -> None:
    segmenter = OverlapSegmenter(Tones())
    found = [*segmenter.push(tone(0, 1, 26, 28)), *segmenter.push(tone(1, 1, 1.15, 12)), *segmenter.flush()]
    assert len(found) == 3 and found[0].end == found[1].start and found[1].end == found[2].start
    assert segmenter.counts == {"split": 2, "dropped_short": 1}


def test_silence_costs_no_network_and_memory_is_bounded() -> None:
    network = Tones()
    segmenter = OverlapSegmenter(network)
    for _ in range(200):
        segmenter.push(np.zeros(RATE, np.float32))
    assert network.windows == 0
    quiet = len(segmenter._buffer.cut(0.0, 1e6))
    for n in itertools.chain(range(3), range(3)):
        segmenter.push(tone(n, 0.5, 2, 12))
    assert len(segmenter._buffer.cut(0.0, 1e6)) <= quiet + RATE and len(segmenter._speakers) <= SPEAKERS
    assert all(len(each.frames) < 100 for each in segmenter._speakers.values())
    windows = network.windows
    segmenter.push(np.zeros(60 * RATE, np.float32))
    assert network.windows < windows + 45
