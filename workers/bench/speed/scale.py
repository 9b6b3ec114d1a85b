"""`undertone bench scale`: what an utterance costs in Ray and Redis as the same load is spread over more nodes."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.cluster_utils import Cluster

from model.fusion.checkpoint import load_step
from model.fusion.config import FusionConfig
from model.fusion.dialogue import UtteranceFeatures
from model.progress import Progress
from stream.block import Utterance
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.server import private_server
from stream.events import Modalities
from workers.cluster.actors import ray_cluster
from workers.cluster.pools import node_of, start_recognizer, working_nodes
from workers.console.tables import Rows
from workers.session.event_factory import EventFactory
from workers.session.services import SessionPlan
from workers.session.utterance import AdmittedUtterance, SpokenLine, UnderstoodUtterance

CHECKPOINT = "meld"
WARM_UP = 1.0  # seconds of load that do not count
STORE = 80 << 20  # bytes of object store a node: nothing of ours is large enough to go there


@dataclass(frozen=True)
class Load:
    """What the nodes are given, however many they are."""

    sessions: int
    rate: float
    """Utterances a second, of all sessions together, whether or not those before are done."""
    seconds: float


@dataclass(frozen=True)
class _Told:
    """An utterance that was labelled and published; seconds."""

    session: str
    number: int
    whole: float
    """Since it was due."""
    call: float
    """From the call until its label was there."""
    publish: float


def bench_scale(nodes: Sequence[int], load: Load, progress: Progress) -> tuple[Rows, Rows]:
    """Rows of what an utterance costs, and of how the sessions spread, by number of nodes, simulated on this machine.

    Milliseconds at the median and 95 %; ratios are of medians, to the first number of nodes. Recognizer: the time
    inside it. Ray: from the call to the label, without that. Redis: from `Bus.publish` to the answer. Whole: from when
    the utterance was due to when its label was published. Fullest: sessions on the node with the most, by the mean.
    """
    costs: Rows = []
    spread: Rows = []
    for n, count in enumerate(nodes):
        progress.step("clusters", n, len(nodes))
        with private_server() as redis, simulated_cluster(count):
            taken, places = asyncio.run(_measure(load, redis))
        for part, seconds in taken.items():
            p50, p95 = (round(1000 * float(each), 3) for each in np.percentile(seconds, [50, 95]))
            unit = next((row["ms, median"] for row in costs if row["part"] == part), p50)
            costs.append({"nodes": count, "part": part, "ms, median": p50, "95 %": p95, "ratio": round(p50 / unit, 2)})
        fullest = max(places.values()) * count / load.sessions
        utterances = len(taken["whole"])
        spread.append(
            {"nodes": count, "sessions": load.sessions, "fullest": round(fullest, 2), "utterances": utterances}
        )
    return costs, spread


@contextmanager
def simulated_cluster(nodes: int) -> Iterator[Cluster]:
    """Nodes of one CPU each on this machine, beside a head that takes no work; this process is at the head."""
    cluster = Cluster()
    with tempfile.TemporaryDirectory(prefix="undertone-ray-", ignore_cleanup_errors=True) as folder:
        # Of its own, so that the address of a cluster that runs on this machine is not written over.
        before, os.environ["RAY_TMPDIR"] = os.environ.get("RAY_TMPDIR"), folder
        try:
            for cpus in (0, *[1] * nodes):
                cluster.add_node(wait=False, num_cpus=cpus, include_dashboard=False, object_store_memory=STORE)
            cluster.wait_for_nodes()
            with ray_cluster(cluster.address):
                yield cluster
        finally:
            cluster.shutdown()
            os.environ.pop("RAY_TMPDIR")
            if before is not None:
                os.environ["RAY_TMPDIR"] = before


async def _measure(load: Load, redis: str) -> tuple[dict[str, list[float]], Counter[str]]:
    """Seconds an utterance by part, and sessions by node."""
    config, nodes = load_step(CHECKPOINT).config, working_nodes()
    recognizers = {node: start_recognizer(CHECKPOINT, node) for node in nodes}
    await asyncio.gather(*(actor.__ray_call__.remote(watch) for actor in recognizers.values()))
    places = {session: node_of(session, nodes) for session in (f"scale-{n}" for n in range(load.sessions))}
    begin, rng = time.monotonic() + 0.5, np.random.default_rng(0)
    work = []
    for n, (session, node) in enumerate(places.items()):
        turns = np.arange(n, load.rate * (WARM_UP + load.seconds), load.sessions)
        dues = begin + (turns + rng.uniform(0, 1, len(turns))) / load.rate
        bus = Bus(redis, Keys(session, "bench"))
        work.append(_converse(session, recognizers[node], synthetic(config, n), bus, dues.tolist(), begin + WARM_UP))
    told = [each for part in await asyncio.gather(*work) for each in part]
    inside: dict[tuple[str, int], float] = {}
    for actor in recognizers.values():
        inside |= await actor.__ray_call__.remote(watched)
    taken = {
        "recognizer": [inside[each.session, each.number] for each in told],
        "Ray": [each.call - inside[each.session, each.number] for each in told],
        "Redis": [each.publish for each in told],
        "whole": [each.whole for each in told],
    }
    return taken, Counter(places.values())


async def _converse(
    session: str, recognizer: Any, heard: UtteranceFeatures, bus: Bus, dues: list[float], counts: float
) -> list[_Told]:
    """Label and publish an utterance at each of these times; gives those that were due from `counts` on."""
    told = []
    encoders: dict[str, str | None] = {"text": None, "audio": None, "visual": None, "asr": None}
    plan = SessionPlan(session, ("synthetic",), 1, "channel", ("text", "audio"), encoders, CHECKPOINT)
    factory = EventFactory(plan, ())
    for number, due in enumerate(dues):
        await asyncio.sleep(due - time.monotonic())
        asked = time.monotonic()
        step = await recognizer.label.remote(session, number, heard)
        call = time.monotonic() - asked
        spoken = Utterance(0, 3.0 * number, 3.0 * number + 2, np.zeros(0, np.float32), 3.0 * number + 2.5)
        admitted = AdmittedUtterance(number, spoken, "speaker 1", asked, SpokenLine("speaker 1"))
        nothing = Modalities(used=[], missing=[])
        bus.publish(factory.emotion(admitted, UnderstoodUtterance(), step.judgement, nothing, {}))
        await bus.flush()
        if due >= counts:
            told.append(_Told(session, number, time.monotonic() - due, call, bus.delay))
    await bus.aclose()
    return told


def synthetic(config: FusionConfig, n: int) -> UtteranceFeatures:
    """What the encoders might have made of an utterance."""
    rng = np.random.default_rng(n)
    features = {name: rng.normal(size=width).astype(np.float32) for name, width in config.inputs.items()}
    opinions = {name: rng.dirichlet(np.ones(len(config.emotions))).astype(np.float32) for name in config.experts}
    return UtteranceFeatures(features, 0, opinions)


def watch(actor: Any) -> None:
    """In the recognizer's process: note how long it takes over each label."""
    recognizer, taken = actor._recognizer, {}
    label = recognizer.label

    async def timed(session: str, number: int, heard: UtteranceFeatures) -> Any:
        started = time.monotonic()
        step = await label(session, number, heard)
        taken[session, number] = time.monotonic() - started
        return step

    recognizer.label, recognizer.taken = timed, taken


def watched(actor: Any) -> Any:
    return actor._recognizer.taken
