"""The shared actors of a node. Each node of the cluster is complete, and all calls of a session stay on one."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from model.encoders.face_observation import FaceObservation
from model.encoders.prosody import Array
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.incremental import Prediction, StepResult
from stream.block import Samples
from workers.cluster.actors import (
    CPU_SHARE,
    NAMESPACE,
    ClusterError,
    EncoderActor,
    FaceActor,
    RecognizerActor,
    TranscriberActor,
)
from workers.session.diarization import SpeakerSegment
from workers.session.services import GraphStateMissing, ModelRequirements, ServiceError, SessionPlan

# Ray's defaults are wrong for us: actors come back, calls are tried again (all are idempotent or pure),
# queues are bounded.
POOL: dict[str, Any] = {
    "num_cpus": CPU_SHARE,
    "max_restarts": -1,
    "max_task_retries": 3,
    "max_pending_calls": 1000,
    "enable_task_events": False,  # else Ray's control store grows with every call
    "lifetime": "detached",
    "namespace": NAMESPACE,
    "get_if_exists": True,
}
MAX_ENCODERS = 8  # a node, at most, and one for two of its cores; a session keeps to one, so that few sessions load few
MAX_TRANSCRIBERS = 4  # a node, at most, and no more than its cores: each holds a model and works on one core


async def answer(call: Awaitable[Any]) -> Any:
    """An actor's answer. Raises ServiceError for whatever Ray raises, and GraphStateMissing as it is."""
    try:
        return await call
    except GraphStateMissing:
        raise
    except RayError as error:
        raise ServiceError(getattr(error, "cause", None) or error) from None


@dataclass
class Pools:
    """The shared actors of a node, as a session's `workers.session.services.InferenceBackend`."""

    transcribers: list[Any]
    encoders: list[Any]
    """The session's own; all of the node's, where they are only loaded."""
    recognizer: Any
    faces: Any = None
    loading: Callable[[dict[str, bool]], None] | None = None
    """Told by `ready` what is loaded, and what not yet, whenever that changes."""

    def __post_init__(self) -> None:
        self._turn = itertools.count()

    async def ready(self) -> None:
        """Wait until all have loaded what they need. Raises ServiceError with the cause of the first that cannot."""
        parts = {
            "speech recognition": self.transcribers,
            "encoders of words and voice": self.encoders,
            "faces": [self.faces] if self.faces else [],
            "emotion model": [self.recognizer],
        }
        loaded = {name: False for name, actors in parts.items() if actors}

        async def load(name: str) -> None:
            await asyncio.gather(*(answer(actor.health.remote()) for actor in parts[name]))
            loaded[name] = True
            if self.loading is not None:
                self.loading(dict(loaded))

        if self.loading is not None:
            self.loading(dict(loaded))
        await asyncio.gather(*(load(name) for name in loaded))

    async def transcribe(self, samples: Samples, language: str | None, partial: bool = False) -> Transcription:
        actor = self.transcribers[next(self._turn) % len(self.transcribers)]
        words: Transcription = await answer(actor.transcribe.remote(samples, language, partial))
        return words

    async def languages(self, text: str) -> dict[str, float]:
        told: dict[str, float] = await answer(self.encoders[0].languages.remote(text))
        return told

    async def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        read: tuple[Array, Array | None] = await answer(self.encoders[0].embed.remote(lines))
        return read

    async def encode_audio(self, samples: Samples) -> tuple[Array | None, Array | None]:
        encoded: tuple[Array | None, Array | None] = await answer(self.encoders[0].encode_audio.remote(samples))
        return encoded

    async def analyse_faces(
        self, images: list[Any], times: list[float], samples: Samples, start: float
    ) -> FaceObservation:
        seen: FaceObservation = await answer(self.faces.analyse_faces.remote(images, times, samples, start))
        return seen

    async def speaker_segments(self, samples: Samples) -> list[SpeakerSegment]:
        parts: list[SpeakerSegment] = await answer(self.encoders[0].speaker_segments.remote(samples))
        return parts

    async def label(self, session: str, number: int, features: UtteranceFeatures) -> StepResult:
        step: StepResult = await answer(self.recognizer.label.remote(session, number, features))
        return step

    async def preview(self, session: str, number: int, features: UtteranceFeatures) -> Prediction | None:
        prediction: Prediction | None = await answer(self.recognizer.preview.remote(session, number, features))
        return prediction

    async def restore(self, session: str, rows: list[GraphRow]) -> None:
        await answer(self.recognizer.restore.remote(session, rows))

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Prediction]:
        owed: list[Prediction] = await answer(self.recognizer.finish.remote(session, rows))
        return owed


def node_of(session: str, nodes: Mapping[str, float]) -> str:
    """The node of a session: weighted rendezvous hashing, `nodes` being CPUs by node id.

    Every process finds the same one without asking. A node gets sessions by its share of the CPUs; one that comes
    takes its share from the others, one that goes leaves its own to them, and no other session has another place.
    """

    def score(node: str) -> float:
        digest = blake2b(f"{node} {session}".encode(), digest_size=8).digest()
        return -nodes[node] / math.log((int.from_bytes(digest) + 0.5) / 2**64)

    return max(nodes, key=score)


def working_nodes() -> dict[str, float]:
    """CPUs of the nodes that live and have any, by node id. Raises ClusterError when there is none."""
    nodes = {node["NodeID"]: float(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]}
    working = {node: cpus for node, cpus in nodes.items() if cpus > 0}
    if not working:
        raise ClusterError("no node of the Ray cluster has CPUs to work with")
    return working


def on_node(node: str) -> NodeAffinitySchedulingStrategy:
    """Scheduling on a node, or on any other once it is gone."""
    return NodeAffinitySchedulingStrategy(node, soft=True)


def start_recognizer(checkpoint: str, node: str) -> Any:
    """The node's recognizer of a checkpoint, a new one or the one that is there."""
    return _start(RecognizerActor, f"recognizer:{checkpoint}", node, checkpoint)


def start_pools(plan: SessionPlan, needs: ModelRequirements, node: str | None = None) -> Pools:
    """The actors that `plan` needs, on a node (its id; None = where the session's id belongs): new ones, or those that
    sessions of the same kind share there already.

    Raises ClusterError.
    """
    nodes = working_nodes()
    node = node or node_of(plan.session, nodes)
    return start_models(plan.checkpoint, needs, node, nodes, [encoder_of(plan.session, nodes.get(node, 0))])


def encoders_of(cpus: float) -> int:
    """Number of encoders on a node of so many CPUs, once sessions need them."""
    return max(1, min(MAX_ENCODERS, int(cpus // 2)))


def encoder_of(session: str, cpus: float) -> int:
    """The number of a session's encoder on a node of so many CPUs: always the same, and each equally often."""
    return int.from_bytes(blake2b(session.encode(), digest_size=8).digest()) % encoders_of(cpus)


def start_models(
    checkpoint: str,
    needs: ModelRequirements,
    node: str,
    nodes: Mapping[str, float],
    encoders: Sequence[int] | None = None,
) -> Pools:
    """The same on a node, for any session of this checkpoint; nodes: as `working_nodes` returns them. encoders: the
    numbers of those that are needed; None: all."""
    transcribers = []
    if needs.asr is not None:
        for n in range(min(MAX_TRANSCRIBERS, max(1, int(nodes.get(node, 0))))):
            name = f"transcriber:{needs.asr}:{n}"
            transcribers.append(_start(TranscriberActor, name, node, needs.asr))
    kind = f"encoder:{checkpoint}:{needs.voice or 'default'}"
    numbers = range(encoders_of(nodes.get(node, 0))) if encoders is None else encoders
    started = [_start(EncoderActor, f"{kind}:{n}", node, checkpoint, needs.voice) for n in numbers]
    faces = _start(FaceActor, "faces", node) if needs.faces else None
    return Pools(transcribers, started, start_recognizer(checkpoint, node), faces)


def _start(kind: Any, name: str, node: str, *arguments: Any) -> Any:
    return kind.options(name=f"{name}@{node[:12]}", scheduling_strategy=on_node(node), **POOL).remote(*arguments)
