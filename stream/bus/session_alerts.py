"""Alerts of a session's own rules (`stream.bus.annotations`), each right behind the event that triggered it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from stream.bus.alert_rules import AlertMonitor, Rule
from stream.bus.annotations import rules
from stream.bus.connection import connect
from stream.bus.keys import PREFIX, Keys
from stream.bus.multiplexed import PAGE_EVENTS
from stream.bus.subscriber import subscribe
from stream.events import Event, parse_entry


async def subscribe_with_alerts(
    url: str, session: str, prefix: str = PREFIX, after: str | None = None
) -> AsyncGenerator[Event]:
    """The events of a session that there is, as `subscribe` yields them, with the alerts of the rules that it has now.

    after: id of an event or of an alert. Raises RedisError before there is anything to iterate over.
    """
    keys = Keys(session, prefix)
    own, newest = await rules(url, keys), await _newest(url, keys) if after else None
    return with_alerts(lambda: subscribe(url, session, prefix, wait=None), own, after, newest)


async def with_alerts(
    from_the_first: Callable[[], AsyncGenerator[Event]],
    rules: Sequence[Rule],
    after: str | None = None,
    newest: str | None = None,
) -> AsyncGenerator[Event]:
    """Yield events, and right behind each the alerts that it triggers, from the first or from the one after the id
    `after`, of an event or of an alert.

    What comes up to `after` is read all the same, for what the rules count. When the event with the id `newest` has
    passed, or the events have ended, without it, there is no such id (any more), and all is yielded from the first.
    """
    skipping = after is not None
    async with aclosing(_merged(from_the_first(), rules)) as steps:
        async for step in steps:
            for event in step:
                if not skipping:
                    yield event
                skipping = skipping and event.id != after
            if skipping and step[0].id == newest:
                break
    if skipping:
        async with aclosing(_merged(from_the_first(), rules)) as steps:
            async for step in steps:
                for event in step:
                    yield event


async def _merged(events: AsyncGenerator[Event], rules: Sequence[Rule]) -> AsyncGenerator[list[Event]]:
    """Each event, and behind it the alerts that it triggers."""
    monitor = AlertMonitor(rules)
    async with aclosing(events):
        async for event in events:
            yield [event, *monitor.alerts_for(event)]


async def _newest(url: str, keys: Keys) -> str | None:
    """Id of the last event that Redis has of a session. Raises RedisError."""
    client, upper = connect(url), "+"
    try:
        while True:
            page: Any = await client.xrevrange(keys.events, max=upper, count=PAGE_EVENTS)
            if not page:
                return None
            for _, fields in page:
                if (event := parse_entry(fields, keys.session)) is not None:  # else a reader skips it, too
                    return event.id
            upper = f"({page[-1][0]}"
    finally:
        await client.aclose()
