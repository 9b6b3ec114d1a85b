"""Requests after our OpenAPI, with what it allows and what it does not, to a real gateway (Schemathesis)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from stream.bus.keys import Keys
from tests.fuzz.events import LINES
from tests.fuzz.media import recordings
from tests.fuzz.mutations import NASTY, altered, mutated, values
from tests.fuzz.served import Served, served
from tests.fuzz.target import LONGEST, Refusal, Target, Wrong

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
ENDED, EMPTY = "ended", "empty"  # sessions of the directory, one of them without events
HEADERS = st.just({}) | st.dictionaries(
    st.sampled_from(["Host", "Origin", "Content-Type", "Last-Event-ID", "Accept", "Authorization"]),
    st.sampled_from(["[", "http://[", "evil.example", "null", "Bearer", "-1", "\xff", "a/b; charset=x", *NASTY]),
    max_size=2,
)
OPTIONS = {"consent": "nobody", "modalities": ["audio"], "asr": "none", "interim": 0}
BODIES = [
    OPTIONS | {"source": {"kind": "push", "tracks": [{"name": "Ann", "video": True}]}},
    OPTIONS | {"source": {"kind": "file", "name": "sound.wav", "speed": None, "transcript": "call.stm"}},
    OPTIONS | {"source": {"kind": "url", "url": "http://127.0.0.1:1/x", "name": "Ann"}, "id": "mine"},
]


@contextmanager
def using(there: Served) -> Iterator[Target]:
    """`opened`, with a gateway that is there."""
    with redis.Redis.from_url(there.redis) as server:
        for line in LINES:
            event = json.loads(line) | {"session": ENDED}
            entry = {"id": event["id"], "type": event["type"], "event": json.dumps(event)}
            server.xadd(Keys(ENDED).events, entry)
        for session in (ENDED, EMPTY):
            server.hset(Keys(session).directory, session, "2026-01-01T00:00:00+00:00")
    schema = schemathesis.openapi.from_url(f"{there.gateway.http}/openapi.json")
    with there.client as client:

        def take(given: tuple[Any, str | None, str | None, Any, dict[str, str]]) -> None:
            case, session, token, body, headers = given
            if session is not None and "session" in case.path_parameters:
                listening = case.path.endswith("/events")  # to one without events that would be for ever
                case.path_parameters["session"] = ENDED if listening else session
            asked = case.as_transport_kwargs(base_url=there.gateway.http)
            if token is not None:
                asked["headers"]["Authorization"] = f"Bearer {token}"
            if body is not None and case.method == "POST":
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                asked = {name: asked.get(name) for name in ("method", "url", "params", "headers")} | {"data": content}
                asked["headers"]["Content-Type"] = "application/json"
            asked["headers"].update(headers)
            try:
                answer = requests.request(**asked, timeout=60)
            except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
                raise Refusal("not sendable") from None
            there.check()
            if answer.status_code == 400 and answer.text == "Invalid HTTP request received.":
                raise Refusal("HTTP 400")  # said by uvicorn, before any of ours is asked
            try:
                case.validate_response(answer, checks=CHECKS)
            except FailureGroup as failures:
                raise Wrong("; ".join(str(each) for each in failures.exceptions)) from None
            judge(client, answer)

        cases = st.one_of(schema.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))
        bodies = st.one_of(st.none(), altered(BODIES), values, mutated(recordings()))
        sessions = st.sampled_from([None, ENDED, EMPTY])
        tokens = st.sampled_from([*[there.thrifty] * 6, there.token, None])  # to start a session takes seconds
        yield Target(st.tuples(cases, sessions, tokens, bodies, HEADERS), take, processes=there.processes)


def judge(client: httpx.Client, answer: Any) -> None:
    """Raises Refusal, with the status, for what was refused in one line; what was started is stopped again."""
    if answer.status_code == 201:
        client.delete(f"/sessions/{answer.json()['id']}")
    if answer.status_code < 400:
        return
    text = answer.json()["detail"]
    if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= LONGEST:
        raise Wrong(f"{answer.status_code} with what is no line: {text!r}")
    if answer.status_code >= 500:
        raise Wrong(f"{answer.status_code}: {text}")
    raise Refusal(f"HTTP {answer.status_code}")


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    with served(folder) as there, using(there) as target:
        yield target
