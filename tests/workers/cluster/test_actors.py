"""Ray: the whole path over real actors, and what happens when some are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
from pathlib import Path

import psutil
import pytest
import ray
from ray.exceptions import RayError

from stream.bus.subscriber import subscribe
from stream.events import Emotion, Event, UtteranceFailed
from stream.sources.file import FileSource
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from workers.bench.accuracy.endtoend import Collected
from workers.cluster.actors import stop_all
from workers.cluster.pools import start_pools
from workers.session.planning import plan_session
from workers.session.runner import new_session, run
from workers.session.settings import SessionSettings


def planned(path: Path = DEMO, transcript: Path | None = DEMO_TRANSCRIPT):
    session = f"actors-{secrets.token_hex(4)}"
    source = FileSource(path)
    wishes = SessionSettings(transcript=transcript, asr="none", session=session, speculate=False)
    return plan_session(wishes, source), source


async def replay(redis_url: str, speed: float | None = None, during=None) -> list[Event]:
    plan, source = planned()
    pools, display = start_pools(plan.plan, plan.needs), Collected()
    work = asyncio.create_task(run(new_session(plan.plan, pools, redis_url, "undertone"), source, speed, [display]))
    if during is not None:
        await during(plan.plan, pools, display)
    outcome = await work
    assert outcome.ended.reason == "end of source"
    return display.events


def labels(events: list[Event]) -> list[tuple[str, float]]:
    """Of the labels that a replay repeats exactly: interim ones come by the clock."""
    emotions = [event for event in events if isinstance(event, Emotion) and event.trigger != "interval"]
    return [(event.emotion, event.probabilities[event.emotion]) for event in emotions]


async def test_a_conversation_goes_through_real_actors(redis_url: str, ray_address: str) -> None:
    events = await replay(redis_url)
    assert [e.utterance for e in events if isinstance(e, Emotion) and e.trigger == "speech_ended"] == list(range(14))
    assert all(e.modalities.missing == [] for e in events if isinstance(e, Emotion))
    again = await replay(redis_url)
    for one, other in zip(labels(events), labels(again), strict=True):
        assert one[0] == other[0] and one[1] == pytest.approx(other[1], abs=1e-4)


async def test_killed_helpers_come_back_and_nothing_is_lost(redis_url: str, ray_address: str) -> None:
    calm = await replay(redis_url)

    async def kill(plan, pools, display: Collected) -> None:
        await wait_for_labels(display, 6)
        for actor in (pools.recognizer, *pools.encoders):
            pid = await actor.__ray_call__.remote(lambda self: os.getpid())
            os.kill(pid, signal.SIGKILL)

    shaken = await replay(redis_url, speed=8, during=kill)
    assert not [event for event in shaken if isinstance(event, UtteranceFailed)]
    for one, other in zip(labels(calm), labels(shaken), strict=True):
        assert one[0] == other[0] and one[1] == pytest.approx(other[1], abs=1e-4)


async def test_a_worker_without_memory_costs_no_utterance(redis_url: str, ray_address: str) -> None:
    """The encoder gets no byte more from the system: whatever fails says so, and the next session is well."""
    calm = await replay(redis_url)

    def starve(encoder: object) -> int:
        """No mapping more, and what the allocator still holds from before is taken, down to pieces of a MiB."""
        taken = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (taken // 2, resource.RLIM_INFINITY))
        encoder.__dict__["ballast"] = ballast = []
        with contextlib.suppress(MemoryError):
            while True:
                ballast.append(bytearray(1 << 20))
        return os.getpid()

    hungry: list[int] = []

    async def hunger(plan, pools, display: Collected) -> None:
        await wait_for_labels(display, 4)
        hungry.append(await pools.encoders[0].__ray_call__.remote(starve))
        with pytest.raises(RayError):
            await pools.encoders[0].__ray_call__.remote(lambda encoder: len(bytes(1 << 30)))

    starved = await replay(redis_url, speed=8, during=hunger)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(hungry[0], resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    unsaid = [e for e in starved if isinstance(e, Emotion) and set(e.modalities.missing) - set(e.modalities.reasons)]
    assert not unsaid
    outcomes = [event.utterance for event in starved if isinstance(event, Emotion) and event.trigger == "speech_ended"]
    outcomes += [event.utterance for event in starved if isinstance(event, UtteranceFailed)]
    assert sorted(outcomes) == list(range(14))
    for one, other in zip(labels(calm), labels(await replay(redis_url)), strict=True):
        assert one[0] == other[0] and one[1] == pytest.approx(other[1], abs=1e-4)


async def wait_for_labels(display: Collected, count: int) -> None:
    while sum(isinstance(event, Emotion) for event in display.events) < count:
        await asyncio.sleep(0.05)


async def test_a_session_that_is_given_up_ends_with_its_reason(redis_url: str, ray_address: str) -> None:
    plan, source = planned()
    pools, display = start_pools(plan.plan, plan.needs), Collected()
    session = new_session(plan.plan, pools, redis_url, "undertone")
    work = asyncio.create_task(run(session, source, 4, [display]))
    await wait_for_labels(display, 1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    events = [event async for event in subscribe(redis_url, plan.plan.session)]
    assert events[-1].type == "session.ended" and events[-1].reason == "interrupted"
    assert [event.id for event in events[:-1]] == [event.id for event in display.events][: len(events) - 1]


async def test_down_removes_everything(redis_url: str, ray_address: str) -> None:
    plan, _ = planned()
    await start_pools(plan.plan, plan.needs).ready()
    stopped = stop_all()
    assert any(name.startswith("recognizer") for name in stopped)
    assert not [e for e in ray.util.list_named_actors(all_namespaces=True) if e["namespace"] == "undertone"]
