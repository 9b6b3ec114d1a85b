"""Whole nodes of a Ray cluster, or its control store, killed while sessions run on it; all are on this machine."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ray.cluster_utils import Cluster

from stream.events import Event
from tests.chaos.kills import Tally
from tests.chaos.service import GIVEN, OPTIONS
from tests.chaos.truth import Verdict, durable_log, judge
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from workers.cluster.actors import ray_cluster
from workers.cluster.pools import working_nodes
from workers.cluster.request import MediaFile, Options, Place
from workers.cluster.request_files import ServedRequest
from workers.cluster.session_actor import served_home, start_session

Lose = Callable[[Cluster, random.Random], Awaitable[None]]
WORKERS = 2
STORE = 80 << 20


@contextmanager
def cluster(books: str | None = None) -> Iterator[Cluster]:
    """A head that takes no work, and worker nodes. books: URL of a Redis in which the head keeps its state."""
    # A folder of its own, so that the address of a cluster that runs on this machine is not written over.
    with (
        tempfile.TemporaryDirectory(prefix="undertone-ray-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("RAY_TMPDIR", folder)
        if books is not None:
            environment.setenv("RAY_REDIS_ADDRESS", urlsplit(books).netloc)
        made = Cluster()
        try:
            for cpus in (0, *[2] * WORKERS):
                made.add_node(num_cpus=cpus, include_dashboard=False, object_store_memory=STORE)
            with ray_cluster(made.address):
                yield made
        finally:
            made.shutdown()


async def play(redis: str, folder: Path, session: str) -> list[Event]:
    """The demo through a session in the cluster; what the log holds of it."""
    place = Place(redis, "undertone", None, folder)
    options, source = Options(**OPTIONS), MediaFile(**GIVEN)  # type: ignore[arg-type]
    request = ServedRequest(session, options, source, place, served_home("chaos", private_ray=False))
    await asyncio.to_thread(start_session, request)  # waits for the control store
    deadline = time.monotonic() + 240
    log: list[Event] = []
    while time.monotonic() < deadline and not (log and log[-1].type == "session.ended"):
        await asyncio.sleep(0.5)
        log = await asyncio.to_thread(durable_log, redis, session)
    return log


async def lose_node(made: Cluster, rng: random.Random) -> None:
    """Kill one and add another; over when Ray knows that it is gone."""
    victim = rng.choice(list(made.worker_nodes))
    await asyncio.to_thread(made.remove_node, victim, False)
    # In this thread: Ray sets signal handlers when it starts a node.
    made.add_node(num_cpus=2, include_dashboard=False, object_store_memory=STORE)
    while victim.node_id in await asyncio.to_thread(working_nodes):
        await asyncio.sleep(0.2)


async def lose_control(made: Cluster, rng: random.Random) -> None:
    """Kill Ray's control store and start it again some seconds later; over when it knows the nodes."""
    made.head_node.kill_gcs_server()
    await asyncio.sleep(rng.uniform(1, 5))
    made.head_node.start_gcs_server()
    while len(await asyncio.to_thread(working_nodes)) < WORKERS:
        await asyncio.sleep(0.2)


async def campaign(
    made: Cluster, lose: Lose, redis: str, folder: Path, kills: int, seed: int, say: Callable[[str], None]
) -> tuple[Tally, dict[str, Verdict]]:
    """Something lost at random moments, while three sessions run."""
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
        say(f"fault {n + 1} of {kills}")
        tally.kills += 1
        begun = time.monotonic()
        await lose(made, rng)
        tally.recoveries.append(time.monotonic() - begun)
    enough.set()
    await asyncio.gather(*lanes)
    return tally, {"given": verdict}
