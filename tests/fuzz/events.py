"""Events as JSON: `stream.events.parse`, and files of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import ValidationError
from rich.console import Console

from stream import events
from stream.bus.alert_rules import AlertMonitor, Rule
from stream.errors import MediaError
from stream.events import Event, parse
from stream.exports import FORMATS, export
from stream.exports.labelled import ExportError
from stream.sources.recording import read_events
from tests.fuzz.mutations import NASTY, WORDS, altered, mutated
from tests.fuzz.target import Target, Wrong
from tests.support.conversations import EMOTIONS, conversation, emotion, heard, started
from workers.cli.top import SessionLoad
from workers.cli.watch import Conversation
from workers.console.display import TableDisplay, describe
from workers.gateway.metrics import Metrics

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
FIXED = ("schema", "type", "trigger")


def alike(value: Any) -> SearchStrategy[Any]:
    """Values of the same type, so that most of them are valid each by itself."""
    match value:
        case bool():
            return st.booleans()
        case int() | float():
            return st.sampled_from([value, 0, 1, 0.5, 2**31, 1e9, 1e12, 2**53, -1])
        case str():
            return st.sampled_from(
                [value, "", *NASTY, *EMOTIONS, "2", "9999-12-31T23:59:59", "0001-01-01T00:00:00+14:00"]
            )
        case [first, *_]:
            return st.lists(alike(first), max_size=3)
        case dict() if value:
            inside = alike(next(iter(value.values())))
            fixed: dict[Any, Any] = {name: st.just(each) | alike(each) for name, each in value.items()}
            return st.fixed_dictionaries(fixed) | st.dictionaries(alike(next(iter(value))), inside, max_size=3)
    return st.just(value)


def plausible(seed: dict[str, Any]) -> SearchStrategy[dict[str, Any]]:
    """Events like this one whose fields may contradict each other."""
    return st.fixed_dictionaries(
        {
            name: st.just(value) if name in FIXED else st.just(value) | st.just(value) | alike(value)
            for name, value in seed.items()
        }
    )


payloads = st.one_of(
    st.one_of(altered(SEEDS), *map(plausible, SEEDS)).map(lambda made: json.dumps(made).encode()),
    mutated(LINES, WORDS),
)


def everyone(event: Event) -> None:
    """Every consumer takes an event, in the middle of a conversation."""
    told = [made.model_copy(update={"session": event.session}) for made in conversation()]
    rules = [Rule(name=name, emotion=name) for name in EMOTIONS]
    screen = TableDisplay(Console(file=io.StringIO()))
    takers: list[Callable[[Event], object]] = [
        AlertMonitor(rules).alerts_for, Conversation().event, SessionLoad("s").event, Metrics().count, describe,
        screen.event,
    ]  # fmt: skip
    for taker in takers:
        for each in (*told[:-1], event, told[-1]):
            taker(each)
    for format in set(FORMATS) - {"html"}:  # which takes a second
        with suppress(ExportError):
            export([*told[:-1], event, told[-1]], format)


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
        if parse(event.wire()) != event:
            raise Wrong("an event does not come back the same")
        everyone(event)

    yield Target(payloads, take, refusals=(MediaError,))
