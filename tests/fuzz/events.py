"""Events as JSON: `stream.events.parse`, and files of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st
from pydantic import ValidationError

from stream import events
from stream.errors import MediaError
from stream.events import parse
from stream.sources.recording import read_events
from tests.fuzz.mutations import WORDS, altered, mutated
from tests.fuzz.target import Target, Wrong
from tests.support.conversations import emotion, heard, started

SPOKEN = heard(0, "Ann", 0.0, 1.5, "Hello, who is it?")
SEEDS = [
    json.loads(event.wire())
    for event in (
        started(),
        SPOKEN,
        emotion(SPOKEN, 0.5, 0.3, 0.2),
        events.SpeakerMerged(id="s:1", session="s", speaker="a", into="b"),
        events.Lag(id="s:2", session="s", audio_time=1, seconds=2),
        events.Degraded(id="s:3", session="s", audio_time=1, reason="pictures"),
        events.UtteranceFailed(
            id="s:4", session="s", utterance=1, speaker=None, audio_start=1, audio_end=2, reason="words"
        ),
        events.SessionEnded(
            id="s:5", session="s", reason="end of source", duration=2, utterances=1, failed=1, counts={"split": 1}
        ),
    )
]
LINES = [json.dumps(seed).encode() for seed in SEEDS]
payloads = st.one_of(altered(SEEDS).map(lambda made: json.dumps(made).encode()), mutated(LINES, WORDS))


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    file = folder / "events.jsonl"

    def take(payload: bytes) -> None:
        file.write_bytes(payload)
        try:
            event = parse(payload)
        except ValidationError:
            read_events(file)  # the same from a file is for people: a line, or an event after all
            raise Wrong("a file of what is no event is read") from None
        if parse(event.wire()) != event and "NaN" not in event.wire():
            raise Wrong("an event does not come back the same")

    yield Target(payloads, take, refusals=(MediaError,))
