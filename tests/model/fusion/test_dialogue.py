from __future__ import annotations

import numpy as np

from model.encoders.prosody import ProsodyPrior, VoiceStatistics
from model.fusion.dialogue import SpeakerMemory

PRIOR = ProsodyPrior((60.0,) * 7, (5.0,) * 7, (1.0,) * 7)


def test_slots_follow_first_appearance_and_stay() -> None:
    memory = SpeakerMemory(None, window=4)
    assert [memory.add(name, {}, None).slot for name in "abacab"] == [0, 1, 0, 2, 0, 1]


def test_speakers_beyond_the_window_take_over_the_longest_silent_slot() -> None:
    memory = SpeakerMemory(None, window=2)  # four slots
    for name in "abcd":
        memory.add(name, {}, None)
    memory.add("a", {}, None)
    assert memory.add("e", {}, None).slot == 1  # b's
    assert memory.add("a", {}, None).slot == 0


def test_normalisation_uses_only_what_was_heard_before() -> None:
    voice = VoiceStatistics.empty()
    first = voice.describe(np.full(7, 70.0, np.float32), PRIOR)
    second = voice.describe(np.full(7, 70.0, np.float32), PRIOR)
    assert np.allclose(first[:7], 2.0)
    assert np.all(first[7:14] > second[7:14])  # the speaker is known to be loud by now
    assert np.all(first[14:] == 1)


def test_unknown_columns_are_flagged_and_leave_no_trace() -> None:
    voice, values = VoiceStatistics.empty(), np.full(7, 60.0, np.float32)
    values[2] = np.nan
    features = voice.describe(values, PRIOR)
    assert features[14 + 2] == 0 and features[2] == 0
    assert voice.count[2] == 0 and voice.count[0] == 1
