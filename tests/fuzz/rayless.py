"""The gateway as it is, over a session that hears everything and recognizes nothing: no Ray, so a campaign can be long.

`python -m tests.fuzz.rayless PORT REDIS TOKENS MEDIA`
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import redis
import uvicorn

from stream.bus.directory import Load
from stream.bus.keys import Keys
from stream.events import Base, SessionEnded, SessionStarted
from workers.cluster.request_files import ServedRequest
from workers.cluster.served import ServedSession
from workers.gateway import pages, sessions, sockets
from workers.gateway.access import Access, read_tokens
from workers.gateway.app import create_app
from workers.gateway.serve import configuration, configure_logs
from workers.gateway.state import Settings

HOUR = 3600
carried: dict[str, Carrier] = {}


class Method:
    """What is called as an actor's methods are."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self._call = call

    def remote(self, *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._call(*arguments))


class Carrier:
    """`workers.cluster.session_actor.ServedSessionActor`, up to where recognition would begin."""

    def __init__(self, session: str, options: Any, source: Any, place: Any) -> None:
        self._session = ServedSession(session, options, source, place)
        self._server, self._keys = redis.Redis.from_url(place.redis), Keys(session)
        self.opened, self.stop = Method(self._open), Method(self._stop)
        self.attach, self.detach = Method(self._attach), Method(self._detach)
        self.push, self.watch = Method(self._session.push), Method(self._session.watch)

    async def _open(self) -> None:
        source, _, _ = await asyncio.to_thread(self._session._open_source)
        self._session._source = source
        self._server.hset(self._keys.directory, self._keys.session, "2026-01-01T00:00:00+00:00")
        self._server.set(self._keys.alive, Load(position=0, seconds=0, in_flight=0, lag=0).model_dump_json(), ex=HOUR)
        self._publish(
            SessionStarted(
                id=f"{self._keys.session}:started", session=self._keys.session, time="2026", sources=[source.name],
                channels="mixed", speakers="channel", encoders={}, checkpoint="none", emotions=[], consent="nobody",
                redacted=False,
            )
        )  # fmt: skip
        threading.Thread(target=self._hear, args=(source,), daemon=True).start()

    def _hear(self, source: Any) -> None:
        reason = "end of source"
        try:
            for _ in source:
                pass
        except Exception as error:
            reason = f"error: {error}"
        self._publish(
            SessionEnded(
                id=f"{self._keys.session}:ended", session=self._keys.session, reason=reason, duration=0, utterances=0,
                failed=0, counts={},
            )
        )  # fmt: skip
        carried.pop(self._keys.session, None)

    def _publish(self, event: Base) -> None:
        fields: Any = {"id": event.id, "type": event.id.rpartition(":")[2], "event": event.wire()}
        self._server.xadd(self._keys.events, fields)

    async def _attach(self, *arguments: Any) -> None:
        self._session.attach(*arguments)

    async def _detach(self, *arguments: Any) -> None:
        self._session.detach(*arguments)

    async def _stop(self) -> None:
        self._session.stop()


def start(request: ServedRequest) -> Carrier:
    if request.session in carried:
        raise ValueError(request.session)
    carried[request.session] = Carrier(request.session, request.options, request.source, request.place)
    return carried[request.session]


def dropped(actor: Carrier) -> None:
    """Instead of Ray's kill."""
    for session in [session for session, other in carried.items() if other is actor]:
        del carried[session]


async def answers() -> bool:
    return True


async def no_other_node(*asked: Any) -> list[Any]:
    return []


def main(port: str, url: str, tokens: str, media: str) -> None:
    configure_logs()
    app = create_app(Settings(url, media=Path(media), upload=1), Access(read_tokens(Path(tokens)), url, "undertone"))
    with (
        patch.object(sessions, "start_session", start),
        patch.object(sessions, "forget_on_nodes", no_other_node),
        patch.object(sessions, "find_session", carried.get),
        patch.object(sockets, "find_session", carried.get),
        patch.object(sessions.ray, "kill", dropped),
        patch.object(pages, "_ray_answers", answers),
    ):
        uvicorn.Server(configuration(app, "127.0.0.1", int(port))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
