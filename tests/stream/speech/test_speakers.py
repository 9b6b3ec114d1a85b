from __future__ import annotations

import numpy as np
import pytest

from stream.speech.speakers import SpeakerClusters, likeness, reliability

RNG = np.random.default_rng(0)
CENTRES = np.linalg.qr(RNG.normal(size=(64, 12)))[0].T.astype(np.float32)  # twelve voices as different as can be


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def utterance(speaker: int, spread: float = 0.3) -> np.ndarray:
    return unit(CENTRES[speaker] + spread * unit(RNG.normal(size=64)))


def test_likeness_makes_up_for_short_speech() -> None:
    """A voice with noise of which less is left the longer it is heard, as `reliability` has it."""

    def heard(seconds: float) -> np.ndarray:
        noise = np.sqrt(1 / reliability(seconds) - 1)
        return unit(CENTRES[0] + noise * unit(RNG.normal(size=64)))

    for seconds in (0.5, 2.0, 10.0):
        found = [likeness(heard(seconds), seconds, heard(3.0), 3.0) for _ in range(200)]
        assert np.mean(found) == pytest.approx(1, abs=0.1)


def test_voices_are_told_apart_in_order_of_appearance() -> None:
    clusters = SpeakerClusters()
    spoken = [0, 1, 0, 2, 1, 1, 0, 2]
    assert [clusters.assign(utterance(n), 3.0)[0] for n in spoken] == [f"speaker {n + 1}" for n in spoken]


def test_speakers_stay_bounded() -> None:
    clusters = SpeakerClusters(people=(1, 5))
    names = {clusters.assign(utterance(n % 12), 3.0)[0] for n in range(40)}
    assert names == {f"speaker {n}" for n in range(1, 6)}


def test_a_short_stranger_makes_no_new_speaker() -> None:
    clusters = SpeakerClusters()
    clusters.assign(utterance(0), 3.0)
    assert clusters.assign(utterance(1), 0.5)[0] == "speaker 1"
    assert clusters.assign(utterance(1), 3.0)[0] == "speaker 2"


def test_a_first_utterance_that_says_nothing_of_its_voice_names_who_comes_next() -> None:
    clusters = SpeakerClusters()
    assert clusters.assign(utterance(3), 0.0)[0] == "speaker 1"
    assert clusters.assign(utterance(0), 3.0)[0] == "speaker 1"
    assert clusters.assign(utterance(1), 3.0)[0] == "speaker 2"
    assert clusters.assign(utterance(0), 3.0)[0] == "speaker 1"


def test_two_speakers_who_turn_out_to_be_one_are_merged() -> None:
    """A voice that starts out strange (a cold microphone) and comes round."""
    strange = unit(CENTRES[0] + 3 * CENTRES[1])

    def talk(**options) -> tuple[list[tuple[str, str]], SpeakerClusters]:
        clusters, merges = SpeakerClusters(**options), []
        clusters.assign(CENTRES[0], 5.0)
        assert clusters.assign(strange, 5.0)[0] == "speaker 2"
        for share in (1.0, 0.8, 0.6, 0.5, 0.5, 0.5, 0.5):
            merges += clusters.assign(unit(CENTRES[0] + share * CENTRES[1]), 8.0)[1]
            merges += clusters.assign(unit(CENTRES[1] + 0.7 * CENTRES[0]), 8.0)[1]
        return merges, clusters

    merges, clusters = talk()
    assert merges == [("speaker 2", "speaker 1")]
    assert clusters.assign(strange, 5.0)[0] == "speaker 1"
    assert talk(people=(2, 4))[0] == [], "there are two at least"


def test_who_talks_at_the_same_time_is_another_and_never_merged() -> None:
    clusters = SpeakerClusters()
    clusters.assign(CENTRES[0], 5.0)
    alike = unit(CENTRES[0] + 1.8 * CENTRES[1])
    assert clusters.assign(alike, 5.0)[0] == "speaker 1"
    apart = SpeakerClusters()
    apart.assign(CENTRES[0], 5.0)
    assert apart.assign(alike, 5.0, apart={"speaker 1"})[0] == "speaker 2"
    for _ in range(5):
        assert apart.assign(CENTRES[0], 9.0)[1] == [] and apart.assign(unit(alike + CENTRES[0]), 9.0)[1] == []


def test_an_enrolled_voice_is_called_by_name_and_never_merged_with_another() -> None:
    clusters = SpeakerClusters({"Anna": CENTRES[0], "Twin": unit(CENTRES[0] + 0.3 * CENTRES[1])})
    assert clusters.assign(CENTRES[0], 3.0)[0] == "Anna"
    for _ in range(5):
        assert clusters.assign(unit(CENTRES[0] + 0.3 * CENTRES[1]), 5.0) == ("Twin", [])
    assert clusters.assign(utterance(5), 3.0)[0] == "speaker 1"


def test_guessing_learns_nothing() -> None:
    clusters = SpeakerClusters()
    assert clusters.nearest(CENTRES[0]) is None
    clusters.assign(CENTRES[0], 3.0)
    assert clusters.nearest(CENTRES[1]) == "speaker 1"
    assert clusters.assign(CENTRES[1], 3.0)[0] == "speaker 2"
    assert clusters.nearest(utterance(1)) == "speaker 2" and clusters.nearest(utterance(0)) == "speaker 1"
    assert clusters.nearest(utterance(0), apart={"speaker 1"}) == "speaker 2"
