from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from stream.events import Emotion, parse, parse_entry
from tests.support.events import EMOTION, ended


def test_events_survive_the_wire() -> None:
    assert parse(EMOTION.wire()) == EMOTION
    assert json.loads(EMOTION.wire())["schema"] == 1


def test_a_voice_survives_the_wire_and_earlier_events_have_none() -> None:
    sound = {"sound": "sigh", "start": 1.25, "end": 2.0, "probability": 0.5}
    voice = {"arousal": -0.1234, "expression": {"calm": 1.0}, "sounds": [sound]}
    event = parse(json.dumps(json.loads(EMOTION.wire()) | {"voice": voice}))
    assert isinstance(event, Emotion) and event.voice is not None
    assert event.voice.arousal == -0.123 and event.voice.sounds[0].sound == "sigh"
    assert parse(event.wire()) == event
    earlier = {name: value for name, value in json.loads(EMOTION.wire()).items() if name != "voice"}
    assert EMOTION.voice is None and parse(json.dumps(earlier)) == EMOTION
    for wrong in ({"arousal": 1.5}, {"sounds": [sound | {"sound": "cough"}]}, {"sounds": [sound | {"start": -1}]}):
        with pytest.raises(ValidationError):
            parse(json.dumps(json.loads(EMOTION.wire()) | {"voice": voice | wrong}))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"type": "joke"}, {"probabilities": {"joy": 1.5}}, {"audio_start": -1}, {"extra": 1},
        {"emotion": "anger"}, {"probabilities": {}}, {"utterance": -1}, {"influences": {"-1": 0.5}},
        {"audio_end": float("inf")}, {"audio_end": float("nan")}, {"audio_end": 1e300}, {"utterance": 10**30},
    ],
)  # fmt: skip
def test_what_breaks_the_schema_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        parse(json.dumps(json.loads(EMOTION.wire()) | change))


def test_numbers_that_no_counter_takes_are_refused() -> None:
    for count in (-1, 10**30):
        with pytest.raises(ValidationError):
            parse(json.dumps(json.loads(ended("s").wire()) | {"counts": {"lost_audio_ms": count}}))


def test_an_entry_holds_an_event_of_its_session_under_its_own_id() -> None:
    entry = {"id": EMOTION.id, "type": EMOTION.type, "event": EMOTION.wire()}
    assert parse_entry(entry, "s") == EMOTION
    assert parse_entry({"event": EMOTION.wire()}, "s") == EMOTION
    for fields, session in ((entry, "t"), (entry | {"id": "x"}, "s"), (entry | {"type": "session.ended"}, "s")):
        assert parse_entry(fields, session) is None
