"""`undertone bench scale`: cost of an utterance in Ray and Redis when the same load is spread over more nodes."""

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
WARM_UP_S = 1.0  # of load that is not counted
OBJECT_STORE_BYTES = 80 << 20  # of a node: our messages are too small for it


@dataclass(frozen=True)
class Load:
    """The load, the same for any number of nodes."""

    sessions: int
    rate: float
    """Utterances a second of all sessions together, whether or not earlier ones are done."""
    seconds: float


@dataclass(frozen=True)
class _Published:
    """A labelled and published utterance; times in seconds."""

    session: str
    number: int
    whole: float
    """From its due time to its publication."""
    call: float
    """From the call to its label."""
    publish: float


def bench_scale(nodes: Sequence[int], load: Load, progress: Progress) -> tuple[Rows, Rows]:
    """Rows of an utterance's costs, and of the distribution of sessions, by number of simulated nodes on this machine.

    Milliseconds at the median and 95 %; ratios of medians to those of the first number of nodes. Recognizer: the time
    inside it. Ray: from the call to the label, without that. Redis: from `Bus.publish` to the answer. Whole: from the
    utterance's due time to the publication of its label. Fullest: sessions on the fullest node, relative to the mean.
    """
    costs: Rows = []
    spread: Rows = []
    for n, count in enumerate(nodes):
        progress.step("clusters", n, len(nodes))
        with private_server() as redis, simulated_cluster(count):
            taken, places = asyncio.run(_measure(load, redis))
        for part, seconds in taken.items():
            p50, p95 = (round(1000 * float(one), 3) for one in np.percentile(seconds, [50, 95]))
            unit = next((row["ms, median"] for row in costs if row["part"] == part), p50)
            costs.append({"nodes": count, "part": part, "ms, median": p50, "95 %": p95, "ratio": round(p50 / unit, 2)})
        fullest = max(places.values()) * count / load.sessions
        utterances = len(taken["whole"])
        spread.append(
            {"nodes": count, "sessions": load.sessions, "fullest": round(fullest, 2), "utterances": utterances}
        )
    return costs, spread


@contextmanager
def simulated_cluster(nodes: int, gpus: int = 0) -> Iterator[Cluster]:
    """Cluster of nodes with one CPU each on this machine, and a head node without work, at which this process is. The
    first `gpus` nodes say that they have a GPU."""
    cluster = Cluster()
    with tempfile.TemporaryDirectory(prefix="undertone-ray-", ignore_cleanup_errors=True) as folder:
        # Of its own, so that the address of a cluster that runs on this machine is not written over.
        before, os.environ["RAY_TMPDIR"] = os.environ.get("RAY_TMPDIR"), folder
        try:
            options = {"wait": False, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            cluster.add_node(num_cpus=0, **options)
            for node in range(nodes):
                cluster.add_node(num_cpus=1, num_gpus=int(node < gpus), **options)
            cluster.wait_for_nodes()
            with ray_cluster(cluster.address):
                yield cluster
        finally:
            cluster.shutdown()
            os.environ.pop("RAY_TMPDIR")
            if before is not None:
                os.environ["RAY_TMPDIR"] = before


async def _measure(load: Load, redis: str) -> tuple[dict[str, list[float]], Counter[str]]:
    """Seconds of each utterance by part, and sessions by node."""
    config, nodes = load_step(CHECKPOINT).config, working_nodes()
    recognizers = {node: start_recognizer(CHECKPOINT, node) for node in nodes}
    await asyncio.gather(*(actor.__ray_call__.remote(watch) for actor in recognizers.values()))
    places = {session: node_of(session, nodes) for session in (f"scale-{n}" for n in range(load.sessions))}
    begin, rng = time.monotonic() + 0.5, np.random.default_rng(0)
    work = []
    for n, (session, node) in enumerate(places.items()):
        turns = np.arange(n, load.rate * (WARM_UP_S + load.seconds), load.sessions)
        dues = begin + (turns + rng.uniform(0, 1, len(turns))) / load.rate
        bus = Bus(redis, Keys(session, "bench"))
        work.append(_converse(session, recognizers[node], synthetic(config, n), bus, dues.tolist(), begin + WARM_UP_S))
    published = [one for part in await asyncio.gather(*work) for one in part]
    inside: dict[tuple[str, int], float] = {}
    for actor in recognizers.values():
        inside |= await actor.__ray_call__.remote(watched)
    taken = {
        "recognizer": [inside[one.session, one.number] for one in published],
        "Ray": [one.call - inside[one.session, one.number] for one in published],
        "Redis": [one.publish for one in published],
        "whole": [one.whole for one in published],
    }
    return taken, Counter(places.values())


async def _converse(
    session: str, recognizer: Any, utterance: UtteranceFeatures, bus: Bus, dues: list[float], counts: float
) -> list[_Published]:
    """Label and publish an utterance at each due time; returns those that were due from `counts` on."""
    published = []
    encoders: dict[str, str | None] = {"text": None, "audio": None, "visual": None, "asr": None}
    plan = SessionPlan(session, ("synthetic",), 1, "channel", ("text", "audio"), encoders, CHECKPOINT)
    factory = EventFactory(plan, ())
    for number, due in enumerate(dues):
        await asyncio.sleep(due - time.monotonic())
        called = time.monotonic()
        step = await recognizer.label.remote(session, number, utterance)
        call = time.monotonic() - called
        spoken = Utterance(0, 3.0 * number, 3.0 * number + 2, np.zeros(0, np.float32), 3.0 * number + 2.5)
        admitted = AdmittedUtterance(number, spoken, "speaker 1", called, SpokenLine("speaker 1"))
        nothing = Modalities(used=[], missing=[])
        bus.publish(factory.emotion(admitted, UnderstoodUtterance(), step.prediction, nothing, {}))
        await bus.flush()
        if due >= counts:
            published.append(_Published(session, number, time.monotonic() - due, call, bus.delay))
    await bus.aclose()
    return published


def synthetic(config: FusionConfig, n: int) -> UtteranceFeatures:
    """Random features and posteriors of an utterance."""
    rng = np.random.default_rng(n)
    features = {name: rng.normal(size=width).astype(np.float32) for name, width in config.inputs.items()}
    posteriors = {name: rng.dirichlet(np.ones(len(config.emotions))).astype(np.float32) for name in config.experts}
    return UtteranceFeatures(features, 0, posteriors)


def watch(actor: Any) -> None:
    """Record the duration of each label in the recognizer's process."""
    recognizer, taken = actor._recognizer, {}
    label = recognizer.label

    async def timed(session: str, number: int, utterance: UtteranceFeatures) -> Any:
        started = time.monotonic()
        step = await label(session, number, utterance)
        taken[session, number] = time.monotonic() - started
        return step

    recognizer.label, recognizer.taken = timed, taken


def watched(actor: Any) -> Any:
    return actor._recognizer.taken
