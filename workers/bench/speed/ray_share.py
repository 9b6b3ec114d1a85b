"""`undertone bench ray`: time that calls between processes add to a label."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.encoders.text import Line
from model.fusion.checkpoint import load_step, resolve
from model.progress import Progress
from stream.block import RATE
from stream.sources.file import read_audio
from workers.bench.speed.scale import CHECKPOINT, synthetic, watch, watched
from workers.cluster.actors import ray_cluster
from workers.cluster.pools import Pools, start_pools
from workers.console.tables import Rows
from workers.session.services import ModelRequirements, SessionPlan

ROUNDS = 100
PACE_S = 0.05  # between calls: a conversation does not saturate the actors

Call = tuple[str, str, tuple[Any, ...]]
"""Name in the table, method of the encoders' actor, arguments."""


def bench_ray(recording: Path, progress: Progress) -> Rows:
    """A row for each remote call for an utterance of 3 s: milliseconds of the round trip, in the actor, and in Ray
    (medians); KB sent and received.

    With speculation only the last call (`waits`: label) is between the endpoint and the label; the others run during
    the silence before it. Raises MediaError.
    """
    samples = read_audio(recording)[0, RATE // 2 : 7 * RATE // 2]
    lines = [Line("abc"[n % 3], "I never said that we should meet on Monday") for n in range(12)]
    calls: list[Call] = [
        ("voices", "speaker_segments", (samples, None)),
        ("hear", "encode_audio", (samples,)),
        ("embed", "embed", (lines,)),
    ]
    with ray_cluster(None):
        plan = SessionPlan("ray", (), 1, "channel", ("text", "audio"), {}, str(resolve(CHECKPOINT).resolve()))
        return asyncio.run(_measure(start_pools(plan, ModelRequirements()), calls, progress))


async def _measure(pools: Pools, calls: list[Call], progress: Progress) -> Rows:
    await pools.ready()
    rows: Rows = []
    for n, (name, called, arguments) in enumerate(calls):
        progress.step("calls", n, len(calls) + 1)
        method, whole, inside = getattr(pools, called), [], []
        for _ in range(ROUNDS):
            await asyncio.sleep(PACE_S)
            started = time.perf_counter()
            answer = await method(*arguments)
            whole.append(time.perf_counter() - started)
            inside.append(await pools.encoders[0].__ray_call__.remote(_timed, called, arguments))
        rows.append(_row(name, "no", whole, inside, arguments, answer))
    progress.step("calls", len(calls), len(calls) + 1)
    utterance, whole = synthetic(load_step(CHECKPOINT).config, 0), []
    await pools.recognizer.__ray_call__.remote(watch)
    for n in range(ROUNDS):
        await asyncio.sleep(PACE_S)
        started = time.perf_counter()
        step = await pools.label("ray", n, utterance)
        whole.append(time.perf_counter() - started)
    taken = await pools.recognizer.__ray_call__.remote(watched)
    rows.append(_row("label", "yes", whole, list(taken.values()), (utterance,), step))
    return rows


def _timed(actor: Any, name: str, arguments: tuple[Any, ...]) -> float:
    """Seconds of the same call inside the actor's process, without Ray."""
    method: Callable[..., object] = getattr(actor, name)
    started = time.perf_counter()
    method(*arguments)
    return time.perf_counter() - started


def _row(name: str, waits: str, whole: list[float], inside: list[float], sent: object, back: object) -> dict[str, Any]:
    there, within, share = (1000 * np.array(times) for times in (whole, inside, np.subtract(whole, inside)))
    return {
        "call": name,
        "waits": waits,
        "there and back ms": round(float(np.median(there)), 2),
        "95 %": round(float(np.percentile(there, 95)), 2),
        "in the actor ms": round(float(np.median(within)), 2),
        "Ray ms": round(float(np.median(share)), 2),
        "Ray 95 %": round(float(np.percentile(share, 95)), 2),
        "KB sent": round(len(pickle.dumps(sent)) / 1000, 1),
        "KB back": round(len(pickle.dumps(back)) / 1000, 1),
    }
