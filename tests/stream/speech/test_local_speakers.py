from __future__ import annotations

import numpy as np
import pytest

from stream.speech.local_speakers import FRAMES, SPEAKERS, LocalSpeakers

STEP, LATENCY = 15, 30


def decide(truth: np.ndarray, latency: int = LATENCY, seed: int = 0) -> dict[int, np.ndarray]:
    """Activity of all decided frames by local speaker. truth: [frames, people], heard in windows whose columns are in
    another order each time; at most three talk in any window."""
    chance = np.random.default_rng(seed)
    speakers = LocalSpeakers(STEP, latency)
    padded = np.concatenate([np.zeros((FRAMES, truth.shape[1]), np.float32), truth.astype(np.float32)])
    decided: dict[int, list[np.ndarray]] = {}
    for count, end in enumerate(range(FRAMES + STEP, len(padded) + 1, STEP)):
        window = padded[end - FRAMES : end]
        heard = [person for person in range(truth.shape[1]) if window[:, person].any()]
        activity = np.zeros((FRAMES, SPEAKERS), np.float32)
        for column, person in zip(chance.permutation(SPEAKERS), heard, strict=False):
            activity[:, column] = window[:, person]
        for number, known in speakers.push(activity).items():
            assert known.shape == (STEP + latency,) and known.dtype == np.float32
            decided.setdefault(number, [np.zeros(STEP)] * count).append(known[:STEP])
        for each in decided.values():
            each += [np.zeros(STEP)] * (count + 1 - len(each))
    return {number: np.concatenate(each) for number, each in decided.items()}


def test_speakers_keep_their_number_whatever_the_order_of_the_columns() -> None:
    truth = np.zeros((1200, 2))
    truth[100:400, 0] = truth[350:700, 1] = truth[650:1000, 0] = 1
    found = decide(truth)
    assert sorted(found) == [0, 1]
    for number in (0, 1):  # what is decided is `LATENCY` frames old
        assert np.array_equal(found[number][LATENCY:], truth[: len(found[number]) - LATENCY, number])


def test_who_comes_back_after_the_window_is_a_new_one() -> None:
    truth = np.zeros((3 * FRAMES, 1))
    truth[50:150] = truth[50 + 2 * FRAMES : 150 + 2 * FRAMES] = 1
    assert sorted(decide(truth)) == [0, 1]


def test_a_frame_is_the_mean_of_the_windows_that_heard_it() -> None:
    speakers = LocalSpeakers(STEP, latency=2 * STEP)
    activity = np.zeros((FRAMES, SPEAKERS), np.float32)
    activity[:, 1] = 1
    speakers.push(activity)
    activity = np.zeros((FRAMES, SPEAKERS), np.float32)
    activity[:, 2] = 0.6
    known = speakers.push(activity)[0]
    # Of three steps the first two were heard by both windows, the newest by the second alone.
    assert known == pytest.approx(np.repeat([0.8, 0.8, 0.6], STEP))


def test_silence_has_no_speakers() -> None:
    assert decide(np.zeros((900, 1))) == {}
    assert LocalSpeakers(STEP, LATENCY).push(LocalSpeakers.SILENCE) == {}
