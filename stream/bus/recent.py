"""The latest events of a session, read backwards from its end, however long it is."""

from __future__ import annotations

from math import inf
from typing import Any

from stream.bus.connection import connect
from stream.bus.keys import Keys
from stream.events import Event, UtteranceFailed, UtteranceHeard, UtterancePartial, parse_entry

PAGE_EVENTS = 250  # events per read
MAX_RECENT_EVENTS = 2_000
SLACK_S = 60.0  # seconds by which an utterance may be published after a later one


async def recent(url: str, keys: Keys, seconds: float, end: float | None = None) -> tuple[list[Event], float]:
    """The first event of a session, and those of its last seconds of media; and the number of seconds that they cover.

    end: seconds of media that were processed, if known; else the latest end of an utterance counts. At most
    `MAX_RECENT_EVENTS` are read: where that is too few, they cover less than was asked for. Speakers that were merged
    before the utterances of the window were published are not known to be one: an utterance that was being understood
    meanwhile, and is published later, may bear its old name.

    Raises RedisError.
    """
    client = connect(url)
    found: dict[str, Event] = {}
    latest, earliest, upper, number, is_all = end or 0.0, inf, "+", 0, False
    try:
        opening: Any = await client.xrange(keys.events, count=1)
        while number < MAX_RECENT_EVENTS and not is_all:
            page: Any = await client.xrevrange(keys.events, max=upper, count=PAGE_EVENTS)
            for position, fields in page:
                upper = f"({position}"
                event = parse_entry(fields, keys.session)
                if event is None or isinstance(event, UtterancePartial):
                    continue
                found[event.id] = event  # the same again, if it was sent twice
                if isinstance(event, UtteranceHeard | UtteranceFailed):
                    latest, earliest = max(latest, event.audio_end), min(earliest, event.audio_end)
            number += len(page)
            is_all = len(page) < PAGE_EVENTS or earliest < latest - seconds - SLACK_S
    finally:
        await client.aclose()
    events = list(reversed(found.values()))
    first = parse_entry(opening[0][1], keys.session) if opening else None
    if first is not None and first.id not in found:
        events.insert(0, first)
    return events, seconds if is_all or earliest == inf else min(seconds, latest - earliest)
