"""A Redis client for a single server and for a Redis Cluster: it follows MOVED redirections. What replicas have."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.crc import key_slot
from redis.exceptions import (
    ConnectionError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from stream.bus.keys import Keys
from stream.clock import Clock
from stream.errors import StreamError

REPLICA_PATIENCE_S = 0.5  # seconds in which a replica has to confirm; until one does again, there is no patience
REPLICA_POLL_S = 10.0  # seconds between questions whether there are replicas
REPLICA_GRACE_S = 60.0  # seconds after which replicas that are gone need not confirm any more: longer than a failover
log = logging.getLogger(__name__)
MAX_AT_ONCE = 500  # Streams, or commands of as many sessions, in one request
MAX_REDIRECTIONS = 5  # times that a command follows its key to another node


def batches(names: list[str], size: int) -> Iterator[list[str]]:
    """The names in lists of at most `size`."""
    return (names[start : start + size] for start in range(0, len(names), size))


class Client(redis.asyncio.Redis):
    """Talks to the server at its address and, in a Redis Cluster, to the node that a MOVED reply names.

    Meant for keys that share a slot, such as those of one session: they are redirected once. Every change of slot costs
    one more round trip. When a node does not answer, the client returns to the server at the address. (redis-py's own
    cluster client allows no PUBLISH in a transaction, and takes a thread and an event loop for each of its commands.)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._home = self.connection_pool
        self._nodes: dict[tuple[str, int], redis.asyncio.ConnectionPool] = {}
        self._owners: dict[int, redis.asyncio.ConnectionPool] = {}  # by slot, as far as redirections have told
        self.sentinels: list[redis.asyncio.Redis] = []
        """Sentinels that were asked for the address; closed with this client."""

    def follow(self, moved: MovedError) -> None:
        """Send further commands to the node that owns the key."""
        self.connection_pool = self._node(moved.host, moved.port)

    def _node(self, host: str, port: int) -> redis.asyncio.ConnectionPool:
        here: dict[str, Any] = self.connection_pool.connection_kwargs
        host = host or here["host"]  # a node that does not know its own address omits it
        node = self._nodes.get((host, port))
        if node is None:
            kind, options = self._home.connection_class, {**here, "host": host, "port": port}
            node = self._nodes[host, port] = redis.asyncio.ConnectionPool(kind, **options)
        return node

    async def masters(self) -> list[redis.asyncio.Redis]:
        """One client for each master of the Redis Cluster, or the single server: for commands without a key."""
        try:
            slots: Any = await self.execute_command("CLUSTER SLOTS")
        except ResponseError as error:
            if "cluster support disabled" not in str(error):
                raise
            return [self]
        nodes = sorted({(host or "", port) for _, _, (host, port, *_), *_ in slots})
        return [redis.asyncio.Redis(connection_pool=self._node(host, port)) for host, port in nodes]

    def go_home(self) -> None:
        """Send further commands to the server at the address again."""
        self.connection_pool = self._home
        self._owners.clear()

    async def find_leader(self) -> None:
        """Drop idle connections, so that the next command asks the Sentinels, or the name, anew who leads."""
        await self.connection_pool.disconnect(inuse_connections=False)

    async def run_each(self, commands: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Answers to commands, each given with its key: one request for all keys of a node.

        A refusal stands in place of its answer. Raises ConnectionError and TimeoutError.
        """
        answers: list[Any] = [None] * len(commands)
        waiting = list(range(len(commands)))
        for _ in range(MAX_REDIRECTIONS):
            by_node: dict[redis.asyncio.ConnectionPool, list[int]] = {}
            for number in waiting:
                owner = self._owners.get(key_slot(commands[number][0].encode())) if self._owners else None
                by_node.setdefault(owner or self._home, []).append(number)
            waiting = []
            for pool, numbers in by_node.items():
                pipe = Pipeline(pool, self.response_callbacks, False, None)
                for number in numbers:
                    pipe.execute_command(*commands[number][1])
                try:
                    found = await pipe.execute(raise_on_error=False)
                except (ConnectionError, TimeoutError):
                    self.go_home()
                    raise
                for number, answer in zip(numbers, found, strict=True):
                    answers[number] = answer
                    if isinstance(answer, MovedError):
                        self._owners[answer.slot_id] = self._node(answer.host, answer.port)
                        waiting.append(number)
            if not waiting:
                break
        return answers

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command, following one redirection."""
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
        """Commands that are sent together, on keys that share a slot; a transaction runs all of them or none."""
        return _Pipeline(self, transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to all nodes."""
        self.go_home()
        await super().aclose(close_connection_pool)
        for node in self._nodes.values():
            await node.aclose()
        for sentinel in self.sentinels:
            await sentinel.aclose()


class _Pipeline(Pipeline):
    """A pipeline that follows redirections, and repeats a transaction unless it watched keys."""

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
            raise moved  # the watched keys are lost: the caller has to start again


class Lost(StreamError):
    """The Stream lacks an event that Redis had accepted: another server leads, without it."""


class Replicas:
    """Asks whether a replica has what the leader has accepted."""

    def __init__(self, client: Client, keys: Keys, retention_s: int, clock: Clock) -> None:
        self._client, self._keys, self._retention_s, self._clock = client, keys, retention_s, clock
        self._asked_at = self._seen_at = -math.inf
        self._patience_s = REPLICA_PATIENCE_S
        self._may_ask = True

    async def have(self, newest: str) -> bool:
        """True if a replica has the event `newest` of ours, and all before it, or if there are no replicas to have it.

        Raises Lost, RedisError or OSError.
        """
        try:
            return not await self._expected() or await self._confirmed(newest)
        except (NoPermissionError, ResponseError) as error:
            if not isinstance(error, NoPermissionError) and "unknown command" not in str(error):
                raise
            log.warning("Redis refuses ROLE or WAIT: what its leader loses is not sent again (%s)", error)
            self._may_ask = False
            return True
        except (Lost, RedisError, OSError):
            self._asked_at = self._seen_at = -math.inf
            raise

    async def ids(self, count: int) -> set[str]:
        """Ids of the last `count` events in the Stream. Raises RedisError or OSError."""
        page: Any = await self._client.xrevrange(self._keys.events, count=count)
        return {str(fields.get("id")) for _, fields in page}

    async def _expected(self) -> bool:
        """True if there are replicas, or were until a moment ago."""
        now = self._clock.now()
        if self._may_ask and now - self._asked_at > REPLICA_POLL_S:
            role: Any = await self._client.execute_command("ROLE")
            if role[0] != "master":
                raise ReadOnlyError("this server does not lead")
            self._asked_at = now
            if role[2]:
                self._seen_at = now
        return self._may_ask and now - self._seen_at < REPLICA_GRACE_S

    async def _confirmed(self, newest: str) -> bool:
        name = self._keys.events
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.xrevrange(name, count=1)
            # WAIT is about what this connection has written, which need not be the one that wrote the events.
            pipe.expire(name, self._retention_s)
            pipe.wait(1, round(1000 * self._patience_s))
            tail, _, copies = await pipe.execute()
        if not (tail and tail[0][1].get("id") == newest) and newest not in await self.ids(1_000):
            raise Lost("the leader lacks an event that it had accepted")
        if copies:
            self._seen_at, self._patience_s = self._clock.now(), REPLICA_PATIENCE_S
            return True
        self._patience_s, self._asked_at = 0.001, -math.inf
        await self._client.find_leader()
        return False
