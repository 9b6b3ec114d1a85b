"""What a gateway loads before it is ready, and what it says meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stream.clock import VirtualClock
from workers.cluster.pools import Pools
from workers.gateway.loading import Loading
from workers.session.services import ServiceError


class Node(Pools):
    """A node whose models are loaded when the test says so."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__([], None, None)
        self.go, self.fault = asyncio.Event(), fault

    async def ready(self) -> None:
        assert self.loading is not None
        self.loading({"faces": False, "emotion model": False})
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        self.loading({"faces": True, "emotion model": False})
        await asyncio.sleep(0)
        self.loading({"faces": True, "emotion model": True})


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.001)


async def test_it_says_what_is_loaded_until_all_is_on_every_node() -> None:
    loading, told, nodes = Loading(VirtualClock()), [], [Node(), Node()]
    assert loading.is_over, "nothing is asked for yet"
    work = asyncio.create_task(loading.run(lambda: [*nodes], told.append))
    await until(lambda: bool(loading.waiting))
    assert not loading.is_over and loading.waiting == ["faces", "emotion model"]
    nodes[0].go.set()
    await asyncio.sleep(0.01)
    assert not loading.is_over and loading.waiting == ["faces", "emotion model"], "the other node has none"
    nodes[1].go.set()
    await work
    assert loading.is_over and not loading.waiting
    assert told == ["loading faces, emotion model (0.0 s)", "loading emotion model (0.0 s)", "ready (0.0 s)"]


async def test_a_model_that_does_not_load_leaves_a_gateway_that_says_so() -> None:
    loading, told, node = Loading(VirtualClock()), [], Node(ServiceError(OSError("model.onnx: truncated")))
    node.go.set()
    await loading.run(lambda: [node], told.append)
    assert loading.is_over and told[-1].startswith("ready, but not every model loads")
