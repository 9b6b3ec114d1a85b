"""deploy/openapi.json and deploy/asyncapi.yaml say what the code does."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml
from openapi_spec_validator import validate

from stream import events
from tests.support.commands import here
from tests.support.paths import DEPLOY


@pytest.mark.parametrize(("which", "file"), [("openapi", "openapi.json"), ("asyncapi", "asyncapi.yaml")])
def test_the_files_are_what_the_code_generates(which: str, file: str) -> None:
    generated = here("schema", which).stdout
    assert generated == (DEPLOY / file).read_text(), f"undertone schema {which} > deploy/{file}"


def test_openapi_is_valid() -> None:
    document = json.loads((DEPLOY / "openapi.json").read_text())
    validate(document)
    assert {"/sessions", "/recordings", "/sessions/{session}/events", "/metrics"} <= document["paths"].keys()


def test_asyncapi_describes_every_event() -> None:
    """Each event as it goes over the wire fits the schema of its message, and one with a wrong field does not."""
    document = yaml.safe_load((DEPLOY / "asyncapi.yaml").read_text())
    messages = document["components"]["messages"]
    for channel in document["channels"].values():
        for reference in channel["messages"].values():
            assert reference["$ref"].removeprefix("#/components/messages/") in messages
    assert len(document["channels"]["log"]["messages"]) == len(messages) - 2  # alerts and what readers make themselves
    span = {"audio_start": 0, "audio_end": 1}
    label = {
        "utterance": 3, "revision": 0, "final": False, "trigger": "speech_ended", "speaker": "Anna", "text": None,
        "emotion": "joy", "probabilities": {"joy": 1.0}, "sentiment": "positive", "uncertain": False,
        "modalities": {"used": ["text"], "missing": ["audio"]}, "contribution": {"text": 1.0}, "influences": {1: 0.5},
        "latency": {"vad": 0.5, "queue": 0, "asr": 0, "encode": 0.1, "graph": 0.01, "publish": 0.002}, **span,
    }  # fmt: skip
    examples = [
        events.Emotion(id="s:3:0", session="s", **label),
        events.UtteranceFailed(id="s:4:failed", session="s", utterance=4, speaker=None, reason="no words", **span),
        events.Lag(id="s:notice:1", session="s", audio_time=3, seconds=2),
        events.SessionEnded(
            id="s:ended", session="s", reason="end of source", duration=9, utterances=5, failed=1, counts={"split": 1}
        ),
    ]
    for event in examples:
        payload = json.loads(event.wire())
        schema = messages[payload["type"]]["payload"] | {"components": document["components"]}
        jsonschema.validate(payload, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(payload | {"surprise": 1}, schema)
