from __future__ import annotations

import numpy as np
import pytest

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples
from stream.speech.crosstalk import CrosstalkGate
from stream.speech.endpointing import Endpointing
from stream.speech.segmentation import Segmentation
from stream.speech.segmenter import VadSegmenter
from stream.speech.vad import WebRtcVad
from tests.support.sounds import delayed, hiss, in_a_room


def utterances(samples: Samples) -> list[tuple[int, float, float]]:
    """Channel, start and end of all utterances."""
    segmentation = Segmentation([VadSegmenter(WebRtcVad(), Endpointing(), c) for c in range(len(samples))])
    found = []
    for number, first in enumerate(range(0, samples.shape[1], BLOCK_SAMPLES)):
        found += segmentation.push(Block(number, first / RATE, samples[:, first : first + BLOCK_SAMPLES]))
    return sorted((u.channel, u.start, u.end) for u in found + segmentation.flush())


def muted_ms(samples: Samples) -> int:
    gate = CrosstalkGate(len(samples))
    for first in range(0, samples.shape[1], BLOCK_SAMPLES):
        gate.push(samples[:, first : first + BLOCK_SAMPLES], first / RATE)
    return gate.muted_ms


@pytest.mark.parametrize("decibels", [-10, -20, -30])
@pytest.mark.parametrize("delay", [0, 60, 640, 3200])
def test_speech_that_bleeds_into_the_other_channel_is_one_utterance(
    demo_audio: Samples, delay: int, decibels: float
) -> None:
    anna, ben = demo_audio[:, : 32 * RATE]
    background = np.stack([hiss(len(anna), -65, 1), hiss(len(anna), -65, 2)])
    bled = np.stack([anna + delayed(ben, delay, decibels), ben + delayed(anna, delay // 2, decibels)])
    expected, found = utterances(demo_audio[:, : 32 * RATE] + background), utterances(bled + background)
    assert [channel for channel, _, _ in found] == [channel for channel, _, _ in expected]
    for (_, start, end), (_, true_start, true_end) in zip(found, expected, strict=True):
        assert start == pytest.approx(true_start, abs=0.1)
        assert (
            true_end - 0.1 < end < true_end + 1.1
        )  # the other's first word may be heard before it is known whose it is


def test_speech_that_bleeds_through_a_room_is_one_utterance(demo_audio: Samples) -> None:
    anna, ben = demo_audio[:, : 32 * RATE]
    bled = np.stack([anna + delayed(in_a_room(ben, 0, 1), 80, -15), ben + delayed(in_a_room(anna, 0, 2), 80, -15)])
    bled += np.stack([hiss(len(anna), -65, 1), hiss(len(anna), -65, 2)])
    assert [channel for channel, _, _ in utterances(bled)] == [0] * 5 + [1] * 4


def test_two_who_speak_at_once_are_both_heard(demo_audio: Samples) -> None:
    anna, ben = demo_audio[:, : 32 * RATE]
    both = np.stack([anna, np.roll(ben, -4 * RATE)])
    assert muted_ms(both) == 0
    bled = np.stack([both[0] + delayed(both[1], 160, -20), both[1] + delayed(both[0], 160, -20)])
    expected, found = utterances(both), utterances(bled)
    for channel in (0, 1):
        seconds = [sum(end - start for c, start, end in of if c == channel) for of in (expected, found)]
        assert seconds[1] == pytest.approx(seconds[0], rel=0.1)


def test_mains_hum_on_all_channels_is_nobodys_speech(demo_audio: Samples) -> None:
    sound = demo_audio[:, : 32 * RATE]
    hum = np.float32(0.03) * np.sin(2 * np.pi * 50 * np.arange(sound.shape[1]) / RATE).astype(np.float32)
    assert muted_ms(sound + hum) == 0
    assert [c for c, _, _ in utterances(sound + hum)] == [c for c, _, _ in utterances(sound)]


def test_one_scene_on_two_channels_is_heard_once(demo_audio: Samples) -> None:
    scene = demo_audio[:, : 32 * RATE].sum(0)
    found = utterances(np.stack([scene, delayed(scene, 8, -1)]))
    heard = sum(end - start for _, start, end in utterances(scene[None]))
    assert sum(end - start for _, start, end in found) == pytest.approx(heard, rel=0.1)
