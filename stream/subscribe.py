"""Receiving a session's events: history and live joined without gap or duplicate, over lost connections."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from redis.exceptions import AuthenticationError, RedisError

from stream.bus import PREFIX, Keys, connect
from stream.events import Event, parse

REMEMBERED = 10_000  # ids kept to recognise duplicates
PAGE = 500


async def subscribe(url: str, session: str, prefix: str = PREFIX) -> AsyncIterator[Event]:
    """Yield every event of a session from its first, and stop after `session.ended`.

    Subscribes first, then reads the Stream, then goes on with what came meanwhile; ids that were seen are skipped.
    Reconnects (1 … 60 s) when the connection is lost. Raises AuthenticationError, which waiting cannot mend.
    """
    keys = Keys(session, prefix)
    seen: OrderedDict[str, None] = OrderedDict()
    last = "-"  # Stream id to read on from
    pause = 1.0
    while True:
        client = connect(url, timeout=None)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(keys.channel)
            history = True
            while True:
                if history:
                    entries: Any = await client.xrange(keys.events, min=last, count=PAGE)
                    payloads = [fields["event"] for _, fields in entries]
                    if entries:
                        last = "(" + entries[-1][0]
                    history = len(entries) == PAGE
                else:
                    message = await pubsub.get_message(timeout=None)
                    payloads = [message["data"]] if message else []
                pause = 1.0
                for payload in payloads:
                    event = parse(payload)
                    if event.id in seen:
                        continue
                    seen[event.id] = None
                    if len(seen) > REMEMBERED:
                        seen.popitem(last=False)
                    yield event
                    if event.type == "session.ended":
                        return
        except AuthenticationError:
            raise
        except (RedisError, OSError):
            await asyncio.sleep(pause)
            pause = min(60.0, 2 * pause)
        finally:
            await pubsub.aclose()
            await client.aclose()
