"""`undertone bench longevity`: hours of media through one session, and the growth of each process."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from model.progress import Progress
from stream.bus.server import private_server
from stream.events import Event, SessionEnded
from workers.bench.speed.loaded import run_loaded
from workers.bench.speed.looped import LoopedSource, LoopedTranscript
from workers.bench.speed.processes import used
from workers.cluster.actors import ray_cluster
from workers.console.tables import Rows
from workers.session.planning import SessionSettings, plan_session

MAX_SAMPLES = 240  # one a minute of media is enough, six are needed
MAX_CHANGE_PERCENT = 5.0  # of the last third from the first


@dataclass(frozen=True)
class _Sample:
    """Memory of the processes at a moment of the media clock."""

    hours: float
    memory: dict[tuple[str, int], float]
    """MB by (name, process id)."""


class _Scale:
    """An event observer that samples the memory of all processes, by the media clock."""

    def __init__(self, seconds: float, progress: Progress) -> None:
        self._seconds, self._progress = seconds, progress
        self._step = seconds / min(MAX_SAMPLES, max(6, seconds // 60))
        self.samples: list[_Sample] = []
        self.ended: SessionEnded | None = None

    def event(self, event: Event) -> None:
        if isinstance(event, SessionEnded):
            self.ended = event

    def position(self, seconds: float) -> None:
        if seconds >= (len(self.samples) + 1) * self._step:
            memory = {(use.name, pid): use.memory for pid, use in used().items()}
            self.samples.append(_Sample(seconds / 3600, memory))
            self._progress.step("minutes of media", round(seconds / 60), round(self._seconds / 60))


def bench_longevity(recording: Path, hours: float, modalities: Sequence[str], progress: Progress) -> tuple[Rows, Rows]:
    """A row for each process (and Redis), and one of the whole.

    The recording is repeated, with its transcript (.stm) for words, as fast as it goes. MB are of the first and the
    last third of the hours; `MB/hour` is the slope of a line through all but the first tenth. Raises MediaError and
    AnnotationError.
    """
    source, scale = LoopedSource(recording, 3600 * hours), _Scale(3600 * hours, progress)
    wishes = SessionSettings(
        asr="none", transcript=recording.with_suffix(".stm"), modalities=tuple(modalities), enrolled=False,
        session=f"longevity-{secrets.token_hex(3)}", speakers="channel" if source.split else "cluster",
        speculate=False, interim=0,
    )  # fmt: skip
    planned = plan_session(wishes, source)
    assert planned.plan.transcript is not None
    spoken = LoopedTranscript(planned.plan.transcript.cues, source.period)
    plan = replace(planned.plan, transcript=spoken)
    with private_server() as redis, ray_cluster(None):
        started = time.monotonic()
        run_loaded(plan, planned.needs, source, None, redis, [scale])
        taken = time.monotonic() - started
        whole = {"hours": round(hours, 2), "taken s": round(taken), **_ending(scale), **_object_store()}
    return _processes(scale.samples), [whole]


def _processes(samples: Sequence[_Sample]) -> Rows:
    third = len(samples) // 3
    rows: Rows = []
    for name, pid in sorted(samples[-1].memory):
        known = np.array([(s.hours, s.memory[name, pid]) for s in samples if (name, pid) in s.memory])
        if len(known) < len(samples):
            continue  # it came later: one of Ray's spare workers
        first, last = known[:third, 1].mean(), known[-third:, 1].mean()
        change = 100 * (last / first - 1)
        hours, memory = known[len(known) // 10 :].T
        slope = np.polyfit(hours, memory, 1)[0]
        flat = "capped stream" if name == "redis" else "yes" if abs(change) <= MAX_CHANGE_PERCENT else "NO"
        rows.append(
            {
                "process": name,
                "pid": pid,
                "MB first third": round(first, 1),
                "MB last third": round(last, 1),
                "change %": round(change, 1),
                "MB/hour": round(slope, 2),
                "most MB": round(known[:, 1].max(), 1),
                "flat": flat,
            }
        )
    return rows


def _ending(scale: _Scale) -> dict[str, object]:
    assert scale.ended is not None
    return {"utterances": scale.ended.utterances, "failed": scale.ended.failed, "reason": scale.ended.reason}


def _object_store() -> dict[str, object]:
    """Objects left in Ray's object store, after some time to release them."""
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    for _ in range(10):
        store = get_memory_info_reply(state).store_stats
        if not store.num_local_objects:
            break
        time.sleep(1)
    return {"objects left in Ray's store": store.num_local_objects, "their bytes": store.object_store_bytes_used}
