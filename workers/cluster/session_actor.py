"""The Ray actor of a served session: named, detached, restarted when its process is killed."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Any, cast

import ray

from stream.bus.keys import Keys
from stream.bus.running import Home, this_machine, this_process
from stream.errors import MediaError
from workers.cluster.actors import CPU_SHARE, NAMESPACE, ClusterError
from workers.cluster.pools import node_of, on_node, working_nodes
from workers.cluster.request import MAX_TRACKS
from workers.cluster.request_files import ServedRequest, drop, hold, load
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

    def __init__(self, session: str, prefix: str, holders: list[str]) -> None:
        """holders: nodes that hold the request. Ray keeps these arguments: no secret and no content is among them."""
        self._keys, self._holders = Keys(session, prefix), holders
        self._session: ServedSession | None = None
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
            asked = await asyncio.to_thread(load, self._keys, self._holders)
            if asked is None:  # a gateway sees that this actor has gone, and ends the session
                raise ClusterError("what the session was asked for is gone, with the nodes that held it")
            bound_memory()
            self._session = ServedSession(asked.session, asked.options, asked.source, asked.place, home=asked.home)
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
        if self._session is not None:
            await self._session.done()
        await asyncio.to_thread(drop, self._keys, self._holders)
        await asyncio.sleep(1)  # for calls that are on their way
        ray.kill(ray.get_runtime_context().current_actor)

    async def _served(self) -> ServedSession:
        await self._opened.wait()
        if self._session is None:
            raise MediaError("the session could not go on")
        return self._session

    async def attach(self, track: int, connection: str, format: str, rate: int) -> None:
        (await self._served()).attach(track, connection, format, rate)

    @ray.method(concurrency_group="push")
    async def push(self, track: int, connection: str, piece: bytes) -> None:
        await (await self._served()).push(track, connection, piece)

    async def began(self, track: int) -> float | None:
        return (await self._served()).began(track)

    async def watch(self, track: int, connection: str) -> None:
        await (await self._served()).watch(track, connection)

    @ray.method(max_task_retries=-1)
    async def detach(self, track: int, connection: str, over: bool) -> None:
        """The sender of a track is gone. If for good, this ends with the session: Ray tells it to the process that goes
        on when this one is killed before."""
        session = await self._served()
        session.detach(track, connection, over)
        if over:
            await session.done()

    async def stop(self) -> None:
        session = await self._served()
        session.stop()
        await session.done()

    @ray.method(concurrency_group="health")
    async def health(self) -> bool:
        return True


def start_session(request: ServedRequest) -> Any:
    """The named actor of a session that is served, on the node of its pools.

    Raises ValueError when the id is taken, and ClusterError.
    """
    if find_session(request.session) is not None:
        raise ValueError(f"session {request.session} is there")
    holders = hold(request)
    actor = cast(Any, ServedSessionActor).options(
        name=f"session:{request.session}", namespace=NAMESPACE, lifetime="detached", num_cpus=CPU_SHARE,
        max_pending_calls=1000, max_restarts=MAX_RESTARTS,
        scheduling_strategy=on_node(node_of(request.session, working_nodes(request.place.device))),
    )  # fmt: skip
    return actor.remote(request.session, request.place.prefix, holders)


def find_session(session: str) -> Any | None:
    """The actor of a session that a gateway started and that goes on; those of a command line are none of ours.

    Raises RayError when Ray cannot say.
    """
    try:
        actor = ray.get_actor(f"session:{session}", namespace=NAMESPACE)
    except ValueError:
        return None
    return actor if hasattr(actor, "attach") else None


def served_home(owner: str, private_ray: bool) -> Home:
    """The home of a session that this gateway starts; private_ray: it ends with this process."""
    if private_ray or not ray.is_initialized():
        return this_process(owner, ray.get_runtime_context().get_node_id() if ray.is_initialized() else None)
    return Home(owner=owner, node=ray.get_runtime_context().get_node_id(), cluster=_address())


def _address() -> str:
    """Address of the cluster; of one on a loopback address with the machine."""
    address = str(ray.get_runtime_context().gcs_address)
    return f"{this_machine()}/{address}" if address.startswith(("127.", "localhost", "[::1]")) else address


def is_there(session: str, home: Home) -> bool | None:
    """True if a session's actor is there, also one that Ray restarts or that does not answer; False if it is proved
    that it is gone; None if nobody here can be asked. Raises RayError."""
    if home.node is not None and ray.is_initialized():
        if home.node in {node["NodeID"] for node in ray.nodes()}:
            return find_session(session) is not None
        if home.cluster == _address():  # another cluster has taken the place of the one that it was in
            return False
    return False if home.is_gone else None
