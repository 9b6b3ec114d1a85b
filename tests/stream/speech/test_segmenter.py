from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.block import RATE
from stream.speech.endpointing import Endpointing
from stream.speech.segmenter import SampleBuffer, TurnSegmenter, VadSegmenter
from stream.speech.turns import Turn
from stream.speech.vad import WebRtcVad
from tests.support.recordings import voice


class Loudness:
    """A VAD that tests can reason about: speech is what is loud. The segmenter's state machine is what is tested."""

    size = RATE // 50

    def __call__(self, frame: np.ndarray) -> float:
        return float(np.abs(frame).max() > 0.05)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def segment(audio: np.ndarray, segmenter: VadSegmenter | TurnSegmenter | None = None, block: int = 3200):
    segmenter = segmenter or VadSegmenter(Loudness(), Endpointing())
    found = []
    for at in range(0, len(audio), block):
        found += segmenter.push(audio[at : at + block])
    return found + segmenter.flush(), segmenter


def test_speech_is_found_with_pre_roll_and_padding() -> None:
    (utterance,), _ = segment(np.concatenate([silence(1), voice(2), silence(1)]))
    assert utterance.start == pytest.approx(0.7, abs=0.03)  # 300 ms before the onset
    assert utterance.end == pytest.approx(3.0, abs=0.05)
    assert utterance.confirmed == pytest.approx(utterance.end + 0.5, abs=0.03)
    assert len(utterance.samples) / RATE == pytest.approx(utterance.end + 0.2 - utterance.start, abs=0.001)


def test_the_first_syllable_is_kept_at_the_very_beginning() -> None:
    audio = np.concatenate([voice(1), silence(1)])
    (utterance,), _ = segment(audio)
    assert utterance.start == 0
    assert np.array_equal(utterance.samples[:RATE], audio[:RATE])


def test_a_pause_shorter_than_the_end_silence_does_not_cut() -> None:
    audio = np.concatenate([voice(1), silence(0.4), voice(1), silence(0.6), voice(1), silence(1)])
    found, _ = segment(audio)
    assert [(round(u.start, 1), round(u.end, 1)) for u in found] == [(0.0, 2.4), (2.7, 4.0)]


@pytest.mark.parametrize("seconds", [1.0, 3.3, 49.8])
def test_speech_at_the_end_of_the_source_is_closed_by_flush(seconds: float) -> None:
    (utterance,), _ = segment(np.concatenate([silence(seconds), voice(1)]))
    assert utterance.end == pytest.approx(seconds + 1, abs=0.05)
    assert utterance.confirmed >= utterance.end


def test_a_click_opens_nothing() -> None:
    audio = silence(2)
    audio[RATE : RATE + 400] = 0.5
    found, segmenter = segment(audio)
    assert found == [] and not segmenter.counts


def test_too_short_speech_is_dropped_and_counted() -> None:
    found, segmenter = segment(np.concatenate([silence(1), voice(0.16), silence(3)]))
    assert found == [] and segmenter.counts == {"dropped_short": 1}


def test_too_short_speech_joins_what_follows_soon() -> None:
    audio = np.concatenate([silence(1), voice(0.16), silence(0.8), voice(1), silence(1)])
    (utterance,), segmenter = segment(audio)
    assert utterance.start == pytest.approx(0.7, abs=0.05)
    assert segmenter.counts == {"joined": 1}


def test_long_speech_is_split_at_its_quietest_point() -> None:
    audio = np.concatenate([voice(11), 0.12 * voice(0.2), voice(8), silence(1)])
    found, segmenter = segment(audio)
    assert len(found) == 2 and segmenter.counts == {"split": 1}
    assert found[0].end == found[1].start == pytest.approx(11.1, abs=0.15)


def test_steady_noise_is_not_an_utterance() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * RATE).astype(np.float32)
    found, segmenter = segment(np.concatenate([silence(1), noise, silence(1)]))
    assert found == [] and segmenter.counts["dropped_noise"] >= 1
    found, _ = segment(noise, VadSegmenter(WebRtcVad(), Endpointing()))
    assert found == []


def test_no_audio_is_used_twice() -> None:
    audio = np.concatenate([voice(1), silence(0.55), voice(1), silence(0.55), voice(1), silence(1)])
    found, _ = segment(audio)
    assert len(found) == 3
    assert all(earlier.end <= later.start for earlier, later in itertools.pairwise(found))


def test_lost_audio_closes_what_is_open_and_moves_the_clock() -> None:
    segmenter = VadSegmenter(Loudness(), Endpointing())
    found = segmenter.push(np.concatenate([silence(1), voice(1)])) + segmenter.flush(lost=5.0)
    found += segmenter.push(np.concatenate([silence(0.5), voice(1), silence(1)]))
    assert [(round(u.start, 1), round(u.end, 1)) for u in found] == [(0.7, 2.0), (7.2, 8.5)]


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.05, 3), st.floats(0.05, 1.5)), min_size=1, max_size=5),
    block=st.integers(37, 9000),
)
def test_the_size_of_blocks_does_not_matter(parts, block) -> None:
    audio = np.concatenate([piece for speech, pause in parts for piece in (voice(speech), silence(pause))])
    one, first = segment(audio)
    other, second = segment(audio, block=block)
    assert [(u.start, u.end) for u in one] == [(u.start, u.end) for u in other]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(one, other, strict=True))
    assert first.counts == second.counts
    assert all(u.start < u.end <= u.confirmed for u in one)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.floats(0.5, 5.5))
def test_no_future_in_segmentation(seed, cut) -> None:
    """What was said after `cut` moves no utterance that was confirmed before it."""
    rng = np.random.default_rng(seed)
    pieces = [piece for _ in range(4) for piece in (voice(rng.uniform(0.3, 1)), silence(rng.uniform(0.2, 0.9)))]
    audio = np.concatenate(pieces)
    changed = audio.copy()
    changed[round(cut * RATE) :] = 0.3
    one, other = (segment(a, VadSegmenter(Loudness(), Endpointing()))[0] for a in (audio, changed))
    early = [(u.start, u.end) for u in one if u.confirmed <= cut]
    assert early == [(u.start, u.end) for u in other][: len(early)]


def test_given_turns_are_cut_as_given_overlap_included() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 10 * RATE).astype(np.float32)
    turns = [Turn(1.0, 3.0, "Ann"), Turn(2.5, 4.0, "Bob"), Turn(8.0, 12.0, "Ann"), Turn(20.0, 21.0, "Bob")]
    found, segmenter = segment(audio, TurnSegmenter(turns, Endpointing()))
    assert segmenter.counts == {"turns_beyond_end": 1}
    assert [(u.speaker, u.start, u.end) for u in found] == [("Ann", 1.0, 3.0), ("Bob", 2.5, 4.0), ("Ann", 8.0, 10.0)]
    assert np.array_equal(found[1].samples, audio[round(2.5 * RATE) : 4 * RATE])


def test_long_turns_are_split() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 40 * RATE).astype(np.float32)
    audio[round(11.9 * RATE) : round(12.1 * RATE)] = 0
    found, segmenter = segment(audio, TurnSegmenter([Turn(1.0, 30.0, "Ann")], Endpointing()))
    assert found[0].end == pytest.approx(12.0, abs=0.1)
    assert [u.start for u in found[1:]] == [u.end for u in found[:-1]]
    assert all(u.end - u.start <= 15.01 for u in found) and segmenter.counts["split"] == len(found) - 1


def test_tape_forgets_and_skips() -> None:
    tape = SampleBuffer()
    tape.append(np.arange(RATE, dtype=np.float32))
    tape.forget(0.5)
    assert tape.cut(0.5, 0.5 + 2 / RATE).tolist() == [8000, 8001]
    tape.skip(1.0)
    assert tape.end == 2.0


@pytest.mark.parametrize("block", [1600, 3200])
def test_a_pause_shows_what_its_end_will_confirm(block: int) -> None:
    """Sample by sample; also where speech goes on after a pause, and where too little was said."""
    audio = np.concatenate(
        [voice(1), silence(0.4), voice(1), silence(0.8), voice(0.1), silence(0.8), voice(2), silence(1)]
    )
    segmenter = VadSegmenter(Loudness(), Endpointing())
    shown, found = [], []
    for at in range(0, len(audio), block):
        found += segmenter.push(audio[at : at + block])
        shown += segmenter.likely_ended()
    assert len(found) == 2
    for utterance in found:
        same = [each for each in shown if each.start == utterance.start and each.end == utterance.end]
        assert same and all(np.array_equal(each.samples, utterance.samples) for each in same)
        assert min(each.confirmed for each in same) <= utterance.confirmed - 0.1
    assert any(each.end < 1.5 for each in shown)  # the pause that was none


@pytest.mark.parametrize("offset", [0.05, -0.02])
@pytest.mark.parametrize("hum_hz", [0, 50, 60])
def test_an_offset_or_mains_hum_changes_no_utterance(demo_audio: np.ndarray, offset: float, hum_hz: int) -> None:
    clean = demo_audio[0, : 30 * RATE]
    hum = offset * np.cos(2 * np.pi * hum_hz * np.arange(len(clean)) / RATE).astype(np.float32)
    expected, _ = segment(clean, VadSegmenter(WebRtcVad(), Endpointing()), block=640)
    found, segmenter = segment(clean + hum, VadSegmenter(WebRtcVad(), Endpointing()), block=640)
    assert len(found) == len(expected) and not segmenter.counts
    for one, other in zip(found, expected, strict=True):
        assert one.start == pytest.approx(other.start, abs=0.15) and one.end == pytest.approx(other.end, abs=0.15)
        assert np.array_equal(one.samples, (clean + hum)[round(one.start * RATE) :][: len(one.samples)]), "as recorded"
