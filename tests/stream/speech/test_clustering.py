from __future__ import annotations

import numpy as np
import pytest

from stream.speech.clustering import MOST_VOICES, VoicedTurn, name_speakers

RNG = np.random.default_rng(0)
CENTRES = np.linalg.qr(RNG.normal(size=(64, 12)))[0].T.astype(np.float32)


def turn(person: int, start: float, seconds: float = 3.0, local: int = 0, spread: float = 0.5) -> VoicedTurn:
    noise = RNG.normal(size=64)
    voice = CENTRES[person] + spread * noise / np.linalg.norm(noise)
    return VoicedTurn(start, start + seconds, local, (voice / np.linalg.norm(voice)).astype(np.float32), seconds)


def test_speakers_are_named_in_order_of_appearance_whatever_the_order_of_the_turns() -> None:
    spoken = [4, 1, 4, 7, 1, 1, 4, 7]
    turns = [turn(person, 4.0 * n) for n, person in enumerate(spoken)]
    expected = {4: "speaker 1", 1: "speaker 2", 7: "speaker 3"}
    assert name_speakers(turns) == [expected[person] for person in spoken]
    shuffled = RNG.permutation(len(turns))
    assert name_speakers([turns[n] for n in shuffled]) == [expected[spoken[n]] for n in shuffled]


def test_little_speech_goes_to_the_nearest() -> None:
    turns = [turn(0, 0), turn(1, 4), turn(1, 8, seconds=0.3), turn(5, 9, seconds=0.3)]
    names = name_speakers(turns)
    assert names[:3] == ["speaker 1", "speaker 2", "speaker 2"] and names[3] in names[:2]
    assert name_speakers([turn(0, 0, seconds=0.1)]) == ["speaker 1"] and name_speakers([]) == []


def test_the_number_of_people_bounds_the_clusters() -> None:
    turns = [turn(person, 4.0 * n) for n, person in enumerate([0, 1, 2, 0, 1, 2])]
    assert len(set(name_speakers(turns, people=(2, 2)))) == 2
    one = [turn(0, 4.0 * n, spread=0.2) for n in range(6)]
    assert len(set(name_speakers(one))) == 1 and len(set(name_speakers(one, people=(3, 4)))) == 3


def test_who_talks_at_the_same_time_is_hardly_the_same() -> None:
    def pair(start: float) -> list[VoicedTurn]:
        alike = CENTRES[0] + 1.5 * CENTRES[1]
        voice = (alike / np.linalg.norm(alike)).astype(np.float32)
        return [VoicedTurn(0, 3, 0, CENTRES[0], 3.0), VoicedTurn(start, start + 3, 1, voice, 3.0)]

    assert len(set(name_speakers(pair(3.0)))) == 1
    assert len(set(name_speakers(pair(1.0)))) == 2


def test_enrolled_voices_are_called_by_name_and_stay_apart() -> None:
    turns = [turn(3, 0), turn(0, 4), turn(3, 8)]
    twin = ((CENTRES[3] + 0.5 * CENTRES[5]) / np.sqrt(1.25)).astype(np.float32)
    enrolled = {"Twin": twin, "Anna": CENTRES[3], "Absent": CENTRES[9]}
    assert name_speakers(turns, enrolled) == ["Anna", "speaker 1", "Anna"]


def test_many_turns_are_joined_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_VOICES <= 5_000
    monkeypatch.setattr("stream.speech.clustering.MOST_VOICES", 40)
    people = [n % 3 for n in range(300)]
    names = name_speakers([turn(person, 4.0 * n, seconds=1 + n % 5) for n, person in enumerate(people)])
    assert names == [f"speaker {person + 1}" for person in people]
