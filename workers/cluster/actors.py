"""Ray: thin actors over the plain objects, and the cluster that they are in.

Methods of the actors are those of `workers.session.services.InferenceBackend`, with its shapes and units.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError, RayError

from model.device import Device, without_cuda
from model.encoders.face_observation import FaceObservation
from model.encoders.prosody import Array
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.incremental import Prediction, StepResult
from stream.block import Samples
from stream.private import SHORT_ROOT, short_private_folder
from workers.console.terminal import libraries_log, set_libraries_aside
from workers.errors import WorkersError
from workers.inference.batching import Batcher
from workers.inference.encoders import Encoders, load_transcriber
from workers.session.diarization import SpeakerSegment, Stretches

NAMESPACE = "undertone"
NODE_PATIENCE_S = 10  # of our own question whether Ray's node is there
CPU_SHARE = 0.05  # of a core charged for an actor: one that waits costs nothing, and a laptop has room for all kinds


class ClusterError(WorkersError):
    """Ray cannot be used."""


@ray.remote(concurrency_groups={"health": 1})
class TranscriberActor:
    """Words of utterances; those of several sessions that wait at the same time go through the model together.

    Partial words, of utterances that go on, wait until no utterance that has ended does.
    """

    def __init__(self, model: str, device: Device) -> None:
        from model.encoders.asr import transcribe_together

        self._recognizer = load_transcriber(model, device)
        self._batches: Batcher[tuple[Samples, str | None], Transcription] = Batcher(
            lambda utterances: self._recognizer(lambda asr: transcribe_together(asr, utterances)), limit=8
        )

    async def transcribe(self, samples: Samples, language: str | None, partial: bool = False) -> Transcription:
        return await self._batches((samples, language), urgent=not partial)

    @ray.method(concurrency_group="health")
    async def health(self) -> list[str]:
        return [self._recognizer.fault] if self._recognizer.fault else []


@ray.remote(concurrency_groups={"text": 1, "audio": 1, "voice": 1, "speaker": 1, "health": 1})
class EncoderActor:
    """Embeddings of words; prosody, emotion and speaker of a voice; each kind in a thread of its own."""

    def __init__(self, checkpoint: str, voice: str | None, device: Device) -> None:
        self._encoders = Encoders(checkpoint, voice, device)

    @ray.method(concurrency_group="text")
    def languages(self, text: str) -> dict[str, float]:
        return self._encoders.languages(text)

    @ray.method(concurrency_group="text")
    def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        return self._encoders.embed(lines)

    @ray.method(concurrency_group="audio")
    def encode_audio(self, samples: Samples) -> tuple[Array | None, VoiceObservation]:
        return self._encoders.encode_audio(samples)

    @ray.method(concurrency_group="voice")
    def judge_voice(self, states: Array, recognizer_states: Array) -> VoiceObservation:
        return self._encoders.judge_voice(states, recognizer_states)

    @ray.method(concurrency_group="speaker")
    def speaker_segments(self, samples: Samples, alone: Stretches | None) -> list[SpeakerSegment]:
        return self._encoders.speaker_segments(samples, alone)

    @ray.method(concurrency_group="health")
    def health(self) -> list[str]:
        return self._encoders.faults


@ray.remote(concurrency_groups={"health": 1})
class FaceActor:
    """Faces and their expressions."""

    def __init__(self) -> None:
        from model.encoders.faces import FaceReader

        self._reader = FaceReader()

    def analyse_faces(self, images: list[Any], times: list[float], samples: Samples, start: float) -> FaceObservation:
        return self._reader(images, times, samples, start)

    @ray.method(concurrency_group="health")
    def health(self) -> list[str]:
        return []


@ray.remote(concurrency_groups={"health": 1})
class RecognizerActor:
    """The graph states of the sessions assigned to it."""

    def __init__(self, checkpoint: str, device: Device) -> None:
        from workers.inference.recognizer import load_recognizer

        self._recognizer = load_recognizer(checkpoint, device)

    async def label(self, session: str, number: int, features: UtteranceFeatures) -> StepResult:
        return await self._recognizer.label(session, number, features)

    async def preview(self, session: str, number: int, features: UtteranceFeatures) -> Prediction | None:
        return self._recognizer.preview(session, number, features)

    async def restore(self, session: str, rows: list[GraphRow]) -> None:
        self._recognizer.restore(session, rows)

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Prediction]:
        return self._recognizer.finish(session, rows)

    @ray.method(concurrency_group="health")
    async def health(self) -> list[str]:
        return [self._recognizer.fault] if self._recognizer.fault else []


def _name() -> str:
    """Name of this process in Ray's table of jobs: its command line has addresses, and names that are not Unicode."""
    return "undertone"


def _no_api_server(node: Any, **_: Any) -> None:
    """In place of a process that Ray starts, and waits for, even where no dashboard is wanted."""


_get_node = ray._private.services.get_node


def _node_when_registered(gcs_address: str, node: str) -> Any:
    """The answer to Ray's question for its own node, which Ray would repeat once a second."""
    with suppress(RayError, RuntimeError):
        nodes, until = ray._raylet.GcsClient(address=gcs_address), time.monotonic() + NODE_PATIENCE_S
        while node not in {each.hex() for each in nodes.get_all_node_info()} and time.monotonic() < until:
            time.sleep(0.02)
    return _get_node(gcs_address, node)


class _AwayFromSignals(subprocess.Popen[bytes]):
    """A process of Ray, in a process group of its own.

    What is sent to ours (`timeout` and supervisors do so) is for the command, which ends its sessions while Ray lives.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, process_group=0)


@contextmanager
def ray_cluster(address: str | None, trace: bool = False) -> Iterator[None]:
    """Ray for as long as the context lasts: the cluster at `address`, else a private one on this machine.

    trace: calls between actors become OpenTelemetry spans (in a cluster, `ray start` decides that).

    Raises ClusterError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "auto" and (address := own_cluster()) is None:
        raise ClusterError("Ray does not start: you have no cluster on this machine (ray start); give HOST:PORT")
    if address is not None and "://" not in address:
        _reachable(address)
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "3")  # it answers, or does not let us in
    if address is None:
        _lock()
        options |= {"num_cpus": max(2, os.cpu_count() or 1), "include_dashboard": False}
        if without_cuda():
            options["num_gpus"] = 0  # else Ray counts those that PyTorch cannot use
        # Two waits of the start, of 2 s together; another version of Ray may keep them.
        ray._private.node.Node.start_api_server = _no_api_server
        ray._private.services.get_node = _node_when_registered
        # Ray lets everybody into its folder, with logs, sockets and what does not fit into memory: so it lies below one
        # that lets in nobody.
        options["_temp_dir"] = str(short_private_folder(Path(os.environ.get("RAY_TMPDIR") or SHORT_ROOT)) / "ray")
    if trace and address is None:
        options["_tracing_startup_hook"] = "workers.session.tracing:export_spans"
    try:
        # "local", because None would join whatever cluster $RAY_ADDRESS or the last `ray start` points to.
        set_libraries_aside()
        ray._private.utils.get_entrypoint_name = _name
        ray._private.services.ConsolePopen = _AwayFromSignals
        ray.init(address=address or "local", **options)
    except Exception as error:  # on a machine that is too busy, Ray raises just that
        if isinstance(error, AuthenticationError) or "AuthToken" in str(error.__cause__):
            wanted = "this cluster wants its token (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH=FILE)"
            raise ClusterError(f"Ray does not start: {wanted}") from None
        raise ClusterError(f"Ray does not start: {str(error).splitlines()[0]} (its lines: {libraries_log()})") from None
    try:
        yield
    finally:
        ray.shutdown()


def own_node_is_dead() -> bool:
    """True if Ray has declared the node of this process dead, which is final: its raylet ends, and a new one would be
    another node. False while nobody answers, and for a node that is only late, which Ray asks for most of a minute.
    """
    if not ray.is_initialized():  # any other question would start one
        return False
    try:
        own = ray.get_runtime_context().get_node_id()
        return any(node["NodeID"] == own and not node["Alive"] for node in ray.nodes())
    except Exception:  # the control store is away or busy: the next look may tell
        return False


def _lock() -> None:
    """A token for a private cluster: it listens on all of the machine's addresses, and runs code for whoever gets in.

    Ray asks for one by itself, but would keep it in the home folder, for everything; ours ends with this process.
    """
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def own_cluster() -> str | None:
    """Address of the Ray cluster that is $RAY_ADDRESS, or that this user started on this machine with `ray start`.

    Ray itself would take any that runs here, another user's, too: it could run code in our name.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    root = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_ROOT
    try:
        with (Path(root) / "ray/ray_current_cluster").open(encoding="utf-8") as file:
            mine = os.fstat(file.fileno()).st_uid == os.geteuid()
            return file.read().strip() or None if mine else None
    except OSError:
        return None


def _reachable(address: str) -> None:
    """Ray itself would wait for minutes for a cluster that is not there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ClusterError(f"Ray does not start: no cluster at {address} ({error})") from None


def stop_all() -> list[str]:
    """Kill every actor of ours in the connected cluster; returns their names."""
    stopped = []
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(entry["name"], namespace=NAMESPACE))
            stopped.append(entry["name"])
    return stopped
