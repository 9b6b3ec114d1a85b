from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stream.block import RATE, Samples
from stream.sources.channels import Channels, judge_channels
from tests.support.sounds import delayed, hiss


def pieces(samples: Samples) -> Iterator[Samples]:
    for first in range(0, samples.shape[1], 1000):
        yield samples[:, first : first + 1000]


def judged(*channels: Samples) -> Channels:
    return judge_channels(pieces(np.stack(channels)))


@pytest.fixture(scope="module")
def anna(demo_audio: Samples) -> Samples:
    return demo_audio[0, : 32 * RATE]


@pytest.fixture(scope="module")
def ben(demo_audio: Samples) -> Samples:
    return demo_audio[1, : 32 * RATE]


@pytest.fixture(scope="module")
def scene(anna: Samples, ben: Samples) -> Samples:
    return anna + ben


def test_two_speakers_are_apart(anna: Samples, ben: Samples) -> None:
    assert judged(anna, ben).apart
    assert judged(0.05 * anna + hiss(len(anna), -75, 1), ben + hiss(len(anna), -60, 2)).apart, "of different levels"


def test_a_speaker_who_is_silent_at_first_is_one(anna: Samples, ben: Samples) -> None:
    silence = np.zeros(len(ben), np.float32)
    assert judged(np.concatenate([anna, anna, anna]), np.concatenate([silence, silence, ben])).apart
    noise = hiss(3 * len(ben), -60, 1)
    assert judged(np.concatenate([anna, anna, anna]), noise + np.concatenate([silence, silence, ben])).apart


@pytest.mark.parametrize("decibels", [-12, -20, -30])
@pytest.mark.parametrize("delay", [0, 100, 640])
def test_two_speakers_who_bleed_are_apart(anna: Samples, ben: Samples, decibels: float, delay: int) -> None:
    assert judged(anna + delayed(ben, delay, decibels), ben + delayed(anna, delay, decibels)).apart


def test_hum_on_both_changes_nothing(anna: Samples, ben: Samples, scene: Samples) -> None:
    hum = np.float32(0.03) * np.sin(2 * np.pi * 50 * np.arange(len(anna)) / RATE).astype(np.float32)
    assert judged(anna + hum, ben + hum).apart
    assert judged(scene + hum, scene + hum) == Channels(False)


def test_a_stereo_scene_is_added_up(anna: Samples, ben: Samples, scene: Samples) -> None:
    assert judged(scene, 0.8 * scene) == Channels(False)
    assert judged(anna + 0.7 * ben, 0.7 * anna + ben) == Channels(False)


def test_opposite_phase_is_turned(scene: Samples) -> None:
    assert judged(scene, -scene) == Channels(False, (0.5, -0.5))


def test_of_two_microphones_at_a_distance_one_is_taken(scene: Samples) -> None:
    assert judged(scene, delayed(scene, 8, -2)).weights == (1.0, 0.0)
    assert judged(delayed(scene, 60, -2), scene).weights == (0.0, 1.0)


def test_a_channel_with_nothing_but_noise_is_left_out(scene: Samples) -> None:
    assert judged(scene, hiss(len(scene), -30, 1)) == Channels(False, (1.0, 0.0))
    assert judged(np.zeros_like(scene), scene) == Channels(False, (0.0, 1.0))


def test_silence_and_nothing_at_all_are_judged() -> None:
    assert judged(np.zeros(RATE, np.float32), np.zeros(RATE, np.float32)) == Channels(False)
    assert judge_channels(iter(())) == Channels(False)


def test_an_hour_is_not_read_to_its_end_once_it_is_clear(anna: Samples, ben: Samples) -> None:
    taken = 0

    def long() -> Iterator[Samples]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield np.stack([anna, ben])

    assert judge_channels(long()).apart and taken < 10
