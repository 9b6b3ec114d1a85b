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

from model.device import Device, DeviceChoice
from model.encoders.face_observation import FaceObservation
from model.encoders.prosody import Array
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
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
from workers.session.diarization import SpeakerSegment, Stretches
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
GPU_SHARE = 0.01  # of a GPU charged for an actor, as `CPU_SHARE`; what it takes, the actors share between them
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
    device: Device = "cpu"
    """Device of the models that can use a GPU."""
    lacking: str | None = None
    """Reason that this is the CPU although a GPU is wanted, a line."""
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

    async def faults(self) -> list[str]:
        if self.device == "cpu":
            return [self.lacking] if self.lacking else []
        actors = (*self.transcribers, *self.encoders, self.recognizer)
        told = await asyncio.gather(*(answer(actor.health.remote()) for actor in actors))
        return list(dict.fromkeys(fault for faults in told for fault in faults))

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

    async def encode_audio(self, samples: Samples) -> tuple[Array | None, VoiceObservation]:
        encoded: tuple[Array | None, VoiceObservation] = await answer(self.encoders[0].encode_audio.remote(samples))
        return encoded

    async def judge_voice(self, states: Array, recognizer_states: Array) -> VoiceObservation:
        judged: VoiceObservation = await answer(self.encoders[0].judge_voice.remote(states, recognizer_states))
        return judged

    async def analyse_faces(
        self, images: list[Any], times: list[float], samples: Samples, start: float
    ) -> FaceObservation:
        seen: FaceObservation = await answer(self.faces.analyse_faces.remote(images, times, samples, start))
        return seen

    async def speaker_segments(self, samples: Samples, alone: Stretches | None) -> list[SpeakerSegment]:
        parts: list[SpeakerSegment] = await answer(self.encoders[0].speaker_segments.remote(samples, alone))
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


def working_nodes(device: DeviceChoice = "auto") -> dict[str, float]:
    """CPUs of the nodes that live and have any, by node id. device: "cuda" for those with a GPU alone. Raises
    ClusterError when there is none."""
    working = {
        node["NodeID"]: float(node["Resources"]["CPU"])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) and (device != "cuda" or node["Resources"].get("GPU", 0))
    }
    if not working:
        what = "a GPU (--device cuda)" if device == "cuda" else "CPUs to work with"
        raise ClusterError(f"no node of the Ray cluster has {what}")
    return working


def has_gpu(node: str) -> bool:
    """True for a node (its id) with a GPU that Ray knows of."""
    return any(each["NodeID"] == node and each["Resources"].get("GPU", 0) for each in ray.nodes())


def on_node(node: str) -> NodeAffinitySchedulingStrategy:
    """Scheduling on a node, or on any other once it is gone."""
    return NodeAffinitySchedulingStrategy(node, soft=True)


def start_recognizer(checkpoint: str, node: str, device: Device = "cpu") -> Any:
    """The node's recognizer of a checkpoint, a new one or the one that is there."""
    return _start(RecognizerActor, f"recognizer:{checkpoint}", node, device, checkpoint)


def start_pools(plan: SessionPlan, needs: ModelRequirements, node: str | None = None) -> Pools:
    """The actors that `plan` needs, on a node (its id; None = where the session's id belongs): new ones, or those that
    sessions of the same kind share there already.

    Raises ClusterError.
    """
    nodes = working_nodes("auto" if node else needs.device)
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
    numbers of those that are needed; None: all. Raises ClusterError."""
    count = min(MAX_TRANSCRIBERS, max(1, int(nodes.get(node, 0))))
    words = [f"transcriber:{needs.asr}:{n}" for n in range(count)] if needs.asr is not None else []
    numbers = range(encoders_of(nodes.get(node, 0))) if encoders is None else encoders
    texts = [f"encoder:{checkpoint}:{needs.voice or 'default'}:{n}" for n in numbers]
    device, lacking = _device_on(node, needs.device, [*words[:1], *texts, f"recognizer:{checkpoint}"])
    if device == "cuda":
        words = words[:1]
    transcribers = [_start(TranscriberActor, name, node, device, needs.asr) for name in words]
    started = [_start(EncoderActor, name, node, device, checkpoint, needs.voice) for name in texts]
    faces = _start(FaceActor, "faces", node) if needs.faces else None
    recognizer = start_recognizer(checkpoint, node, device)
    return Pools(transcribers, started, recognizer, faces, device, lacking)


def _device_on(node: str, choice: DeviceChoice, names: Sequence[str]) -> tuple[Device, str | None]:
    """The device of a node for actors with these names, and the reason why it is the CPU if a GPU is wanted.

    An actor for which Ray has no share of a GPU left would wait for ever.
    """
    if choice == "cpu":
        return "cpu", None
    if not has_gpu(node):
        return "cpu", "models: on the CPU, because this node has no GPU" if choice == "cuda" else None
    there = {entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)}
    new = sum(_name(name, node, "cuda") not in there for name in names)
    if ray._private.state.available_resources_per_node().get(node, {}).get("GPU", 0.0) < new * GPU_SHARE:
        return "cpu", "models: on the CPU, because Ray's other users have taken the GPU"
    return "cuda", None


def _name(name: str, node: str, device: Device | None) -> str:
    return f"{name}{':cuda' if device == 'cuda' else ''}@{node[:12]}"


def _start(kind: Any, name: str, node: str, device: Device | None = None, *arguments: Any) -> Any:
    """device: None for models that always run on the CPU."""
    options = POOL | {"name": _name(name, node, device), "scheduling_strategy": on_node(node)}
    options |= {"num_gpus": GPU_SHARE} if device == "cuda" else {}
    return kind.options(**options).remote(*arguments, *([] if device is None else [device]))
