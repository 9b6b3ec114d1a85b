"""Ray: thin actors over the plain objects, and how they are started and found."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import ray
from ray.exceptions import RayError

from model.dialogue import GraphRow, Heard
from model.incremental import Judgement, Step
from model.prosody import Array
from model.text import Line
from stream.block import Block, Samples
from workers.session import Session, SessionPlan

NAMESPACE = "undertone"

# Ray's defaults are wrong for us (DESIGN §8): actors come back, calls are tried again (all are idempotent or pure),
# queues are bounded.
SHARE = 0.05  # of a core charged for an actor: a pool that waits costs nothing, and a laptop has room for all kinds
POOL: dict[str, Any] = {
    "num_cpus": SHARE,
    "max_restarts": -1,
    "max_task_retries": 3,
    "max_pending_calls": 1000,
    "lifetime": "detached",
    "namespace": NAMESPACE,
    "get_if_exists": True,
}


class ClusterError(Exception):
    """Ray cannot be used; the message is one line for the user."""


@ray.remote(concurrency_groups={"health": 1})
class TranscriberActor:
    """Words of utterances."""

    def __init__(self, asr: str, folder: str | None) -> None:
        from model.asr import load

        self._asr = load(asr, folder)
        self._asr(np.zeros(8000, np.float32))  # the first call is slow; it shall not be a speaker's

    def transcribe(self, samples: Samples) -> str:
        return self._asr(samples)

    @ray.method(concurrency_group="health")
    def health(self) -> bool:
        return True


@ray.remote(concurrency_groups={"text": 1, "audio": 1, "health": 1})
class EncoderActor:
    """Embeddings of words, prosody of samples; each in a thread of its own."""

    def __init__(self, checkpoint: str) -> None:
        from model import prosody
        from model.checkpoint import load_checkpoint, tuned_of
        from model.text import ContextReader, TextEncoder

        if prosody.available():
            prosody.measure(np.zeros(8000, np.float32))
        config, tuned = load_checkpoint(checkpoint).config, tuned_of(checkpoint)
        self._text = TextEncoder(config.text, tuned.adapter)
        self._reader = ContextReader(config.reader, tuned.reader) if config.reader and tuned.reader else None
        self.embed([Line("a", "warm"), Line("b", "up")])

    @ray.method(concurrency_group="text")
    def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        return self._text([lines])[0], None if self._reader is None else self._reader([lines])[0]

    @ray.method(concurrency_group="audio")
    def prosody(self, samples: Samples) -> Array | None:
        from model import prosody

        return prosody.measure(samples)

    @ray.method(concurrency_group="health")
    def health(self) -> bool:
        return True


@ray.remote(concurrency_groups={"health": 1})
class RecognizerActor:
    """The graph states of the sessions assigned to it."""

    def __init__(self, checkpoint: str) -> None:
        from model.checkpoint import load_checkpoint
        from workers.recognizer import Recognizer

        self._recognizer = Recognizer(load_checkpoint(checkpoint))

    async def label(self, session: str, number: int, heard: Heard) -> Step:
        return await self._recognizer.label(session, number, heard)

    async def restore(self, session: str, rows: list[GraphRow]) -> None:
        self._recognizer.restore(session, rows)

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Judgement]:
        return self._recognizer.finish(session, rows)

    @ray.method(concurrency_group="health")
    async def health(self) -> bool:
        return True


@ray.remote(concurrency_groups={"health": 1})
class SessionActor:
    """One conversation. Not restarted: its source would have to be heard again (see README, limits)."""

    def __init__(self, plan: SessionPlan, redis: str, prefix: str, pools: Pools) -> None:
        from model.checkpoint import load_checkpoint
        from stream.bus import Bus, Keys

        config = load_checkpoint(plan.checkpoint).config
        self._session = Session(plan, config, pools, Bus(redis, Keys(plan.session, prefix)))

    async def start(self) -> None:
        await self._session.start()

    async def push(self, block: Block) -> None:
        await self._session.push(block)

    async def finish(self, reason: str, counts: dict[str, int]) -> None:
        await self._session.finish(reason, counts)

    @ray.method(concurrency_group="health")
    async def health(self) -> float:
        """Media time heard."""
        return self._session.position


@dataclass
class Pools:
    """The shared actors, as the helpers a session asks (`workers.session.Helpers`)."""

    transcribers: list[Any]
    encoder: Any
    recognizer: Any

    def __post_init__(self) -> None:
        self._turn = itertools.count()

    async def ready(self) -> None:
        """Wait until all have loaded what they need. Raises RayError with the cause of the first that cannot."""
        await asyncio.gather(*(actor.health.remote() for actor in (*self.transcribers, self.encoder, self.recognizer)))

    async def transcribe(self, samples: Samples) -> str:
        actor = self.transcribers[next(self._turn) % len(self.transcribers)]
        words: str = await actor.transcribe.remote(samples)
        return words

    async def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        read: tuple[Array, Array | None] = await self.encoder.embed.remote(lines)
        return read

    async def prosody(self, samples: Samples) -> Array | None:
        values: Array | None = await self.encoder.prosody.remote(samples)
        return values

    async def label(self, session: str, number: int, heard: Heard) -> Step:
        step: Step = await self.recognizer.label.remote(session, number, heard)
        return step

    async def restore(self, session: str, rows: list[GraphRow]) -> None:
        await self.recognizer.restore.remote(session, rows)

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Judgement]:
        owed: list[Judgement] = await self.recognizer.finish.remote(session, rows)
        return owed


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Ray for as long as the context lasts: the cluster at `address`, else a private one on this machine.

    Raises ClusterError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address not in (None, "auto") and "://" not in str(address):
        _reachable(str(address))
    if address is None:
        options |= {"num_cpus": max(2, os.cpu_count() or 1), "include_dashboard": False}
    try:
        # "local", because None would join whatever cluster $RAY_ADDRESS or the last `ray start` points to.
        ray.init(address=address or "local", **options)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"Ray does not start: {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _reachable(address: str) -> None:
    """Ray itself would wait for minutes for a cluster that is not there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ClusterError(f"Ray does not start: no cluster at {address} ({error})") from None


def start_pools(plan: SessionPlan, asr: tuple[str, str | None] | None) -> Pools:
    """The actors that `plan` needs, new ones or those that sessions of the same kind share already."""
    few = max(1, (os.cpu_count() or 2) // 2)
    transcribers = []
    if asr is not None:
        for n in range(min(4, few)):
            name = f"transcriber:{asr[0]}:{asr[1] or 'default'}:{n}"
            transcribers.append(cast(Any, TranscriberActor).options(name=name, **POOL).remote(*asr))
    encoder = cast(Any, EncoderActor).options(name=f"encoder:{plan.checkpoint}", **POOL).remote(plan.checkpoint)
    recognizer = cast(Any, RecognizerActor).options(name=f"recognizer:{plan.checkpoint}", **POOL)
    return Pools(transcribers, encoder, recognizer.remote(plan.checkpoint))


def start_session(plan: SessionPlan, redis: str, prefix: str, pools: Pools) -> Any:
    """The named actor of a new conversation. Raises ClusterError when the id is taken."""
    options = {"name": f"session:{plan.session}", "namespace": NAMESPACE, "lifetime": "detached"}
    try:
        return (
            cast(Any, SessionActor)
            .options(max_pending_calls=100, num_cpus=SHARE, **options)
            .remote(plan, redis, prefix, pools)
        )
    except ValueError as error:
        raise ClusterError(f"session {plan.session} runs already ({str(error).splitlines()[0]})") from None


def stop_all() -> list[str]:
    """Kill every actor of ours in the connected cluster; returns their names."""
    stopped = []
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(entry["name"], namespace=NAMESPACE))
            stopped.append(entry["name"])
    return stopped
