"""A Redis client for one server and for a Redis Cluster alike: it goes where it is sent."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError, MovedError, ResponseError, TimeoutError


class Client(redis.asyncio.Redis):
    """Asks the server at its address; in a Redis Cluster the node that this one names (MOVED), until it is sent on.

    Made for keys that share a slot, as those of a session do: it is sent once. Others cost a further round trip each.
    A node that does not answer is left for the server at the address. (redis-py's client of clusters allows no PUBLISH
    in a transaction, and takes a thread and an event loop for each of its commands.)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._home = self.connection_pool
        self._nodes: dict[tuple[str, int], redis.asyncio.ConnectionPool] = {}
        self.sentinels: list[redis.asyncio.Redis] = []
        """Who is asked for the address; closed with this client."""

    def follow(self, moved: MovedError) -> None:
        """Ask the node that has the key from now on."""
        self.connection_pool = self._node(moved.host, moved.port)

    def _node(self, host: str, port: int) -> redis.asyncio.ConnectionPool:
        here: dict[str, Any] = self.connection_pool.connection_kwargs
        host = host or here["host"]  # a node that does not know its own name leaves it out
        node = self._nodes.get((host, port))
        if node is None:
            kind, options = self._home.connection_class, {**here, "host": host, "port": port}
            node = self._nodes[host, port] = redis.asyncio.ConnectionPool(kind, **options)
        return node

    async def masters(self) -> list[redis.asyncio.Redis]:
        """A client of each master of the Redis Cluster, or of the one server: for what no key leads to."""
        try:
            slots: Any = await self.execute_command("CLUSTER SLOTS")
        except ResponseError as error:
            if "cluster support disabled" not in str(error):
                raise
            return [self]
        nodes = sorted({(host or "", port) for _, _, (host, port, *_), *_ in slots})
        return [redis.asyncio.Redis(connection_pool=self._node(host, port)) for host, port in nodes]

    def go_home(self) -> None:
        """Ask the server at the address again."""
        self.connection_pool = self._home

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            try:
                return await super().execute_command(*args, **options)
            except MovedError as moved:
                self.follow(moved)
                return await super().execute_command(*args, **options)
        except (ConnectionError, TimeoutError):
            self.go_home()
            raise

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands to be sent together, on keys that share a slot; as a transaction, all of them happen or none."""
        return _Pipeline(self, transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        self.go_home()
        await super().aclose(close_connection_pool)
        for node in self._nodes.values():
            await node.aclose()
        for sentinel in self.sentinels:
            await sentinel.aclose()


class _Pipeline(Pipeline):
    def __init__(self, client: Client, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().immediate_execute_command(*args, **options)
        except MovedError as moved:
            await self._follow(moved, self.watching)
            return await super().immediate_execute_command(*args, **options)
        except (ConnectionError, TimeoutError):
            self._client.go_home()
            raise

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, watching = self.command_stack, self.watching
        try:
            return await super().execute(raise_on_error)
        except MovedError as moved:
            await self._follow(moved, watching)
            self.command_stack = commands
            return await super().execute(raise_on_error)
        except (ConnectionError, TimeoutError):
            self._client.go_home()
            raise

    async def _follow(self, moved: MovedError, watching: bool) -> None:
        await self.reset()
        self._client.follow(moved)
        self.connection_pool = self._client.connection_pool
        if watching:
            raise moved  # what was watched is no longer: whoever asked has to begin anew
