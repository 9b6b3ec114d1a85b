"""`undertone bench capacity`: number of real-time sessions on this machine, and the cost of one."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray

from model.progress import Progress
from stream.bus.connection import connect
from stream.bus.keys import Keys
from stream.bus.server import private_server
from stream.events import Event
from workers.bench.speed.latency import Stopwatch
from workers.bench.speed.looped import looped_file
from workers.bench.speed.processes import busiest, by_kind, spent, used
from workers.bench.speed.words import ONE_MICROPHONE, Words
from workers.cluster.actors import CPU_SHARE, ray_cluster
from workers.cluster.request import MediaFile, Options, Place
from workers.cluster.served import ServedSession
from workers.console.tables import Rows
from workers.session.settings import Modality

RECORDING_S = 900.0  # length of the played recording; a level is over by then
SETTLE_TIMEOUT_S = 60.0  # until the first label, including loading of models; then the measurement starts
GRACE_S = 3.0  # the load continues while the last labels arrive
DRAIN_TIMEOUT_S = 180.0  # for the labels of stopped sessions
MAX_LAG_S = 1.0  # of a session that is held
POOL_ACTORS = 10  # actors besides the sessions
PREFIX = "bench"


@dataclass(frozen=True)
class Received:
    """Events that a session's subscriber received for a stretch of speech."""

    labels: list[float]
    """Seconds from the end of speech to each label, without the end-of-utterance silence."""
    events: int
    size: int
    """Bytes of the events' JSON."""


class _Watch(Stopwatch):
    """A stopwatch that also counts events, and knows the session's lag behind its source."""

    def __init__(self) -> None:
        super().__init__()
        self._position = 0.0
        self._events: list[tuple[float, int]] = []
        self.labelled = asyncio.Event()

    def event(self, event: Event) -> None:
        super().event(event)
        if self.taken:
            self.labelled.set()
        self._events.append((time.monotonic(), len(event.wire().encode())))

    def position(self, seconds: float) -> None:
        super().position(seconds)
        self._position = seconds

    def received(self, begin: float, end: float) -> Received:
        """The events for speech between two times of the monotonic clock."""
        labels = [
            seconds - (event.latency.vad if event.latency else 0.0)
            for seconds, event in self.taken
            if begin <= self._origin + event.audio_end < end
        ]
        sizes = [size for moment, size in self._events if begin <= moment < end]
        return Received(labels, len(sizes), sum(sizes))

    @property
    def lag(self) -> float:
        """Seconds that the session is behind its source now."""
        return time.monotonic() - self._origin - self._position


class TimedSession:
    """A session actor like that of `workers.cluster.session_actor`, with a stopwatch."""

    def __init__(self, session: str, options: Options, source: MediaFile, place: Place) -> None:
        self._watch = _Watch()
        self._session = ServedSession(session, options, source, place, [self._watch])

    async def loaded(self) -> None:
        """Wait until the process has started."""

    async def open(self) -> None:
        await self._session.start()

    async def labelled(self) -> None:
        """Wait for the first label."""
        await self._watch.labelled.wait()

    async def received(self, begin: float, end: float) -> Received:
        return self._watch.received(begin, end)

    async def lag(self) -> float:
        return self._watch.lag

    async def close(self) -> None:
        """Stop the session, and wait until everything is labelled."""
        self._session.stop()
        await self._session.done()


def bench_capacity(
    recording: Path,
    words: Sequence[Words],
    modalities: Sequence[Modality],
    seconds: float,
    max_sessions: int,
    progress: Progress,
    one_microphone: bool = False,
) -> tuple[Rows, Rows]:
    """A row for each number of sessions, and a row for each kind of process at the highest number that was held.

    Held: the 95 % time to label over the end silence is at most twice that of one session, and no session falls behind
    its source. Sessions are doubled up to `max_sessions` until that fails, then the limit is bisected. Each number is
    measured for `seconds` (one session for twice as long), once all have started. one_microphone: the recording's
    channels are mixed into one, in which speakers are told apart by voice. Raises MediaError.
    """
    levels: Rows = []
    costs: Rows = []
    with tempfile.TemporaryDirectory() as folder, private_server() as redis:
        path = looped_file(recording, RECORDING_S, Path(folder), one_microphone)
        for source in words:
            transcript = path.with_suffix(".csv").name if source.given else None
            media = MediaFile(kind="file", name=path.name, transcript=transcript)
            request = {"consent": "a benchmark", "modalities": modalities, "asr": source.asr}
            options = Options.model_validate(request if source.partials else request | {"interim": 0})
            place = Place(redis, PREFIX, None, path.parent, source.model)
            name = f"{source.name}{ONE_MICROPHONE}" if one_microphone else source.name
            progress.tell(f"words: {name}")
            with ray_cluster(None):  # for each anew: the actors of the words before would still be there
                room = (
                    int(ray.cluster_resources()["CPU"] / CPU_SHARE) - POOL_ACTORS
                )  # Ray starts no more actors than that
                found = search(partial(_measure, options, media, place, seconds, progress), min(max_sessions, room))
            levels += [{"words": name, **level.row} for level in found]
            highest = max(found, key=lambda level: (level.held, level.sessions))
            costs += [{"words": name, "sessions": highest.sessions, **row} for row in highest.costs]
    return levels, costs


@dataclass(frozen=True)
class Level:
    sessions: int
    held: bool
    p95: float
    row: dict[str, Any]
    costs: Rows


def search(measure: Callable[[int, float | None], Level], max_sessions: int) -> list[Level]:
    """Measured levels in order of sessions: doubled from one until too many, then bisected to within a quarter."""
    found = [measure(1, None)]
    base, held, failed = found[0].p95, 1, None if found[0].held else 1
    while failed is None and 2 * held <= max_sessions:
        found.append(measure(2 * held, base))
        held, failed = (held, 2 * held) if not found[-1].held else (2 * held, None)
    while failed is not None and failed - held > max(1, held // 4):
        middle = (held + failed) // 2
        found.append(measure(middle, base))
        held, failed = (middle, failed) if found[-1].held else (held, middle)
    return sorted(found, key=lambda level: level.sessions)


def _measure(
    options: Options,
    media: MediaFile,
    place: Place,
    seconds: float,
    progress: Progress,
    sessions: int,
    base: float | None,
) -> Level:
    """Measure a number of sessions at once. base: 95 % time to label of one session in ms; None: this is that
    session."""
    progress.tell(f"{sessions} sessions")
    return asyncio.run(_level(options, media, place, seconds if base is not None else 2 * seconds, sessions, base))


async def _level(
    options: Options, media: MediaFile, place: Place, seconds: float, sessions: int, base: float | None
) -> Level:
    names = [f"capacity-{secrets.token_hex(4)}" for _ in range(sessions)]
    kind = cast(Any, ray.remote)(TimedSession).options(num_cpus=CPU_SHARE)
    actors = [kind.remote(name, options, media, place) for name in names]
    try:
        await asyncio.gather(*(actor.loaded.remote() for actor in actors))
        for actor in actors:  # one after the other, so that they do not all speak in step
            await actor.open.remote()
        await asyncio.wait([asyncio.gather(*(actor.labelled.remote() for actor in actors))], timeout=SETTLE_TIMEOUT_S)
        begin, before = time.monotonic(), used()
        await asyncio.sleep(seconds)
        end, after = time.monotonic(), used()
        await asyncio.sleep(GRACE_S)
        lag = max(await asyncio.gather(*(actor.lag.remote() for actor in actors)))
        _, busy = await asyncio.wait(
            [asyncio.gather(*(actor.close.remote() for actor in actors))], timeout=DRAIN_TIMEOUT_S
        )
        received: list[Received] = await asyncio.gather(*(actor.received.remote(begin, end) for actor in actors))
        stored_bytes = await _bytes_per_event(place.redis, names)
    finally:
        for actor in actors:
            ray.kill(actor)
    taken = 1000 * np.array([label for one in received for label in one.labels])
    p50, p95 = np.percentile(taken, (50, 95)) if len(taken) else (math.inf, math.inf)
    held = not busy and lag < MAX_LAG_S and p95 <= (math.inf if base is None else 2 * base)
    count, minutes, cpu = sum(one.events for one in received), sessions * (end - begin) / 60, spent(before, after)
    session_cpu = {pid: seconds_ for pid, seconds_ in cpu.items() if after[pid].kind != "driver"}
    row = {
        "sessions": sessions,
        "labels": len(taken),
        **({"p50": round(p50), "p95": round(p95)} if len(taken) else {}),
        "lag s": round(lag, 1),
        "held": "yes" if held else "no",
        "cores": round(sum(session_cpu.values()) / (end - begin), 2),
        "of": os.cpu_count(),
        "busiest": busiest(session_cpu, after, end - begin),
        "s/min": round(sum(session_cpu.values()) / minutes, 2),
        "utterances/min": round(len(taken) / minutes, 1),
        "events/min": round(count / minutes, 1),
        "B/event": round(sum(one.size for one in received) / max(1, count)),
        "B kept/event": round(stored_bytes),
    }
    costs = []
    for name, seconds_ in sorted(by_kind(cpu, after).items()):
        one = [use.memory for use in after.values() if use.kind == name]
        costs.append(
            {
                "process": name,
                "processes": len(one),
                "s/min": round(seconds_ / minutes, 3),
                "MB each": round(float(np.mean(one)), 1),
            }
        )
    return Level(sessions, held, float(p95), row, costs)


async def _bytes_per_event(redis: str, sessions: Sequence[str]) -> float:
    """Mean bytes of an event in Redis."""
    client = connect(redis)
    try:
        size = count = 0
        for keys in (Keys(session, PREFIX) for session in sessions):
            size += await client.memory_usage(keys.events) or 0
            count += await client.xlen(keys.events)
    finally:
        await client.aclose()
    return size / max(1, count)
