"""The end of sessions that can no longer end themselves: their process is gone, and Ray does not start another."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import structlog
from ray.exceptions import RayError
from redis.exceptions import RedisError

from stream.bus.connection import claim_silent, connect, release
from stream.bus.keys import Keys
from stream.bus.publisher import publish_end
from stream.bus.running import Home, leave, life, running
from workers.cluster.actors import ClusterError
from workers.cluster.forget_nodes import drop_everywhere, sweep_nodes
from workers.cluster.session_actor import is_there
from workers.gateway.state import State

ROUND_S = 10.0  # seconds between two rounds, if nobody asks for one
PAUSE_S = 2.0  # seconds between two rounds, at least
SWEEP_S = 600.0  # seconds between two searches for requests that nobody has removed
REASON = "error: its process was killed, and no other could go on with it"
log = structlog.get_logger("undertone.gateway")


async def ask(session: str, home: Home) -> bool | None:
    """`is_there` without blocking: Ray's control store may be unreachable. Raises RayError."""
    return await asyncio.to_thread(is_there, session, home)


async def keep_custody(state: State) -> None:
    """End what cannot end itself, at once, at every round and whenever `state.custody` is set, until cancelled."""
    next_sweep = -math.inf
    while True:
        state.custody.clear()
        try:
            await end_lost(state)
            if state.clock.now() >= next_sweep:
                next_sweep = state.clock.now() + SWEEP_S
                await _sweep(state)
        except Exception as error:  # Redis or Ray is away; another round comes
            log.warning("lost sessions are not looked for", error=type(error).__name__)
        await state.clock.sleep(PAUSE_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(state.custody.wait(), ROUND_S - PAUSE_S)


async def end_lost(state: State) -> None:
    """End every silent session of which it is proved that its process is gone for good.

    Raises RedisError, RayError, OSError.
    """
    settings = state.settings
    client = connect(settings.redis)
    try:
        for session, home in (await running(client, settings.prefix)).items():
            keys = Keys(session, settings.prefix)
            signs = await life(client, keys)
            if signs == "live":
                continue
            if signs == "silent" and home.node is None:
                continue  # of a command: whoever runs it may resume it
            if signs in ("silent", "none") and await ask(session, home) is not False:
                continue
            if signs == "silent" and not await _end(state, keys):
                continue
            if await life(client, keys) in ("ended", "none"):
                await leave(client, keys)
                if home.node is not None:
                    with suppress(ClusterError, RayError):
                        await asyncio.to_thread(drop_everywhere, keys)
    finally:
        await client.aclose()


async def _sweep(state: State) -> None:
    """Remove what is held for sessions that are over. Raises ClusterError."""
    if removed := await asyncio.to_thread(sweep_nodes, state.settings.prefix):
        log.info("requests of sessions that are over removed", files=removed)


async def _end(state: State, keys: Keys) -> bool:
    """Publish the end of a session; False if another gateway does, or its claim is somebody's."""
    settings = state.settings
    if not await claim_silent(settings.redis, keys):
        return False
    try:
        await publish_end(settings.redis, keys, settings.kept, REASON)
    finally:
        with suppress(RedisError, OSError):
            await release(settings.redis, keys)
    log.warning("session ended for its process, which is gone", session=keys.session)
    return True
