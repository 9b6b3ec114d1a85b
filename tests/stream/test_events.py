from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from stream.events import Emotion, Latency, Modalities, parse

EMOTION = Emotion(
    id="s:3:0",
    session="s",
    utterance=3,
    revision=0,
    final=False,
    trigger="speech_ended",
    speaker="Ann",
    audio_start=1.0,
    audio_end=2.0,
    text="Hi",
    emotion="joy",
    probabilities={"joy": 0.75, "neutral": 0.25},
    sentiment="positive",
    uncertain=False,
    modalities=Modalities(used=["text"], missing=["audio"]),
    contribution={"text": 1.0},
    influences={1: 0.2},
    latency=Latency(vad=0.5, queue=0, asr=0.1, encode=0.01, graph=0.002, publish=0.001),
)


def test_events_survive_the_wire() -> None:
    assert parse(EMOTION.wire()) == EMOTION
    assert json.loads(EMOTION.wire())["schema"] == 1


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"type": "joke"}, {"probabilities": {"joy": 1.5}}, {"audio_start": -1}, {"extra": 1}]
)
def test_what_breaks_the_schema_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        parse(json.dumps(json.loads(EMOTION.wire()) | change))
