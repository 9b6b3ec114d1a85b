"""Log lines that repeat."""

from __future__ import annotations

import asyncio
import logging

import pytest

from stream.clock import VirtualClock
from stream.repeats import QUIET_S, RepeatFilter


def test_lines_that_repeat_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock, lines = VirtualClock(), logging.getLogger("tests.repeats")
    caplog.handler.addFilter(known := RepeatFilter(clock))
    try:
        for number in range(312):
            lines.warning("no Redis for %s", number)
            lines.info("a request")
        asyncio.run(clock.sleep(QUIET_S))
        lines.warning("no Redis for %s", "ever")
        lines.warning("no Ray")
    finally:
        caplog.handler.removeFilter(known)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["no Redis for 0", "no Redis for ever … and 311 times more", "no Ray"]
