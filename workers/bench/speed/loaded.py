"""Sessions that start with all models loaded, so that loading is not measured."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stream.sources.base import Source
from workers.cluster.pools import start_pools
from workers.session.runner import EventObserver, new_session, run
from workers.session.services import ModelRequirements, SessionPlan


def run_loaded(
    plan: SessionPlan,
    needs: ModelRequirements,
    source: Source,
    speed: float | None,
    redis: str,
    displays: Sequence[EventObserver],
) -> None:
    """Run a source through a session, once its pools are ready. Raises SessionError."""
    pools = start_pools(plan, needs)

    async def replay() -> None:
        await pools.ready()
        await run(new_session(plan, pools, redis, "bench"), source, speed, displays)

    asyncio.run(replay())
