from __future__ import annotations

import pytest

from stream.events import Degraded, Emotion, Event, Lag, SessionEnded
from stream.exports import ExportError
from stream.exports.summary import MAX_NOTICES, summary
from tests.support.conversations import conversation, emotion, failed, heard, started


def said(number: int, speaker: str, start: float, *shares: float, seconds: float = 2, **change) -> list[Event]:
    """An utterance and its label; shares: of neutral, joy, anger."""
    words = heard(number, speaker, start, start + seconds, f"words {number}")
    return [words, emotion(words, *shares, **change)]


NEUTRAL, JOY, ANGER, UNSURE = (0.9, 0.1, 0.0), (0.1, 0.9, 0.0), (0.2, 0.0, 0.8), (0.35, 0.25, 0.4)


def test_a_conversation_in_numbers() -> None:
    found = summary(conversation())
    assert (found.session, found.start, found.end) == ("s", 0, 20)
    assert (found.utterances, found.unlabelled, found.uncertain) == (7, 2, 1)
    assert found.emotions == {"neutral": 1, "joy": 2, "anger": 2}
    anna, ben, unknown = found.speakers
    assert [anna.name, ben.name, unknown.name] == ["Anna", "Ben", "unknown"], "merged, and in order of appearance"
    assert anna.seconds == pytest.approx(1.5 + 1 + 0.4) and ben.seconds == pytest.approx(2.75 + 2 + 2)
    assert sum(each.share for each in found.speakers) == pytest.approx(1, abs=1e-3)
    assert anna.emotions == {"neutral": 1, "joy": 1} and anna.utterances == 3
    assert anna.valence == pytest.approx((0.6 + 0) / 2) and unknown.valence is None
    assert anna.present is not None and unknown.present is None
    assert (anna.present.emotion, anna.present.probability, anna.present.alternative) == ("neutral", 0.9, "joy")
    assert anna.previous == ["joy"] and ben.previous == ["anger", "joy"]
    assert found.last is not None and (found.last.utterance, found.last.emotion) == (6, None)
    assert found.hearing.asr == "faster-whisper base" and found.hearing.failed == 2
    assert found.hearing.missing["visual"].share == 1 and found.hearing.missing["visual"].reasons == []
    assert [(each.time, each.text) for each in found.hearing.notices] == [(8, "source lost <again>")]


def test_a_session_without_utterances_has_zeros_and_nulls() -> None:
    found = summary([started()])
    assert (found.utterances, found.unlabelled, found.start, found.end) == (0, 0, 0, 0)
    assert found.last is None and not (found.speakers or found.mood or found.moments or found.turns or found.emotions)
    assert summary([started()], last=60, end=600).mood[0].valence is None, "it is silent"
    with pytest.raises(ExportError, match="no events"):
        summary([])


def test_an_utterance_without_a_label_is_the_last_all_the_same() -> None:
    found = summary([started(), *said(0, "Anna", 0, *JOY), heard(1, "Ben", 3, 4, "well")])
    assert found.last is not None and found.last.model_dump() == {
        "utterance": 1, "time": 3, "speaker": "Ben", "text": "well", "emotion": None,
    }  # fmt: skip
    assert found.speakers[1].present is None and found.speakers[1].seconds == 1


def test_the_mood_is_weighted_by_seconds_in_sixty_stretches() -> None:
    events = [*said(0, "Anna", 0, *JOY, seconds=1.5), *said(1, "Ben", 1, *ANGER, seconds=1), *said(2, "Ben", 59, *JOY)]
    assert len(mood := summary([started(), *events]).mood) == 60 and (mood[0].start, mood[-1].end) == (0, 61)
    assert mood[-1].valence == pytest.approx(0.9) and mood[30].valence is None
    mood = summary([started(), *events[:-2]], end=60).mood
    assert [(each.start, each.end) for each in mood[:2]] == [(0, 1), (1, 2)]
    assert mood[0].valence == pytest.approx(0.9) and mood[0].utterances == 1
    assert mood[1].valence == pytest.approx((0.5 * 0.9 - 0.8) / 1.5, abs=1e-3) and mood[1].utterances == 2
    assert mood[2].valence is None and mood[2].utterances == 0


def test_the_last_seconds_alone() -> None:
    events = [started(), *said(0, "Anna", 0, *ANGER), *said(1, "Anna", 99, *JOY), *said(2, "Ben", 110, *NEUTRAL)]
    events += [Lag(id="s:lag:1", session="s", audio_time=50, seconds=3.25), SessionEnded(
        id="s:ended", session="s", reason="end of source", duration=200, utterances=3, failed=0, counts={}
    )]  # fmt: skip
    found = summary(events, last=100)
    assert (found.start, found.end, found.utterances) == (100, 200, 2)
    assert found.speakers[0].seconds == 1, "the half that lies within"
    assert not found.turns and not found.hearing.notices and found.hearing.asr == "faster-whisper base"
    assert summary(events, last=1000).start == 0
    assert [each.text for each in summary(events).hearing.notices] == ["3.2 s behind the source"]


def test_moments_are_strong_certain_and_apart() -> None:
    events = [started(), *said(0, "Anna", 0, *NEUTRAL), *said(1, "Ben", 20, *ANGER), *said(2, "Anna", 25, *JOY)]
    events += [*said(3, "Anna", 40, *UNSURE), *said(4, "Ben", 60, *JOY, trigger="interval")]
    events += said(5, "Ben", 100, 0.4, 0.6, 0.0)
    found = summary(events)
    assert [moment.utterance for moment in found.moments] == [2, 5], "1 is within 10 s of a stronger one"
    assert found.moments[0].text == "words 2" and found.moments[0].probability == 0.9
    many = [event for number in range(9) for event in said(number, "Anna", 20 * number, *JOY)]
    assert len(summary([started(), *many]).moments) == 5


def test_a_surprise_is_a_moment_though_it_has_no_valence() -> None:
    labels = {"emotion": "surprise", "probabilities": {"neutral": 0.1, "joy": 0.0, "surprise": 0.9}, "uncertain": False}
    assert [m.emotion for m in summary([started(), *said(0, "Anna", 0, *JOY, **labels)]).moments] == ["surprise"]


def test_turns_are_changes_of_one_speaker() -> None:
    events = [started(), *said(0, "Anna", 0, *JOY), *said(1, "Ben", 3, *NEUTRAL), *said(2, "Anna", 6, *UNSURE)]
    events += [*said(3, "Anna", 9, *ANGER), *said(4, "Ben", 12, *JOY), *said(5, "Ben", 15, 0.3, 0.7, 0.0)]
    turns = summary(events).turns
    assert [(each.utterance, each.speaker, each.before, each.emotion) for each in turns] == [
        (3, "Anna", "joy", "anger"), (4, "Ben", "neutral", "joy"),
    ]  # fmt: skip
    assert [each.change for each in turns] == pytest.approx([-1.7, 0.8])


def test_what_was_missing_and_why() -> None:
    def without(*names: str, **reasons: str) -> dict[str, object]:
        return {"used": ["text"], "missing": list(names), "reasons": reasons}

    dark, away = {"visual": "too dark"}, {"visual": "nobody is there"}
    given = [without("visual", **dark), without("visual", **away), without("visual", **dark), without()]
    events = [event for n, m in enumerate(given) for event in said(n, "Anna", 3 * n, *JOY, modalities=m)]
    found = summary([started(encoders={}), *events, failed(9, None, 20, 21, "no words")]).hearing
    assert found.asr is None and found.failed == 1
    assert found.missing["visual"].model_dump() == {"share": 0.75, "reasons": ["too dark", "nobody is there"]}


def test_notices_are_bounded_and_the_latest() -> None:
    told = [Degraded(id=f"s:notice:{n}", session="s", audio_time=n, reason=f"no {n}") for n in range(MAX_NOTICES + 5)]
    found = summary([started(), *told]).hearing.notices
    assert len(found) == MAX_NOTICES and found[-1].text == f"no {MAX_NOTICES + 4}"


def test_previous_emotions_are_five_and_without_the_present_one() -> None:
    shares = [JOY, NEUTRAL, JOY, ANGER, NEUTRAL, JOY, ANGER]
    events = [event for number, each in enumerate(shares) for event in said(number, "Anna", 3 * number, *each)]
    (anna,) = summary([started(), *events]).speakers
    assert anna.previous == ["neutral", "joy", "anger", "neutral", "joy"]
    assert anna.present is not None and anna.present.emotion == "anger"


def test_a_label_with_one_emotion_has_no_alternative() -> None:
    (words, label) = said(0, "Anna", 0, *JOY)
    assert isinstance(label, Emotion)
    only = label.model_copy(update={"probabilities": {"joy": 1.0}})
    (anna,) = summary([started(), words, only]).speakers
    assert anna.present is not None and anna.present.alternative is None
