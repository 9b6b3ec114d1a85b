"""`undertone top`: what every live session does, and how long its labels take."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from redis.exceptions import NoPermissionError, RedisError
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream.bus.cluster import MAX_AT_ONCE, batches
from stream.bus.connection import connect, listed
from stream.bus.keys import PREFIX, Keys
from stream.events import Degraded, Emotion, Event, Lag, Latency, SessionEnded, UtteranceFailed, parse_entry
from workers.console.display import clock
from workers.console.terminal import Terminal

RECENT_S = 60.0  # seconds of media, of whose labels latencies are
MAX_LATENCIES = 1000  # of a session
PAGE_ENTRIES = 1000  # of a stream that are read at once
REFRESH_S = 1.0  # seconds between two looks
COLUMNS = ("session", "age", "media", "utterances", "failed", "p50", "p95", "slowest stage", "worst lag", "degraded")
QUIET_S = 60.0  # seconds without an event after which a session's age is pointed out


@dataclass
class SessionLoad:
    """Counts, media time and recent latencies of one session."""

    session: str
    media: float = 0.0
    """Media time of the latest event, seconds."""
    utterances: int = 0
    failed: int = 0
    degraded: int = 0
    worst_lag: float = 0.0
    """Seconds."""
    ended: bool = False
    latencies: deque[tuple[float, Latency]] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))
    """Media time and latency of the labels of the last minute."""

    def event(self, event: Event) -> None:
        for name in ("audio_end", "audio_time", "duration"):
            self.media = max(self.media, getattr(event, name, 0.0))
        match event:
            case Emotion(trigger="speech_ended", revision=0):
                self.utterances += 1
                if event.latency:
                    self.latencies.append((event.audio_end, event.latency))
            case UtteranceFailed():
                self.utterances += 1
                self.failed += 1
            case Degraded():
                self.degraded += 1
            case Lag():
                self.worst_lag = max(self.worst_lag, event.seconds)
            case SessionEnded():
                self.ended = True
        while self.latencies and self.latencies[0][0] <= self.media - RECENT_S:
            self.latencies.popleft()

    def figures(self) -> dict[str, Any]:
        """The JSON object of --json, in seconds. Latencies are null when there is no label yet."""
        return {
            "session": self.session,
            "media": self.media,
            "utterances": self.utterances,
            "failed": self.failed,
            "degraded": self.degraded,
            "worst_lag": self.worst_lag,
            "latency": _quantiles(sum(latency.model_dump().values()) for _, latency in self.latencies),
            "slowest_stage": self._slowest_stage(),
        }

    def _slowest_stage(self) -> dict[str, Any] | None:
        stages: list[dict[str, Any]] = [
            {"stage": stage, **figures}
            for stage in Latency.model_fields
            if (figures := _quantiles(getattr(latency, stage) for _, latency in self.latencies))
        ]
        return max(stages, key=lambda each: each["p95"], default=None)


def _quantiles(seconds: Iterable[float]) -> dict[str, float] | None:
    """Linear interpolation between the two nearest."""
    values = list(seconds)
    if not values:
        return None
    p50, p95 = np.quantile(values, (0.5, 0.95))
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def total(loads: Iterable[SessionLoad]) -> SessionLoad:
    """All sessions as one: counts and media time added, the worst lag, latencies of all."""
    loads = list(loads)
    return SessionLoad(
        session="total",
        media=sum(load.media for load in loads),
        utterances=sum(load.utterances for load in loads),
        failed=sum(load.failed for load in loads),
        degraded=sum(load.degraded for load in loads),
        worst_lag=max((load.worst_lag for load in loads), default=0.0),
        latencies=deque(latency for load in loads for latency in load.latencies),
    )


class Overview:
    """Reads on in the Streams of all live sessions of the directory."""

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        self._client = connect(url)
        self._prefix = prefix
        self._over: set[str] = set()
        self._positions: dict[str, str] = {}
        self.loads: dict[str, SessionLoad] = {}
        """Live sessions, the newest last."""
        self.ages: dict[str, float] = {}
        """Seconds since each one's last event, by Redis's clock."""

    async def refresh(self) -> None:
        """Take in what has come. Raises RedisError or OSError."""
        started = await listed(self._client, self._prefix)
        await self._sift([session for session in started if session not in self.loads and session not in self._over])
        behind = sorted(self.loads.keys() & started.keys(), key=lambda session: started[session])
        self.loads = {session: self.loads[session] for session in behind}
        while behind:
            behind = await self._read(behind)
        for session in self.loads.keys() - started.keys():
            self._forget(session)
        self._over &= started.keys()
        seconds, microseconds = await self._client.time()
        now = 1000 * seconds + microseconds / 1000
        self.ages = {
            session: max(0.0, now - int(self._positions[session].split("-")[0])) / 1000 for session in self.loads
        }

    async def _sift(self, sessions: list[str]) -> None:
        """Tell sessions that go on from those that are over, which need not be read."""
        for some in batches(sessions, MAX_AT_ONCE):
            names = [Keys(session, self._prefix).events for session in some]
            tails = await self._client.run_each([(name, ("XREVRANGE", name, "+", "-", "COUNT", 1)) for name in names])
            for session, tail in zip(some, tails, strict=True):
                if isinstance(tail, NoPermissionError):
                    raise tail
                if isinstance(tail, RedisError) or not tail:
                    continue
                if isinstance(parse_entry(tail[0][1], session), SessionEnded):
                    self._over.add(session)
                else:
                    self.loads[session] = SessionLoad(session)

    async def _read(self, sessions: list[str]) -> list[str]:
        """Read on in these sessions; returns those in which there is more."""
        behind = []
        for some in batches(sessions, MAX_AT_ONCE):
            count = max(1, PAGE_ENTRIES // len(some))
            names = [Keys(session, self._prefix).events for session in some]
            starts = [f"({self._positions[session]}" if session in self._positions else "-" for session in some]
            commands = [
                (name, ("XRANGE", name, start, "+", "COUNT", count)) for name, start in zip(names, starts, strict=True)
            ]
            for session, page in zip(some, await self._client.run_each(commands), strict=True):
                load = self.loads[session]
                for position, fields in () if isinstance(page, RedisError) else page:
                    self._positions[session] = str(position)
                    if (event := parse_entry(fields, session)) is not None:
                        load.event(event)
                if load.ended or session not in self._positions:
                    self._over.add(session)
                    self._forget(session)
                elif len(page) == count:
                    behind.append(session)
        return behind

    def _forget(self, session: str) -> None:
        self.loads.pop(session, None)
        self._positions.pop(session, None)

    def as_json(self) -> str:
        sessions = [load.figures() | {"age": round(self.ages[name], 1)} for name, load in self.loads.items()]
        return json.dumps({"sessions": sessions, "total": total(self.loads.values()).figures()})

    def table(self, rows: int | None = None) -> Table:
        """The newest `rows` sessions, all by default, and the sum of all."""
        table = Table(box=None, padding=(0, 1), header_style="bold", show_footer=True, footer_style="bold")
        footers = [f"{len(self.loads)} live", "", *self._row(total(self.loads.values()))]
        for name, footer in zip(COLUMNS, footers, strict=True):
            left = name in ("session", "slowest stage")
            fold = name == "session"  # two ids may differ in their ends alone
            table.add_column(
                name, footer=footer, justify="left" if left else "right", no_wrap=not fold, overflow="fold"
            )
        for session, load in list(reversed(self.loads.items()))[:rows]:
            age = self.ages[session]
            table.add_row(Text(session), Text(f"{age:.0f} s", "yellow" if age > QUIET_S else ""), *self._row(load))
        return table

    @staticmethod
    def _row(load: SessionLoad) -> Iterator[str]:
        figures = load.figures()
        latency, slowest = figures["latency"], figures["slowest_stage"]
        yield from (clock(load.media), str(load.utterances), str(load.failed))
        yield from (f"{latency['p50']:.2f} s", f"{latency['p95']:.2f} s") if latency else ("", "")
        yield f"{slowest['stage']} {slowest['p50']:.2f} {slowest['p95']:.2f}" if slowest else ""
        yield from (f"{load.worst_lag:.1f} s" if load.worst_lag else "", str(load.degraded))

    async def aclose(self) -> None:
        await self._client.aclose()


async def watch_load(url: str, prefix: str, console: Terminal) -> None:
    """Keep the screen up to date until cancelled. Raises RedisError or OSError when Redis is away at the start."""
    overview = Overview(url, prefix)
    try:
        await overview.refresh()
        trouble = ""
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                table = overview.table(max(1, console.height - 4))
                live.update(Group(table, Text(trouble, style="yellow")), refresh=True)
                await asyncio.sleep(REFRESH_S)
                try:
                    await overview.refresh()
                    trouble = ""
                except (RedisError, OSError):
                    trouble = "Redis does not answer; trying again"
    finally:
        await overview.aclose()


async def look_once(url: str, prefix: str) -> Overview:
    """The load of all sessions now. Raises RedisError or OSError."""
    overview = Overview(url, prefix)
    try:
        await overview.refresh()
    finally:
        await overview.aclose()
    return overview
