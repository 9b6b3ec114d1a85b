"""The sockets that a gateway listens on, taken before anything else is started."""

from __future__ import annotations

import io
import json
import logging
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from workers.gateway.serve import CannotListen, Invitation, configure_logs, listen_on


class Screen(io.StringIO):
    """stderr, on a terminal or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets up logs on a terminal or not; returns a logger, and what it has written to."""
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def set_up(is_terminal: bool) -> tuple[Any, Screen]:
        screen = Screen(is_terminal)
        monkeypatch.setattr(sys, "stderr", screen)
        configure_logs()
        return structlog.get_logger("test"), screen

    yield set_up
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


CALLER = "gateway"


def log_something(log: Any) -> None:
    log.info("loading Whisper base (1.4 s)")
    log.info("request", method="GET", route="/sessions", status=200, ms=3, token=CALLER)
    log.info("request", method="GET", route="/readyz", status=503, ms=3, token=None)
    log.info("request", method="GET", route="/me", status=401, ms=3, token=None)
    log.info("websocket", route="/sessions/{session}/events", code=1000, s=2.0, token=CALLER)
    log.info("websocket", route="/sessions/{session}/events", code=1011, s=2.0, token=CALLER)
    log.info("session forgotten", session="call\n\x1b[2J", left=0)
    log.warning("a model does not load", error="no room")
    logging.getLogger("uvicorn.error").warning("something %s", "odd")


def test_logs_on_a_terminal_are_short_lines(logs: Any) -> None:
    log, screen = logs(is_terminal=True)
    log_something(log)
    assert screen.getvalue().splitlines() == [
        "loading Whisper base (1.4 s)",
        "GET /me (status: 401, ms: 3, token: None)",
        "websocket /sessions/{session}/events (code: 1011, s: 2.0, token: gateway)",
        "session forgotten (session: call\\n\\x1b[2J, left: 0)",
        "warning: a model does not load (error: no room)",
        "warning: something odd",
    ]
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("unavailable")
    assert "error: unavailable\nTraceback" in screen.getvalue() and "ValueError: broken" in screen.getvalue()


def test_logs_elsewhere_are_json(logs: Any) -> None:
    log, screen = logs(is_terminal=False)
    log_something(log)
    lines = [json.loads(line) for line in screen.getvalue().splitlines()]
    assert len(lines) == 9 and lines[1]["status"] == 200 and all(line["timestamp"] for line in lines)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_address_is_printed_once(is_terminal: bool, logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, screen = logs(is_terminal)
    monkeypatch.setattr("workers.gateway.serve.write_token", lambda port, token: None)
    Invitation("127.0.0.1", "redis://u:secret@host", "ut_x").publish(8765)
    lines = [line for line in screen.getvalue().splitlines() if not line.startswith("{")]
    assert lines == ["Open http://127.0.0.1:8765/#token=ut_x  (Ctrl-C stops)", "events: redis://…@host"]
    assert ("serving" in screen.getvalue()) is not is_terminal, "services read that"
    shown: list[str] = []
    Invitation("::1", "redis://host", "ut_x", shown.append).publish(1)
    assert shown == ["http://[::1]:1/#token=ut_x"] and shown[0] not in screen.getvalue(), "its caller prints it"


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            CannotListen, match=f"^cannot listen on 127.0.0.1:{port}: the port is taken; choose"
        ) as told:
            listen_on("127.0.0.1", port)
    assert told.value.exit_code == 1


@pytest.mark.parametrize(("host", "reason"), [("192.0.2.1", "annot assign"), ("no-such-host.invalid", ".")])
def test_an_address_of_another_machine_is_refused(host: str, reason: str) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:8765: .*{reason}"):
        listen_on(host, 8765)


def test_all_addresses_of_a_name_have_one_port() -> None:
    listeners = listen_on("localhost", 0)
    assert listeners and len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()
