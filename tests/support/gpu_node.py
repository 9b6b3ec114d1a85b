"""A cluster of two nodes, of which one says that it has a GPU. Writes the events of a session for each choice of a
device into a file, as JSON.

A program of its own, because a process can be in one Ray cluster only, and the tests share another.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import ray

from model.device import DeviceChoice
from stream.sources.file import FileSource
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from workers.bench.accuracy.endtoend import Collected
from workers.bench.speed.scale import simulated_cluster
from workers.cluster.actors import stop_all
from workers.cluster.pools import has_gpu, node_of, start_pools, working_nodes
from workers.session.opening import open_session
from workers.session.settings import SessionSettings


@ray.remote(num_cpus=0)
class Taker:
    """Another user of the cluster, who has the GPU for himself."""

    def ready(self) -> None:
        pass


async def events(session: str, device: DeviceChoice, redis: str) -> list[dict[str, Any]]:
    settings = SessionSettings(transcript=DEMO_TRANSCRIPT, asr="none", session=session, device=device)
    shown = Collected()
    opened = await open_session(settings, FileSource(DEMO), start_pools, redis, speed=None)
    await opened.run([shown])
    return [json.loads(event.wire()) for event in shown.events]


async def story(redis: str) -> dict[str, Any]:
    nodes = working_nodes()
    (with_gpu,) = working_nodes("cuda")
    elsewhere = next(name for name in (f"s{n}" for n in range(100)) if node_of(name, nodes) != with_gpu)
    assert has_gpu(with_gpu) and not has_gpu(node_of(elsewhere, nodes))
    told = {
        "auto": await events(elsewhere, "auto", redis),
        "cuda": await events(f"{elsewhere}-cuda", "cuda", redis),
    }
    actors = sorted(entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True))
    stop_all()
    taker = Taker.options(num_gpus=1).remote()
    await taker.ready.remote()
    while ray._private.state.available_resources_per_node()[with_gpu].get("GPU", 0):
        await asyncio.sleep(0.1)
    told["taken"] = await events(f"{elsewhere}-taken", "cuda", redis)
    return told | {"actors": actors, "gpu node": with_gpu}


if __name__ == "__main__":
    with simulated_cluster(2, gpus=1):
        Path(sys.argv[2]).write_text(json.dumps(asyncio.run(story(sys.argv[1]))), encoding="utf-8")
