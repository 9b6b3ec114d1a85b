"""`kill -9` of every kind of process, at random moments, while sessions run through the service."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import ray
import websockets
from ray.exceptions import RayError
from redis.exceptions import RedisError

from stream.block import RATE
from stream.events import Event
from stream.sources.file import FileSource
from tests.chaos.truth import Verdict, durable_log, judge, labels
from tests.support.commands import UNDERTONE
from tests.support.gateways import Gateway, free_port, pcm, wait_ready
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.redis_servers import Server
from workers.cluster.actors import NAMESPACE

KINDS = {
    "session": "ServedSessionActor",
    "encoder": "EncoderActor",
    "recognizer": "RecognizerActor",
    "transcriber": "TranscriberActor",
    "gateway": "",
}
GIVEN = {"kind": "file", "name": "demo.opus", "transcript": "demo.stm", "speed": 3}
HEARD = {"kind": "file", "name": "demo.opus", "speed": 2}
PAUSED = 5.0  # seconds for which Redis does not answer
PATIENCE = 600.0  # seconds after which a session that has not ended never will
OPTIONS = {"consent": "synthetic voices", "modalities": ["text", "audio"]}


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


class Service:
    """Gateways over one Ray and one Redis, each started again when it dies, as a supervisor would."""

    def __init__(
        self,
        folder: Path,
        redis: str,
        address: str,
        count: int = 2,
        through: str | None = None,
        server: Server | None = None,
    ) -> None:
        """redis: where the log is read; through: where the service reaches it, if elsewhere; server: its process."""
        self.server = server
        self._options = ("--redis", through or redis, "--ray-address", address, "--media", str(folder / "media"))
        self._folder, self.redis = folder, redis
        (folder / "media").mkdir()
        shutil.copy(DEMO, folder / "media" / "demo.opus")
        shutil.copy(DEMO_TRANSCRIPT, folder / "media" / "demo.stm")
        self.gateways = [self._start(free_port()) for _ in range(count)]
        for gateway in self.gateways:
            wait_ready(gateway)

    def _start(self, port: int) -> Gateway:
        log = self._folder / f"gateway-{port}.log"
        command = [UNDERTONE, "serve", "--no-token", "--port", str(port), *self._options]
        with log.open("ab") as told:
            return Gateway(subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT), port, log)

    def kill_gateway(self, number: int) -> Gateway:
        """Kill one and start it anew at its port; returns the new one, which is not ready yet."""
        old = self.gateways[number]
        old.process.kill()
        old.process.wait()
        self.gateways[number] = self._start(old.port)
        return self.gateways[number]

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.process.kill()
            gateway.process.wait()

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Of whichever gateway answers."""
        for attempt in range(120):
            gateway = self.gateways[attempt % len(self.gateways)]
            with suppress(httpx.TransportError):
                async with httpx.AsyncClient(base_url=gateway.http, timeout=120) as client:
                    answer = await client.request(method, path, **options)
                if answer.status_code not in (500, 503):
                    return answer
            await asyncio.sleep(0.5)
        raise RuntimeError(f"no gateway answers {method} {path}")

    async def play(self, session: str, source: dict[str, Any]) -> list[Event]:
        """A recording through a session, to its end; what the log holds of it."""
        asked = {**OPTIONS, "id": session, "source": source}
        if "transcript" not in source:
            asked["asr"] = "whisper"
        answer = await self.ask("POST", "/sessions", json=asked)
        if answer.status_code not in (201, 409):  # 409: the gateway that started it was killed before it could say so
            raise RuntimeError(answer.text)
        return await self.end_of(session)

    async def push(self, session: str, samples: np.ndarray, ports: Sequence[int] = ()) -> list[Event]:
        """A live track, sent at its pace by somebody who connects again whenever the connection is lost, if only to say
        that it is over.

        ports: where to connect, in turn; none: to the gateways.
        """
        ports = ports or [gateway.port for gateway in self.gateways]
        source = {"kind": "push", "tracks": [{"name": "Mara"}]}
        answer = await self.ask("POST", "/sessions", json={**OPTIONS, "id": session, "source": source, "asr": "none"})
        if answer.status_code not in (201, 409):
            raise RuntimeError(answer.text)
        begun, length, turn = time.monotonic(), len(samples) / RATE, 0
        while time.monotonic() - begun < length + PATIENCE:
            turn += 1
            port = ports[turn % len(ports)]
            url = f"ws://127.0.0.1:{port}/sessions/{session}/tracks/0?format=pcm&rate={RATE}"
            with suppress(OSError, websockets.WebSocketException, TimeoutError):
                async with websockets.connect(url, open_timeout=5, ping_timeout=10) as socket:
                    if json.loads(await asyncio.wait_for(socket.recv(), 20))["type"] != "ready":
                        raise TimeoutError
                    at = time.monotonic() - begun
                    while at < length:
                        until = min(length, at + 0.1)
                        await socket.send(pcm(samples[round(at * RATE) : round(until * RATE)]))
                        at = until
                        await asyncio.sleep(max(0.0, at - (time.monotonic() - begun)))
                    break
            await asyncio.sleep(0.3)
        return await self.end_of(session)

    async def end_of(self, session: str, patience: float = PATIENCE) -> list[Event]:
        deadline, log = time.monotonic() + patience, list[Event]()
        while time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            with suppress(RedisError):
                log = await asyncio.to_thread(durable_log, self.redis, session)
            if log and log[-1].type == "session.ended":
                break
        return log


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
                self._watch("session", partial(self._answers, "session", [name]))
                return True
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
    lanes: tuple[str, ...] = ("given", "heard", "live")
    """Recordings with a transcript, recordings whose words are recognized, tracks that are sent live."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Chosen from at random."""
    order: tuple[str, ...] = ()
    """Instead of `kills` at random: kinds, or lanes of which a session is killed midway, one after the other."""
    said: float = 58.0
    """Seconds of a live track."""
    speed: float | None = None
    """Of recordings; None = 3 with a transcript, else 2."""


async def campaign(
    service: Service, plan: Plan, say: Callable[[str], None]
) -> tuple[dict[str, Tally], dict[str, Verdict]]:
    """Sessions one after the other in each lane, until it is enough; by kind of fault and by lane."""
    rng, killer = random.Random(plan.seed), Killer(service, plan.seed)
    verdicts: dict[str, Verdict] = defaultdict(Verdict)
    faster = {} if plan.speed is None else {"speed": plan.speed}
    played = {"given": GIVEN | faster, "heard": HEARD | faster}
    said = np.concatenate([block.samples for block in FileSource(DEMO, "mix")], 1)[0, : round(plan.said * RATE)]
    begun, enough = time.monotonic(), asyncio.Event()

    async def lane(number: int, kind: str, truth: list[Event] | None) -> None:
        n = 0
        while not enough.is_set():
            n += 1
            session = f"{kind}-{plan.seed}-{number}-{n}"
            whole = service.push(session, said) if truth is None else service.play(session, played[kind])
            verdicts[kind].add(judge(await whole, truth))

    truths = {kind: await service.play(f"truth-{kind}", played[kind]) for kind in played if kind in plan.lanes}
    say("the undisturbed runs are done")
    lanes = [asyncio.create_task(lane(n, kind, truths.get(kind))) for n, kind in enumerate(plan.lanes)]
    done, wanted = 0, len(plan.order) or plan.kills
    while done < wanted if wanted is not None else time.monotonic() - begun < plan.seconds:
        await killer.back(but=1)
        await asyncio.sleep(rng.uniform(*plan.pause))
        if failed := next((each for each in lanes if each.done()), None):
            failed.result()
        kind = plan.order[done] if plan.order else rng.choice(plan.kinds)
        if await (killer.kill_midway(kind) if kind in plan.lanes else killer.kill(kind)):
            done += 1
            say(f"fault {done}: {kind}")
    enough.set()
    await asyncio.gather(*lanes)
    await killer.back()
    return dict(killer.tallies), dict(verdicts)
