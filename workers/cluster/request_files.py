"""Requests of running sessions on disk, with the recordings that were sent: where a restarted session finds them.

Ray keeps the arguments of an actor in its control store, and large ones in shared memory that it spills to files which
others may read and that die with a process. So an actor is given no more than names. What it was asked for lies in a
file (0600, in the spool, 0700) of two nodes, its own and a second one, and is removed with its end. Processes of the
node write it and remove it: a gateway beside them may run as another user, or with another folder for its state.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from pydantic import BaseModel, ValidationError
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stream.bus.keys import Keys
from stream.bus.running import Home
from stream.bus.spool import request_path, spool_folder, waiting_requests
from workers.cluster.actors import ClusterError
from workers.cluster.pools import node_of, working_nodes
from workers.cluster.request import AudioTrack, MediaFile, Options, Place, Push, Upload, Url

MAX_HELD_BYTES = 8 << 30  # of requests on a node
MAX_AGE_S = 30 * 24 * 3600  # seconds after which a file goes of which nobody can say whether its session lives
STARTING_S = 600  # seconds after which a session that was asked for has started, or never will
PIECE_BYTES = 64 << 10  # of a file in one argument: Ray puts what has more than 100 KB into its object store
PIECES = 32  # in one call


class Held(BaseModel):
    """A request to a gateway, without the recording."""

    home: Home
    options: Options
    source: Push | Url | MediaFile | None
    upload: tuple[str, float | None, AudioTrack] | None
    """Name, speed and audio track of a recording that was sent."""
    place: Place


@dataclass(frozen=True)
class ServedRequest:
    """All that a served session needs to begin, and to go on after its process was killed."""

    session: str
    options: Options
    source: Push | Url | MediaFile | Upload
    place: Place
    home: Home

    @property
    def keys(self) -> Keys:
        return Keys(self.session, self.place.prefix)


def hold(request: ServedRequest) -> list[str]:
    """Write a request to the nodes that hold it; returns their ids. Raises ClusterError."""
    source = request.source
    held = Held(
        home=request.home,
        options=request.options,
        source=None if isinstance(source, Upload) else source,
        upload=(source.name, source.speed, source.track) if isinstance(source, Upload) else None,
        place=request.place,
    )
    header = held.model_dump_json(by_alias=True).encode() + b"\n"
    content = source.content if isinstance(source, Upload) else b""
    nodes = working_nodes(request.place.device)
    first = node_of(request.session, nodes)
    others = {node: cpus for node, cpus in nodes.items() if node != first}
    holders = [first, *([node_of(request.session, others)] if others else [])]
    held_by, refusal = [], ClusterError("no node of the Ray cluster takes the request; try again")
    for node in holders:
        try:
            _write_to(node, request.keys, header + content)
            held_by.append(node)
        except RayError:  # the node is gone
            pass
        except ClusterError as error:
            refusal = error
    if not held_by:
        raise refusal
    return held_by


def load(keys: Keys, holders: Sequence[str]) -> ServedRequest | None:
    """Read a session's request from this node, or else from one that holds it; None if it is gone. Raises
    ClusterError."""
    path = request_path(keys.session, keys.prefix)
    if not path.exists():
        for node in holders:
            with suppress(RayError, FileNotFoundError):
                _write(keys, b"".join(_read_from(node, keys)))
                break
    try:
        header, _, content = path.read_bytes().partition(b"\n")
        held = Held.model_validate_json(header)
    except (OSError, ValidationError):
        return None
    source: Push | Url | MediaFile | Upload | None = held.source
    if held.upload is not None:
        name, speed, track = held.upload
        source = Upload(name, content, speed, track)
    return None if source is None else ServedRequest(keys.session, held.options, source, held.place, held.home)


def drop(keys: Keys, holders: Sequence[str]) -> None:
    """Remove a session's request from this node, by one of its processes, and from the others that hold it, as far as
    these are there."""
    _remove(keys)
    if not holders:
        return
    with suppress(ClusterError, RayError):
        here = ray.get_runtime_context().get_node_id()
        others = [node for node in holders if node != here and node in working_nodes()]
        ray.get([_remove_there.options(**_only_on(node)).remote(keys) for node in others], timeout=30)


def sweep(prefix: str, is_there: Callable[[str, Home], bool | None]) -> int:
    """Remove requests in this process's spool whose sessions are over, and those of which nobody can say so after
    30 days; returns their number. Raises RayError."""
    removed = 0
    for partial in spool_folder().glob("*.part"):  # of a gateway that was killed while it wrote
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > STARTING_S:
                partial.unlink()
                removed += 1
    for session, path in waiting_requests(prefix):
        with suppress(OSError):
            age = time.time() - path.stat().st_mtime
            if age < STARTING_S:
                continue
            with path.open("rb") as file:
                home = _home(file.readline())
            there = None if home is None else is_there(session, home)
            if there is False or (there is None and age > MAX_AGE_S):
                path.unlink()
                removed += 1
    return removed


def _home(header: bytes) -> Home | None:
    try:
        return Held.model_validate_json(header).home
    except ValidationError:
        return None


def _only_on(node: str) -> dict[str, Any]:
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False), "num_cpus": 0}


def _write_to(node: str, keys: Keys, content: bytes) -> None:
    """Write a request on a node. Raises ClusterError when that does not take it, RayError when it is gone."""
    try:
        for position, pieces in _pieces(content):
            ray.get(_write_there.options(**_only_on(node)).remote(keys, position, len(content), *pieces))
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, ClusterError):
            raise cause from None
        raise


def _pieces(content: bytes) -> Iterator[tuple[int, list[bytes]]]:
    for position in range(0, len(content), PIECES * PIECE_BYTES):
        part = content[position : position + PIECES * PIECE_BYTES]
        yield position, [part[first : first + PIECE_BYTES] for first in range(0, len(part), PIECE_BYTES)]


def _read_from(node: str, keys: Keys) -> Iterator[bytes]:
    """A request as another node holds it. Raises RayError."""
    position = 0
    while True:
        asked = _read_there.options(num_returns=PIECES, **_only_on(node)).remote(keys, position)
        part = b"".join(ray.get(asked))
        yield part
        position += len(part)
        if len(part) < PIECES * PIECE_BYTES:
            return


def _write(keys: Keys, content: bytes, position: int = 0, size: int | None = None) -> None:
    """Write a part of a request; it counts once all `size` bytes are there. Raises ClusterError."""
    path, size = request_path(keys.session, keys.prefix), len(content) if size is None else size
    partial = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if position == 0:
            partial.unlink(missing_ok=True)
            held = sum(each.stat().st_size for _, each in waiting_requests())
            if held + size > MAX_HELD_BYTES:
                raise ClusterError(f"recordings of {MAX_HELD_BYTES >> 30} GB are held for running sessions; try again")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.seek(position)
            file.write(content)
        if position + len(content) == size:
            partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise ClusterError(f"the request cannot be held on disk ({error.strerror})") from None


def _remove(keys: Keys) -> None:
    with suppress(OSError):
        request_path(keys.session, keys.prefix).unlink(missing_ok=True)


@ray.remote(num_cpus=0)
def _write_there(keys: Keys, position: int, size: int, *pieces: bytes) -> None:
    _write(keys, b"".join(pieces), position, size)


@ray.remote(num_cpus=0)
def _read_there(keys: Keys, position: int) -> list[bytes]:
    with request_path(keys.session, keys.prefix).open("rb") as file:
        file.seek(position)
        return [file.read(PIECE_BYTES) for _ in range(PIECES)]


@ray.remote(num_cpus=0)
def _remove_there(keys: Keys) -> None:
    _remove(keys)
