"""Removing what sessions have left on the disks of a cluster's nodes, by processes of these nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import ray
from ray.exceptions import RayError

from stream.bus.forget import find_files, remove_files
from stream.bus.keys import Keys
from workers.cluster.pools import on_node, working_nodes
from workers.cluster.request_files import drop, sweep
from workers.cluster.session_actor import is_there

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


@ray.remote(num_cpus=0)
def _sweep(prefix: str) -> int:
    return sweep(prefix, is_there)


def sweep_nodes(prefix: str) -> int:
    """Remove requests of sessions that are over from all nodes that answer; returns their number.

    Raises ClusterError.
    """
    removed = 0
    for asked in [_sweep.options(scheduling_strategy=on_node(node)).remote(prefix) for node in working_nodes()]:
        with suppress(RayError):
            removed += ray.get(asked, timeout=30)
    return removed


async def forget_on_nodes(keys: Keys, recordings: Sequence[Path]) -> list[Files]:
    """Files that were removed, and that are left, on each node. Raises ClusterError, RayError.

    This process's node is asked, too: its processes may have another user, or another folder for their state.
    """
    nodes = working_nodes()
    asked = [_forget_files.options(scheduling_strategy=on_node(node)).remote(keys, recordings) for node in nodes]
    return list(await asyncio.gather(*asked))
