"""Alerts of a session's own rules among its events: a pure function of the events, without Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from stream.bus.alert_rules import Rule
from stream.bus.session_alerts import with_alerts
from stream.events import Event
from tests.support.events import ended, label, notice

RULES = [Rule(name="glad", emotion="joy", cooldown=0), Rule(name="glad twice", emotion="joy", utterances=2, cooldown=0)]
SAID: list[Event] = [
    notice("s", 0),
    label("s", 0),
    label("s", 0, revision=1, final=True, trigger="context"),
    label("s", 1, audio_start=3.0, audio_end=4.0),
    ended("s"),
]
WHOLE = ["s:notice:0", "s:0:0", "s:0:alert:glad", "s:0:1", "s:1:0", "s:1:alert:glad", "s:1:alert:glad-twice", "s:ended"]


class Reading:
    """Counts how often the events are read from the first."""

    def __init__(self, said: Sequence[Event]) -> None:
        self.said, self.times, self.closed = said, 0, 0

    async def __call__(self) -> AsyncGenerator[Event]:
        self.times += 1
        try:
            for event in self.said:
                yield event
        finally:
            self.closed += 1


async def ids(reading: Reading, after: str | None = None, newest: str | None = None) -> list[str]:
    found = [event.id async for event in with_alerts(reading, RULES, after, newest)]
    assert reading.closed == reading.times
    return found


async def test_an_alert_stands_right_behind_the_event_that_triggered_it() -> None:
    assert await ids(Reading(SAID)) == WHOLE
    plain = [event.id async for event in with_alerts(Reading(SAID), [])]
    assert plain == [event.id for event in SAID]


@pytest.mark.parametrize("place", range(len(WHOLE)))
async def test_it_goes_on_behind_any_event_or_alert(place: int) -> None:
    """What came before counts all the same: the rule that needs two in a row has heard the first."""
    reading = Reading(SAID)
    assert await ids(reading, WHOLE[place], "s:ended") == WHOLE[place + 1 :]
    assert reading.times == 1


@pytest.mark.parametrize("newest", ["s:1:0", "s:ended", None])
async def test_an_id_that_is_not_there_any_more_means_from_the_first(newest: str | None) -> None:
    reading = Reading(SAID)
    assert await ids(reading, "s:0:alert:a-rule-of-before", newest) == WHOLE
    assert reading.times == 2


async def test_the_alerts_of_the_newest_event_are_known_places(place: str = "s:1:alert:glad") -> None:
    reading = Reading(SAID)
    assert await ids(reading, place, "s:1:0") == ["s:1:alert:glad-twice", "s:ended"]
    assert reading.times == 1
