"""A session's Stream in Redis, into which somebody else has written too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import redis
from hypothesis import strategies as st

from stream.bus import subscriber as client
from stream.bus.directory import overview
from stream.bus.keys import Keys
from stream.bus.subscriber import consume, history, subscribe
from tests.fuzz.events import LINES, SEEDS, payloads
from tests.fuzz.target import Target, Wrong
from tests.support.redis_servers import private_server

END = LINES[-1]


async def read(url: str, session: str) -> None:
    """All ways to read a Stream, each to its end."""
    told = [event.id for event in await history(url, session)]
    followed = [event.id async for event in subscribe(url, session)]  # ends with the first that says so
    shared = [event.id async for event in consume(url, session, "group", "one")]
    if not followed or followed != told[: len(followed)] or set(told) - set(shared):
        raise Wrong(f"history {told}, subscription {followed}, group {shared}")
    (info,) = await overview(url, only=[session])
    if info.state != "ended":
        raise Wrong(f"{session} is {info.state}")


@contextmanager
def using(url: str) -> Iterator[Target]:
    """`opened`, with a Redis that is there."""
    # Seconds, instead of one, that a member of a group waits before it looks whether all is over.
    hasty = patch.object(client, "GROUP_BLOCK_S", 0.01)
    with hasty, redis.Redis.from_url(url) as server, asyncio.Runner() as runner:

        def take(entries: list[dict[bytes, bytes]]) -> None:
            session = "s"  # of all the seeds
            keys = Keys(session)
            for entry in entries:
                server.xadd(keys.events, dict(entry))
            ended: Any = {"id": "s:5", "type": "session.ended", "event": END}
            server.xadd(keys.events, ended)
            server.hset(keys.directory, b"\xff no session", b"\xff")
            server.hset(keys.directory, session, "2026-01-01T00:00:00+00:00")
            try:
                runner.run(asyncio.wait_for(read(url, session), 20))
            finally:
                server.delete(keys.events)
                server.hdel(keys.directory, session)

        names = st.sampled_from([b"id", b"type", b"event", b"event", b"\xff", b"x"])
        fields = st.dictionaries(names, payloads | st.binary(max_size=8), min_size=1, max_size=3)
        sound = st.sampled_from(SEEDS[:-1]).map(
            lambda seed: {b"id": seed["id"].encode(), b"type": seed["type"].encode(), b"event": json.dumps(seed)}
        )
        ids = st.sampled_from([b"s:1", b"s:2", b"a"])
        spoilt = st.builds(lambda id_, line: {b"id": id_, b"type": b"emotion", b"event": line}, ids, payloads)
        yield Target(st.lists(fields | sound | spoilt, max_size=5), take)


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    with private_server() as url, using(url) as target:
        yield target
