"""Whole nodes of a Ray cluster killed while sessions run on it; all are on this machine."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ray.cluster_utils import Cluster

from stream.events import Event
from tests.chaos.kills import GIVEN, OPTIONS, Tally
from tests.chaos.truth import Verdict, durable_log, judge
from tests.conftest import DEMO, DEMO_TRANSCRIPT
from workers.actors import ray_cluster
from workers.conduct import MediaFile, Options, Place, start_session
from workers.pools import working_nodes

WORKERS = 2
STORE = 80 << 20


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A head that takes no work, and worker nodes."""
    # A folder of its own, so that the address of a cluster that runs on this machine is not written over.
    with tempfile.TemporaryDirectory(prefix="undertone-ray-", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        made = Cluster()
        try:
            for cpus in (0, *[2] * WORKERS):
                made.add_node(num_cpus=cpus, include_dashboard=False, object_store_memory=STORE)
            with ray_cluster(made.address):
                yield made
        finally:
            made.shutdown()
            del os.environ["RAY_TMPDIR"]


async def play(redis: str, folder: Path, session: str) -> list[Event]:
    """The demo through a session in the cluster; what the log holds of it."""
    place = Place(redis, "undertone", None, folder)
    start_session(session, Options(**OPTIONS), MediaFile(**GIVEN), place)  # type: ignore[arg-type]
    deadline = time.monotonic() + 240
    log: list[Event] = []
    while time.monotonic() < deadline and not (log and log[-1].type == "session.ended"):
        await asyncio.sleep(0.5)
        log = await asyncio.to_thread(durable_log, redis, session)
    return log


async def campaign(
    made: Cluster, redis: str, folder: Path, kills: int, seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Tally], dict[str, Verdict]]:
    """Nodes at random moments, each replaced by a new one; a node has recovered when Ray knows that it is gone."""
    shutil.copy(DEMO, folder / "demo.opus")
    shutil.copy(DEMO_TRANSCRIPT, folder / "demo.stm")
    rng, verdict = random.Random(seed), Verdict()
    tally = Tally()
    truth = await play(redis, folder, "truth")
    say("the undisturbed run is done")
    enough = asyncio.Event()

    async def lane(number: int) -> None:
        n = 0
        while not enough.is_set():
            n += 1
            verdict.add(judge(await play(redis, folder, f"lane{number}-{seed}-{n}"), truth))

    lanes = [asyncio.create_task(lane(number)) for number in range(3)]
    for n in range(kills):
        await asyncio.sleep(rng.uniform(3, 10))
        if failed := next((each for each in lanes if each.done()), None):
            failed.result()
        victim = rng.choice(list(made.worker_nodes))
        say(f"kill {n + 1} of {kills}: a node of {len(made.worker_nodes)}")
        tally.kills += 1
        begun = time.monotonic()
        await asyncio.to_thread(made.remove_node, victim, False)
        # In this thread: Ray sets signal handlers when it starts a node.
        made.add_node(num_cpus=2, include_dashboard=False, object_store_memory=STORE)
        while victim.node_id in await asyncio.to_thread(working_nodes):
            await asyncio.sleep(0.2)
        tally.recoveries.append(time.monotonic() - begun)
    enough.set()
    await asyncio.gather(*lanes)
    return {"node": tally}, {"given": verdict}
