"""`undertone bench startup`: time from a command to its first event and first label, by part."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from model.progress import Progress
from workers.console.tables import Rows

PARTS = ("imports", "Redis", "plan", "Ray", "first event", "models", "first label", "all labels")


def bench_startup(recording: Path, runs: int, progress: Progress) -> Rows:
    """Rows of median seconds: of each part, and since the start of the command. Only the kernel's file cache is warm.

    Raises MediaError, and RuntimeError when a run fails.
    """
    marks: list[dict[str, float]] = []
    for run in range(runs):
        progress.step("starts", run, runs)
        begun = time.time()
        child = [sys.executable, "-c", f"from {__name__} import replay; replay({str(recording)!r}, {begun!r})"]
        done = subprocess.run(child, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        marks.append(json.loads(done.stdout.splitlines()[-1]))
    rows: Rows = []
    before = np.zeros(runs)
    for part in PARTS:
        since = np.array([run_marks[part] for run_marks in marks])
        own, whole = float(np.median(since - before)), float(np.median(since))
        rows.append({"part": part, "seconds": round(own, 2), "since the start": round(whole, 2)})
        before = since
    return rows


class _FirstOf:
    """An event observer that records the times of the first event and the first label."""

    def __init__(self, marks: dict[str, float], begun: float) -> None:
        self._marks, self._begun = marks, begun

    def event(self, event: object) -> None:
        self._marks.setdefault("first event", time.time() - self._begun)
        if getattr(event, "type", "") == "emotion":
            self._marks.setdefault("first label", time.time() - self._begun)

    def position(self, seconds: float) -> None:
        pass


def replay(recording: str, begun: float) -> None:
    """Do the same as `undertone replay RECORDING --transcript … --speed max`; prints the end of each part in
    seconds."""
    marks: dict[str, float] = {}

    def mark(part: str) -> None:
        marks[part] = time.time() - begun

    import asyncio

    from stream.bus.server import private_server
    from stream.sources.file import FileSource
    from workers.cluster.actors import ray_cluster
    from workers.cluster.pools import start_pools
    from workers.session.planning import plan_session
    from workers.session.runner import new_session, run
    from workers.session.settings import SessionSettings

    mark("imports")
    with private_server() as url:
        mark("Redis")
        source = FileSource(Path(recording))
        planned = plan_session(SessionSettings(transcript=Path(recording).with_suffix(".stm"), speculate=False), source)
        mark("plan")
        with ray_cluster(None):
            mark("Ray")
            pools = start_pools(planned.plan, planned.needs)

            async def work() -> None:
                async def models() -> None:
                    await pools.ready()
                    mark("models")

                session = new_session(planned.plan, pools, url, "undertone")
                await asyncio.gather(models(), run(session, source, None, [_FirstOf(marks, begun)]))

            asyncio.run(work())
            mark("all labels")
    print(json.dumps(marks))
