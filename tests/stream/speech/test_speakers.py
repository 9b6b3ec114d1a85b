from __future__ import annotations

import numpy as np

from stream.speech.speakers import SpeakerClusters

RNG = np.random.default_rng(0)
CENTRES = np.linalg.qr(RNG.normal(size=(64, 12)))[0].T.astype(np.float32)  # twelve voices as different as can be


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def utterance(speaker: int, spread: float = 0.3) -> np.ndarray:
    return unit(CENTRES[speaker] + spread * unit(RNG.normal(size=64)))


def test_voices_are_told_apart_in_order_of_appearance() -> None:
    clusters = SpeakerClusters()
    spoken = [0, 1, 0, 2, 1, 1, 0, 2]
    assert [clusters.assign(utterance(n), 3.0)[0] for n in spoken] == [f"speaker {n + 1}" for n in spoken]


def test_speakers_stay_bounded() -> None:
    clusters = SpeakerClusters(max_speakers=5)
    names = {clusters.assign(utterance(n % 12), 3.0)[0] for n in range(40)}
    assert names == {f"speaker {n}" for n in range(1, 6)}


def test_a_short_stranger_makes_no_new_speaker() -> None:
    clusters = SpeakerClusters()
    clusters.assign(utterance(0), 3.0)
    assert clusters.assign(utterance(1), 0.5)[0] == "speaker 1"
    assert clusters.assign(utterance(1), 3.0)[0] == "speaker 2"


def test_two_speakers_who_turn_out_to_be_one_are_merged() -> None:
    """A voice that starts out strange (a cold microphone) and comes round."""
    clusters = SpeakerClusters()
    strange = unit(CENTRES[0] + 1.2 * CENTRES[1])
    clusters.assign(CENTRES[0], 5.0)
    assert clusters.assign(strange, 5.0)[0] == "speaker 2"
    merges = []
    for share in (1.0, 0.8, 0.6, 0.5, 0.4, 0.4, 0.4, 0.4):
        speaker, merged = clusters.assign(unit(CENTRES[0] + share * CENTRES[1]), 8.0)
        merges += merged
    assert merges == [("speaker 2", "speaker 1")] and speaker == "speaker 1"
    assert clusters.assign(strange, 5.0)[0] == "speaker 1"


def test_two_voices_at_once_teach_nothing() -> None:
    clusters = SpeakerClusters()
    for n in (0, 1):
        clusters.assign(CENTRES[n], 10.0)
    for _ in range(20):
        speaker, merged = clusters.assign(unit(CENTRES[0] + 0.99 * CENTRES[1]), 3.0)
        assert speaker == "speaker 1" and not merged
    assert clusters.assign(CENTRES[1], 3.0)[0] == "speaker 2"


def test_an_enrolled_voice_is_called_by_name_and_never_merged_with_another() -> None:
    clusters = SpeakerClusters({"Anna": CENTRES[0], "Twin": unit(CENTRES[0] + 0.3 * CENTRES[1])})
    assert clusters.assign(CENTRES[0], 3.0)[0] == "Anna"
    for _ in range(5):
        assert clusters.assign(unit(CENTRES[0] + 0.3 * CENTRES[1]), 5.0) == ("Twin", [])
    assert clusters.assign(utterance(5), 3.0)[0] == "speaker 1"


def test_the_telephone_makes_voices_more_alike() -> None:
    alike = unit(CENTRES[0] + 0.9 * CENTRES[1])  # 0.74 like the first
    wide, narrow = SpeakerClusters(), SpeakerClusters()
    for clusters in (wide, narrow):
        clusters.assign(CENTRES[0], 3.0)
    assert wide.assign(alike, 3.0)[0] == "speaker 1"
    assert narrow.assign(alike, 3.0, narrowband=True)[0] == "speaker 2"


def test_guessing_learns_nothing() -> None:
    clusters = SpeakerClusters()
    assert clusters.nearest(CENTRES[0]) is None
    clusters.assign(CENTRES[0], 3.0)
    assert clusters.nearest(CENTRES[1]) == "speaker 1"
    assert clusters.assign(CENTRES[1], 3.0)[0] == "speaker 2"
    assert clusters.nearest(utterance(1)) == "speaker 2" and clusters.nearest(utterance(0)) == "speaker 1"
