"""The Ray actor of a served session: named, detached, restarted when its process is killed."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayError

from workers.cluster.actors import CPU_SHARE, NAMESPACE
from workers.cluster.pools import node_of, on_node, working_nodes
from workers.cluster.request import MAX_TRACKS, MediaFile, Options, Place, Push, Upload, Url
from workers.cluster.served import ServedSession

MAX_RESTARTS = 100  # of a session's process, whatever killed it
DECODING_BYTES = 3 << 29  # that decoding may take: pictures of 4K, with all that a decoder looks back at, take half


def bound_memory(room: int = DECODING_BYTES) -> None:
    """Let this process have no more than so many bytes beyond what it has: a header may ask FFmpeg for any number.

    What it is then refused is an error of that recording. Where Linux is not, nothing happens.
    """
    sizes = Path("/proc/self/statm")
    if sizes.exists():
        _, limit = resource.getrlimit(resource.RLIMIT_DATA)
        used = int(sizes.read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + room if limit < 0 else min(limit, used + room), limit))


@ray.remote(concurrency_groups={"push": MAX_TRACKS, "health": 1})
class ServedSessionActor:
    """A served session in a process of its own, which goes when the session has ended."""

    def __init__(self, session: str, options: Options, source: Push | Url | MediaFile | Upload, place: Place) -> None:
        bound_memory()
        self._session = ServedSession(session, options, source, place)
        self._leaving: asyncio.Task[None] | None = None
        self._begun = False
        self._opened = asyncio.Event()
        self._refused: Exception | None = None
        # By itself: whoever made it may be gone by then, and Ray runs nothing but this in a new process.
        context = ray.get_runtime_context()
        context.current_actor.begin.remote(context.was_current_actor_reconstructed)

    @ray.method(max_task_retries=-1)  # Ray refuses it when it believes that this actor is not back yet
    async def begin(self, resumed: bool) -> None:
        """Start the session, or resume what this actor's last process left; once, however often it is called."""
        if self._begun:
            return
        self._begun = True
        try:
            await (self._session.resume() if resumed else self._session.start())
        except Exception as error:
            self._refused = error
        self._opened.set()
        self._leaving = asyncio.create_task(self._leave())

    async def opened(self) -> None:
        """Wait until the session listens, in this process or the one before. Raises what `ServedSession.start`
        raises."""
        await self._opened.wait()
        if self._refused is not None:
            raise self._refused

    async def _leave(self) -> None:
        await self._session.done()
        await asyncio.sleep(1)  # for calls that are on their way
        ray.kill(ray.get_runtime_context().current_actor)

    async def attach(self, track: int, connection: str, format: str, rate: int) -> None:
        await self._opened.wait()
        self._session.attach(track, connection, format, rate)

    @ray.method(concurrency_group="push")
    async def push(self, track: int, connection: str, piece: bytes) -> None:
        await self._session.push(track, connection, piece)

    @ray.method(max_task_retries=-1)
    async def detach(self, track: int, connection: str, over: bool) -> None:
        """The sender of a track is gone. If for good, this ends with the session: Ray tells it to the process that goes
        on when this one is killed before."""
        await self._opened.wait()
        self._session.detach(track, connection, over)
        if over:
            await self._session.done()

    async def stop(self) -> None:
        await self._opened.wait()
        self._session.stop()
        await self._session.done()

    @ray.method(concurrency_group="health")
    async def health(self) -> bool:
        return True


def start_session(session: str, options: Options, source: Push | Url | MediaFile | Upload, place: Place) -> Any:
    """The named actor of a session that is served, on the node of its pools.

    Raises ValueError when the id is taken, and ClusterError.
    """
    actor = cast(Any, ServedSessionActor).options(
        name=f"session:{session}", namespace=NAMESPACE, lifetime="detached", num_cpus=CPU_SHARE, max_pending_calls=1000,
        max_restarts=MAX_RESTARTS,
        scheduling_strategy=on_node(node_of(session, working_nodes())),
    )  # fmt: skip
    return actor.remote(session, options, source, place)


def find_session(session: str) -> Any | None:
    """The actor of a session that a gateway started and that goes on; those of a command line are none of ours."""
    try:
        actor = ray.get_actor(f"session:{session}", namespace=NAMESPACE)
    except (ValueError, RayError):
        return None
    return actor if hasattr(actor, "attach") else None
