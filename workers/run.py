"""A source through a session, from the first block to `session.ended`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from ray.exceptions import ActorDiedError, RayError

from stream import RATE
from stream.block import Block
from stream.bus import Bus, Keys
from stream.client import subscribe
from stream.clock import MonotonicClock, Pacer
from stream.events import Event, SessionEnded
from stream.live import Reconnecting, Source, Together
from stream.media import MediaError
from stream.recording import Recorder
from workers.actors import Pools, RemoteSession
from workers.plan import SessionPlan

START = 180  # seconds for models to load; a cluster without room for an actor would let us wait for ever
PUSHES = 4  # blocks on their way to the session at once


class Display(Protocol):
    """Who is shown what happens."""

    def event(self, event: Event) -> None: ...

    def position(self, seconds: float) -> None:
        """Media time handed to the session."""
        ...


class Listener(Protocol):
    """A session, here or in an actor of its own."""

    async def start(self) -> None: ...

    async def push(self, block: Block) -> None: ...

    async def finish(self, reason: str, counts: dict[str, int]) -> object: ...


class SessionError(Exception):
    """The session could not be carried through; the message is one line."""


@dataclass
class Outcome:
    """How a session went, for the exit code and the last line."""

    ended: SessionEnded
    interrupted: bool


async def run(
    plan: SessionPlan,
    source: Source,
    speed: float | None,
    redis: str,
    prefix: str,
    pools: Pools,
    displays: Sequence[Display],
) -> Outcome:
    """Carry a source through a session from a command line, showing every event as a subscriber receives it.

    Ctrl-C (SIGINT) and SIGTERM stop listening, and what was heard is still published; a second one gives up. Raises
    SessionError.
    """
    interrupted = asyncio.Event()
    loop, work = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        if interrupted.is_set() and work is not None:
            work.cancel()
        interrupted.set()
        source.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    session = RemoteSession(plan, redis, prefix, pools)
    try:
        ended = await carry(session, plan.session, source, speed, redis, prefix, pools, displays, interrupted)
        return Outcome(ended, interrupted.is_set())
    finally:
        session.kill()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def carry(
    session: Listener,
    name: str,
    source: Source,
    speed: float | None,
    redis: str,
    prefix: str,
    pools: Pools,
    displays: Sequence[Display],
    interrupted: asyncio.Event,
    started: asyncio.Event | None = None,
) -> SessionEnded:
    """Carry a source through a session: `started` is set when its first event is there, `interrupted` by whoever
    stopped the source.

    Whatever fails, the session's stream gets its `session.ended`. Raises SessionError.
    """
    shown = asyncio.create_task(_show(redis, name, prefix, displays, started))
    try:
        await _warm_up(pools)
        shown.add_done_callback(lambda _: source.stop())  # listening for nobody (a closed pipe, say) has no use
        await session.start()
        try:
            await _feed(session, source, Pacer(MonotonicClock(), speed), displays)
            reason = _reason(source, interrupted)
        except MediaError as error:
            reason = f"error: {error}"
        await session.finish(reason, _counts(source))
        return await asyncio.wait_for(shown, 30)
    except BrokenPipeError:
        raise
    except asyncio.CancelledError:
        await _end_for(name, redis, prefix, "interrupted", pools)
        raise
    except (RayError, ConnectionError, TimeoutError) as error:
        if isinstance(error, ActorDiedError):
            reason = "the session's process died; what it had published stays in Redis"
        else:
            reason = _line(error)
        await _end_for(name, redis, prefix, f"error: {reason}", pools)
        raise SessionError(reason) from None
    finally:
        shown.cancel()


async def _warm_up(pools: Pools) -> None:
    """Wait for the models. Raises SessionError with what kept one from loading."""
    try:
        await asyncio.wait_for(pools.ready(), START)
    except TimeoutError:
        raise SessionError("the actors do not start: has the Ray cluster room for them?") from None
    except RayError as error:
        raise SessionError(f"a model does not load: {_line(error, last=True)}") from None


def _line(error: Exception, last: bool = False) -> str:
    """The line of an error's text that says most: of a Ray traceback the last, else the first."""
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[-1 if last else 0] if lines else type(error).__name__


async def _feed(session: Listener, source: Source, pacer: Pacer, displays: Sequence[Display]) -> None:
    """Hand blocks over at their time, a few at once; a session that is full holds back a file."""
    on_their_way: set[asyncio.Task[None]] = set()
    async with aclosing(_blocks(source)) as blocks:
        async for block in blocks:
            end = block.start + block.samples.shape[1] / RATE  # when a live source would have it whole
            late = await pacer.wait_until(end)
            for display in displays:
                display.position(end)
            on_their_way.add(asyncio.create_task(session.push(replace(block, lag=max(late, block.lag)))))
            if len(on_their_way) >= PUSHES:
                done, on_their_way = await asyncio.wait(on_their_way, return_when=asyncio.FIRST_COMPLETED)
                for push in done:
                    push.result()
    await asyncio.gather(*on_their_way)


async def _blocks(source: Source) -> AsyncGenerator[Block]:
    """The source's blocks, read in a thread."""
    iterator = iter(source)
    while (block := await asyncio.to_thread(next, iterator, None)) is not None:
        yield block


def _counts(source: Source) -> dict[str, int]:
    """What happened to the source, for the last event."""
    counts = {"repaired_samples": source.repaired}
    source = source.source if isinstance(source, Recorder) else source
    if isinstance(source, Reconnecting):
        counts["reconnects"] = source.reconnects
    if isinstance(source, Together):
        counts |= {"reconnects": source.reconnects, "worst_skew_ms": round(1000 * source.worst_skew)}
    return {name: count for name, count in counts.items() if count}


def _reason(source: Source, interrupted: asyncio.Event) -> str:
    if interrupted.is_set():
        return "interrupted"
    return f"error: {source.ended_early}" if source.ended_early else "end of source"


async def _end_for(session: str, redis: str, prefix: str, reason: str, pools: Pools) -> None:
    """Publish `session.ended` for a session that can no longer do it itself, and let the recognizer forget it."""
    bus = Bus(redis, Keys(session, prefix))
    ended = SessionEnded(
        id=f"{session}:ended", session=session, reason=reason, duration=0, utterances=0, failed=0, counts={}
    )
    bus.publish(ended)
    await bus.aclose(timeout=5)
    with suppress(RayError, TimeoutError):
        await asyncio.wait_for(pools.finish(session, []), 5)


async def _show(
    redis: str, session: str, prefix: str, displays: Sequence[Display], started: asyncio.Event | None
) -> SessionEnded:
    async for event in subscribe(redis, session, prefix):
        if started is not None:
            started.set()
        for display in displays:
            display.event(event)
        if isinstance(event, SessionEnded):
            return event
    raise SessionError("the subscription ended before the session")
