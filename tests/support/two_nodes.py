"""A cluster of two nodes and a head that takes no work; one node dies. Writes what was where into a file, as JSON.

A program of its own, because a process can be in one Ray cluster only, and the tests share another.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from model.fusion.checkpoint import load_step
from stream.bus.keys import Keys
from workers.bench.speed.scale import simulated_cluster, synthetic
from workers.cluster.forget_nodes import forget_on_nodes
from workers.cluster.pools import Pools, node_of, start_recognizer, working_nodes
from workers.cluster.request import Options, Place, Push, Track, Upload
from workers.cluster.request_files import ServedRequest, _read_from, hold
from workers.cluster.session_actor import served_home, start_session
from workers.session.services import GraphStateMissing

HEARD = synthetic(load_step("meld").config, 0)


def where(actor: Any) -> str:
    return str(ray.get(actor.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id())))


async def story(cluster: Cluster, recordings: Path) -> dict[str, Any]:
    nodes = working_nodes()
    sessions: dict[str, str] = {}
    for n in range(100):  # the first of each node
        sessions.setdefault(node_of(f"s{n}", nodes), f"s{n}")
    pools = {node: Pools([], [], start_recognizer("meld", node)) for node in sessions}
    rows = {node: [(await pools[node].label(sessions[node], 0, HEARD)).row] for node in sessions}
    push = Push(kind="push", tracks=[Track()])
    place = Place("redis://127.0.0.1:1/0", "undertone", None, None)
    lasting, dying = sessions
    options, home = Options(consent="both agreed"), served_home("desk", private_ray=False)
    served = start_session(ServedRequest(sessions[lasting], options, push, place, home))
    told: dict[str, Any] = {
        "nodes": list(nodes),
        "recognizers": {node: where(pools[node].recognizer) for node in sessions},
        "served": where(served),
        "names": sorted(entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)),
    }
    folder = recordings / "s0"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("{}")
    sent = os.urandom(5_000_000)
    asked = ServedRequest("s0", options, Upload("a.wav", sent, 1.0), place, home)
    holders = hold(asked)
    told["holders"] = holders
    told["held"] = all(b"".join(_read_from(node, asked.keys)).endswith(b"\n" + sent) for node in holders)
    forgotten = await forget_on_nodes(Keys("s0"), [recordings])  # simulated nodes share the disk: one finds it
    told["forgotten"] = sorted({str(path) for removed, _ in forgotten for path in removed})
    told["asked"], told["left"] = len(forgotten), [str(path) for _, left in forgotten for path in left]
    (doomed,) = [node for node in cluster.worker_nodes if node.node_id == dying]
    cluster.remove_node(doomed, allow_graceful=False)
    import time

    started = time.time()
    while dying in working_nodes():
        await asyncio.sleep(0.1)
    print("noticed after", time.time() - started)
    lost = False
    try:
        await pools[dying].label(sessions[dying], 1, HEARD)
    except GraphStateMissing:
        lost = True
        await pools[dying].restore(sessions[dying], rows[dying])
    steps = {node: await pools[node].label(sessions[node], 1, HEARD) for node in sessions}
    after = working_nodes()
    return told | {
        "lasting": lasting,
        "lost": lost,
        "numbers": [step.prediction.number for step in steps.values()],
        "moved": where(pools[dying].recognizer),
        "stayed": where(pools[lasting].recognizer),
        "placed": [node_of(session, after) for session in sessions.values()],
    }


if __name__ == "__main__":
    with simulated_cluster(2) as two:
        out = Path(sys.argv[1])
        out.write_text(json.dumps(asyncio.run(story(two, out.parent / "recordings"))), encoding="utf-8")
