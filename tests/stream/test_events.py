from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from stream.events import parse
from tests.support.events import EMOTION


def test_events_survive_the_wire() -> None:
    assert parse(EMOTION.wire()) == EMOTION
    assert json.loads(EMOTION.wire())["schema"] == 1


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"type": "joke"}, {"probabilities": {"joy": 1.5}}, {"audio_start": -1}, {"extra": 1}]
)
def test_what_breaks_the_schema_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        parse(json.dumps(json.loads(EMOTION.wire()) | change))
