"""Ray: thin actors over the plain objects, and how they are started and found."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray
from ray.exceptions import RayError

from model.asr import Recognized
from model.dialogue import GraphRow, Heard
from model.incremental import Judgement, Step
from model.prosody import Array
from model.sight import Sight
from model.text import Line
from stream.block import Block, Samples
from workers.batching import Batcher
from workers.diarization import Part, voices
from workers.plan import Needs, SessionPlan
from workers.session import Session

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
    """Words of utterances; those of several sessions that wait at the same time go through the model together."""

    def __init__(self, asr: str, folder: str | None) -> None:
        from model.asr import load, transcribe_together

        recognizer = load(asr, folder)
        recognizer.warm_up()
        self._batches: Batcher[tuple[Samples, str | None], Recognized] = Batcher(
            functools.partial(transcribe_together, recognizer), most=8
        )

    async def transcribe(self, samples: Samples, language: str | None) -> Recognized:
        return await self._batches((samples, language))

    @ray.method(concurrency_group="health")
    async def health(self) -> bool:
        return True


@ray.remote(concurrency_groups={"text": 1, "audio": 1, "speaker": 1, "health": 1})
class EncoderActor:
    """Embeddings of words; prosody, emotion and speaker of a voice; each kind in a thread of its own."""

    def __init__(self, checkpoint: str, voice: str | None = None) -> None:
        from model import prosody
        from model.checkpoint import load_checkpoint, tuned_of
        from model.speaker import SpeakerEncoder
        from model.text import ContextReader, TextEncoder
        from model.voice import VoiceEncoder

        config, tuned = load_checkpoint(checkpoint).config, tuned_of(checkpoint)
        self._measure = prosody.measure if prosody.available() else None
        self._text = TextEncoder(config.text, tuned.adapter)
        self._reader = ContextReader(config.reader, tuned.reader) if config.reader and tuned.reader else None
        self._voice, self._speaker = VoiceEncoder(Path(voice)) if voice else VoiceEncoder(), SpeakerEncoder()
        self.embed([Line("a", "warm"), Line("b", "up")])
        self.hear(warm := np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32))
        self.voices(warm)

    @ray.method(concurrency_group="text")
    def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        return self._text([lines])[0], None if self._reader is None else self._reader([lines])[0]

    @ray.method(concurrency_group="audio")
    def hear(self, samples: Samples) -> tuple[Array | None, Array | None]:
        return self._measure(samples) if self._measure is not None else None, self._voice(samples)

    @ray.method(concurrency_group="speaker")
    def voices(self, samples: Samples) -> list[Part]:
        return voices(self._speaker, samples)

    @ray.method(concurrency_group="health")
    def health(self) -> bool:
        return True


@ray.remote(concurrency_groups={"health": 1})
class FaceActor:
    """Faces and their expressions."""

    def __init__(self, detector: str, expression: list[str]) -> None:
        from model.faces import FaceReader

        self._reader = FaceReader(Path(detector), [Path(path) for path in expression])

    def look(self, images: list[Any], times: list[float], samples: Samples, start: float) -> Sight:
        return self._reader(images, times, samples, start)

    @ray.method(concurrency_group="health")
    def health(self) -> bool:
        return True


@ray.remote(concurrency_groups={"health": 1})
class RecognizerActor:
    """The graph states of the sessions assigned to it."""

    def __init__(self, checkpoint: str) -> None:
        from model.checkpoint import load_with_media
        from workers.recognizer import Recognizer

        self._recognizer = Recognizer(load_with_media(checkpoint))

    async def label(self, session: str, number: int, heard: Heard) -> Step:
        return await self._recognizer.label(session, number, heard)

    async def peek(self, session: str, number: int, heard: Heard) -> Judgement | None:
        return self._recognizer.peek(session, number, heard)

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
        from model.checkpoint import load_with_media
        from stream.bus import Bus, Keys

        config = load_with_media(plan.checkpoint).config
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
    faces: Any = None

    def __post_init__(self) -> None:
        self._turn = itertools.count()

    async def ready(self) -> None:
        """Wait until all have loaded what they need. Raises RayError with the cause of the first that cannot."""
        actors = [*self.transcribers, self.encoder, self.recognizer, *([self.faces] if self.faces else [])]
        await asyncio.gather(*(actor.health.remote() for actor in actors))

    async def transcribe(self, samples: Samples, language: str | None) -> Recognized:
        actor = self.transcribers[next(self._turn) % len(self.transcribers)]
        words: Recognized = await actor.transcribe.remote(samples, language)
        return words

    async def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        read: tuple[Array, Array | None] = await self.encoder.embed.remote(lines)
        return read

    async def hear(self, samples: Samples) -> tuple[Array | None, Array | None]:
        heard: tuple[Array | None, Array | None] = await self.encoder.hear.remote(samples)
        return heard

    async def look(self, images: list[Any], times: list[float], samples: Samples, start: float) -> Sight:
        seen: Sight = await self.faces.look.remote(images, times, samples, start)
        return seen

    async def voices(self, samples: Samples) -> list[Part]:
        parts: list[Part] = await self.encoder.voices.remote(samples)
        return parts

    async def label(self, session: str, number: int, heard: Heard) -> Step:
        step: Step = await self.recognizer.label.remote(session, number, heard)
        return step

    async def peek(self, session: str, number: int, heard: Heard) -> Judgement | None:
        judgement: Judgement | None = await self.recognizer.peek.remote(session, number, heard)
        return judgement

    async def restore(self, session: str, rows: list[GraphRow]) -> None:
        await self.recognizer.restore.remote(session, rows)

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Judgement]:
        owed: list[Judgement] = await self.recognizer.finish.remote(session, rows)
        return owed


@contextmanager
def ray_cluster(address: str | None, trace: bool = False) -> Iterator[None]:
    """Ray for as long as the context lasts: the cluster at `address`, else a private one on this machine.

    trace: calls between actors become OpenTelemetry spans (in a cluster, `ray start` decides that).

    Raises ClusterError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address not in (None, "auto") and "://" not in str(address):
        _reachable(str(address))
    if address is None:
        options |= {"num_cpus": max(2, os.cpu_count() or 1), "include_dashboard": False}
    if trace and address is None:
        options["_tracing_startup_hook"] = "workers.tracing:export_spans"
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


def start_pools(plan: SessionPlan, needs: Needs) -> Pools:
    """The actors that `plan` needs, new ones or those that sessions of the same kind share already."""
    few = max(1, (os.cpu_count() or 2) // 2)
    transcribers = []
    if needs.asr is not None:
        kind, folder = needs.asr
        for n in range(min(4, few)):
            name = f"transcriber:{kind}:{folder or 'default'}:{n}"
            transcribers.append(cast(Any, TranscriberActor).options(name=name, **POOL).remote(kind, folder))
    name = f"encoder:{plan.checkpoint}:{needs.voice or 'default'}"
    encoder = cast(Any, EncoderActor).options(name=name, **POOL).remote(plan.checkpoint, needs.voice)
    recognizer = cast(Any, RecognizerActor).options(name=f"recognizer:{plan.checkpoint}", **POOL)
    faces = None
    if needs.detector is not None:
        name = ":".join(("faces", needs.detector, *needs.expression))
        faces = cast(Any, FaceActor).options(name=name, **POOL).remote(needs.detector, list(needs.expression))
    return Pools(transcribers, encoder, recognizer.remote(plan.checkpoint), faces)


class RemoteSession:
    """A conversation in a named actor of its own, fed from here."""

    def __init__(self, plan: SessionPlan, redis: str, prefix: str, pools: Pools) -> None:
        """Raises ClusterError when the id is taken."""
        options = {"name": f"session:{plan.session}", "namespace": NAMESPACE, "lifetime": "detached"}
        actor = cast(Any, SessionActor).options(max_pending_calls=100, num_cpus=SHARE, **options)
        try:
            self._actor = actor.remote(plan, redis, prefix, pools)
        except ValueError as error:
            raise ClusterError(f"session {plan.session} runs already ({str(error).splitlines()[0]})") from None

    async def start(self) -> None:
        await self._actor.start.remote()

    async def push(self, block: Block) -> None:
        await self._actor.push.remote(block)

    async def finish(self, reason: str, counts: dict[str, int]) -> None:
        await self._actor.finish.remote(reason, counts)

    def kill(self) -> None:
        ray.kill(self._actor)


def stop_all() -> list[str]:
    """Kill every actor of ours in the connected cluster; returns their names."""
    stopped = []
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(entry["name"], namespace=NAMESPACE))
            stopped.append(entry["name"])
    return stopped
