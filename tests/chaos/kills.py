"""`kill -9` of every kind of process, at random moments, while sessions run through the service."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import psutil
import ray
from ray.exceptions import RayError

from stream.block import RATE
from stream.events import Event
from stream.sources.file import FileSource
from tests.chaos.service import GIVEN, HEARD, Service, wav
from tests.chaos.truth import Verdict, durable_log, judge, labels
from tests.support.gateways import Gateway, wait_ready
from tests.support.paths import DEMO
from workers.cluster.actors import NAMESPACE

KINDS = {
    "session": "ServedSessionActor",
    "encoder": "EncoderActor",
    "recognizer": "RecognizerActor",
    "transcriber": "TranscriberActor",
    "gateway": "",
}
RECORDINGS = ("given", "heard", "upload", "command")  # ways in of which there is an undisturbed run to compare with
WAYS = (*RECORDINGS, "live", "webm", "url")
Way = Callable[[str], Coroutine[Any, Any, list[Event]]]  # a session of that id to its end; what the log holds of it
PAUSED = 5.0  # seconds for which Redis does not answer


@dataclass
class Tally:
    """Of one kind of kill."""

    kills: int = 0
    recoveries: list[float] = field(default_factory=list)
    """Seconds until the process answers again."""

    def row(self) -> dict[str, Any]:
        times = sorted(self.recoveries)
        return {
            "kills": self.kills,
            "recovered": len(times),
            "s p50": round(statistics.median(times), 1) if times else None,
            "s most": round(times[-1], 1) if times else None,
        }


def processes(kind: str) -> list[psutil.Process]:
    """Ours of a kind, of this program's Ray alone."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            title = "".join(process.cmdline()[:1])  # while it works: ray::NAME:ENCODERACTOR.METHOD
            if title.startswith("ray::") and f":{KINDS[kind]}" in title:
                found.append(process)
    return found


class Killer:
    """Kills, and measures how long it takes until the process answers again."""

    def __init__(self, service: Service, seed: int) -> None:
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self._service, self._rng = service, random.Random(seed)
        self._watching: set[asyncio.Task[None]] = set()
        self._gateways: set[int] = set()  # those that are being started again
        self._server_away = False

    async def kill(self, kind: str) -> bool:
        """One process of the kind, if there is one."""
        if kind == "gateway":
            number = self._rng.randrange(len(self._service.gateways))
            if self._gateways:  # one at a time, else nobody serves
                return False
            self._gateways.add(number)
            gateway = self._service.kill_gateway(number)
            self._watch(kind, lambda: self._ready(number, gateway))
            return True
        if kind in ("redis", "redis paused"):
            if self._server_away:
                return False
            self._watch(kind, self._lose_redis if kind == "redis" else self._pause_redis)
            return True
        victims = await asyncio.to_thread(processes, kind)
        if not victims:
            return False
        victim = self._rng.choice(victims)
        names = await asyncio.to_thread(self._names, f"{kind}:")
        with suppress(ProcessLookupError, psutil.Error):
            os.kill(victim.pid, signal.SIGKILL)
        self._watch(kind, lambda: self._answers(kind, names))
        return True

    async def kill_midway(self, lane: str) -> bool:
        """The process of a session of the lane that has a label and has not ended, if there is one."""
        if lane == "command":
            return await self._kill_command()
        for name in await asyncio.to_thread(self._names, f"session:{lane}"):
            try:
                actor = ray.get_actor(name, namespace=NAMESPACE)
                pid = await asyncio.wait_for(actor.__ray_call__.remote(lambda _: os.getpid()), 10)
                os.kill(pid, signal.SIGSTOP)  # so that its log stays as it is read
            except (RayError, ValueError, TimeoutError, ProcessLookupError):
                continue
            log = await asyncio.to_thread(durable_log, self._service.redis, name.removeprefix("session:"))
            midway = bool(labels(log, 0)) and log[-1].type != "session.ended"
            os.kill(pid, signal.SIGKILL if midway else signal.SIGCONT)
            if midway:
                self._watch(f"midway: {lane}", partial(self._answers, "session", [name]))
                return True
        return False

    async def _kill_command(self) -> bool:
        for session, process in self._service.commands.items():
            log = await asyncio.to_thread(durable_log, self._service.redis, session)
            if labels(log, 0) and log[-1].type != "session.ended" and process.poll() is None:
                process.kill()
                self._watch("midway: command", partial(self._goes_on, session, len(log)))
                return True
        return False

    async def _goes_on(self, session: str, events: int) -> bool:
        for _ in range(600):
            if len(await asyncio.to_thread(durable_log, self._service.redis, session)) > events:
                return True
            await asyncio.sleep(0.2)
        return False

    def _names(self, beginning: str) -> list[str]:
        named = [str(each["name"]) for each in ray.util.list_named_actors(all_namespaces=True)]
        return [name for name in named if name.startswith(beginning)]

    def _watch(self, kind: str, back: Callable[[], Any]) -> None:
        self.tallies[kind].kills += 1
        task = asyncio.create_task(self._measure(kind, back))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _measure(self, kind: str, back: Callable[[], Any]) -> None:
        started = time.monotonic()
        if await back():
            self.tallies[kind].recoveries.append(time.monotonic() - started)

    async def _ready(self, number: int, gateway: Gateway) -> bool:
        try:
            await asyncio.to_thread(wait_ready, gateway)
            return True
        finally:
            self._gateways.discard(number)

    async def _lose_redis(self) -> bool:
        """Killed, and started again at its place two seconds later."""
        server = self._service.server
        assert server is not None
        self._server_away = True
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(2)
        await asyncio.to_thread(server.start)
        self._server_away = False
        return True

    async def _pause_redis(self) -> bool:
        server = self._service.server
        assert server is not None
        self._server_away = True
        server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(PAUSED)
        server.process.send_signal(signal.SIGCONT)
        self._server_away = False
        return True

    async def _answers(self, kind: str, names: list[str]) -> bool:
        """Whether all actors of the kind answer again, sessions that they listen (those that have ended need not)."""
        await asyncio.sleep(0.3)  # until Ray has seen it
        for name in names:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with suppress(RayError, ValueError, TimeoutError):
                    actor = ray.get_actor(name, namespace=NAMESPACE)
                    await asyncio.wait_for(actor.opened.remote() if kind == "session" else actor.health.remote(), 10)
                    break
                if kind == "session" and name not in await asyncio.to_thread(self._names, name):
                    break
                await asyncio.sleep(0.1)
            else:
                return False
        return True

    async def back(self, but: int = 0) -> None:
        """Wait until all are back, but for so many."""
        while len(self._watching) > but:
            await asyncio.wait(self._watching, timeout=120, return_when=asyncio.FIRST_COMPLETED)


@dataclass(frozen=True)
class Plan:
    """What is killed while what goes on."""

    seed: int
    pause: tuple[float, float]
    """Seconds between two faults, at least and at most."""
    kills: int | None = None
    """After so many it is enough; None: after `seconds`."""
    seconds: float = 0.0
    lanes: tuple[str, ...] = WAYS
    """What goes on at once."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Chosen from at random."""
    midway: bool = False
    """Every second fault is a session killed midway, of each lane in turn."""
    order: tuple[str, ...] = ()
    """Instead of `kills` at random: kinds, or lanes of which a session is killed midway, one after the other."""
    said: float = 58.0
    """Seconds of a live track."""
    speed: float | None = None
    """Of recordings; None = 3, or 2 where words are recognized."""


async def campaign(
    service: Service, plan: Plan, say: Callable[[str], None]
) -> tuple[dict[str, Tally], dict[str, Verdict]]:
    """Sessions one after the other in each lane, until it is enough; by kind of fault and by lane."""
    rng, killer = random.Random(plan.seed), Killer(service, plan.seed)
    verdicts: dict[str, Verdict] = defaultdict(Verdict)
    faster = {} if plan.speed is None else {"speed": plan.speed}
    said = np.concatenate([block.samples for block in FileSource(DEMO, "mix")], 1)[0]
    part, sent = said[: round(plan.said * RATE)], wav(said)
    ways: dict[str, Way] = {
        "given": lambda session: service.play(session, GIVEN | faster),
        "heard": lambda session: service.play(session, HEARD | faster),
        "upload": lambda session: service.upload(session, sent, plan.speed or 3.0),
        "command": lambda session: service.command(session, plan.speed or 3.0),
        "live": lambda session: service.push(session, part),
        "webm": lambda session: service.push(session, part, format="webm"),
        "url": lambda session: service.fetch(session, part),
    }
    begun, enough = time.monotonic(), asyncio.Event()

    async def lane(number: int, kind: str, truth: list[Event] | None) -> None:
        n = 0
        while not enough.is_set():
            n += 1
            verdicts[kind].add(judge(await ways[kind](f"{kind}-{plan.seed}-{number}-{n}"), truth))

    truths = {kind: await ways[kind](f"truth-{kind}") for kind in RECORDINGS if kind in plan.lanes}
    say("the undisturbed runs are done")
    lanes = [asyncio.create_task(lane(n, kind, truths.get(kind))) for n, kind in enumerate(plan.lanes)]
    done, tried, wanted = 0, 0, len(plan.order) or plan.kills
    while done < wanted if wanted is not None else time.monotonic() - begun < plan.seconds:
        await killer.back(but=1)
        await asyncio.sleep(rng.uniform(*plan.pause))
        if failed := next((each for each in lanes if each.done()), None):
            failed.result()
        kind = plan.order[done] if plan.order else rng.choice(plan.kinds)
        if plan.midway and not plan.order and tried % 2 == 0:
            kind = plan.lanes[tried // 2 % len(plan.lanes)]
        # A lane whose session has only begun, or just ended, is asked again; a kind of which there is none is not.
        if await (killer.kill_midway(kind) if kind in plan.lanes else killer.kill(kind)):
            done, tried = done + 1, tried + 1
            say(f"fault {done}: {kind}")
        elif kind not in plan.lanes:
            tried += 1
    enough.set()
    await asyncio.gather(*lanes)
    await killer.back()
    return dict(killer.tallies), dict(verdicts)
