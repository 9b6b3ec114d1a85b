"""Forgetting what a session has left on the disks of a cluster's other nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import ray

from stream.bus.forget import find_files, remove_files
from stream.bus.keys import Keys
from workers.cluster.pools import on_node, working_nodes
from workers.cluster.request_files import drop

Files = tuple[list[Path], list[Path]]


@ray.remote(num_cpus=0)
def _forget_files(keys: Keys, recordings: Sequence[Path]) -> Files:
    found = find_files(keys, recordings)
    return found, remove_files(found)


@ray.remote(num_cpus=0)
def _drop(keys: Keys) -> None:
    drop(keys, [])


def drop_everywhere(keys: Keys) -> None:
    """Remove the request of a session that is over from all nodes. Raises ClusterError, RayError."""
    if ray.is_initialized():
        ray.get([_drop.options(scheduling_strategy=on_node(node)).remote(keys) for node in working_nodes()], timeout=30)
    drop(keys, [])


async def forget_elsewhere(keys: Keys, recordings: Sequence[Path]) -> list[Files]:
    """Files that were removed, and that are left, on each node but this one. Raises ClusterError, RayError."""
    others = working_nodes().keys() - {ray.get_runtime_context().get_node_id()}
    asked = [_forget_files.options(scheduling_strategy=on_node(node)).remote(keys, recordings) for node in others]
    return list(await asyncio.gather(*asked))
