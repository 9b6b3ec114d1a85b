"""A source through a session, from the first block to `session.ended`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from model.fusion.checkpoint import load_config
from stream.block import RATE, Block
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.running import Home, this_process
from stream.bus.tasks import cancelled
from stream.clock import Pacer
from stream.errors import MediaError
from stream.events import Event, SessionEnded
from stream.sources.base import Source
from stream.sources.file import played_file
from workers.errors import WorkersError
from workers.session.local_bus import LocalBus
from workers.session.services import EventBus, InferenceBackend, ServiceError, SessionPlan
from workers.session.session import Session
from workers.session.utterance import error_line
from workers.session.whole_recording import ListenedTo, find_turns

READ_AHEAD = 8
"""Blocks of a recording that are read at once: waking a thread for one costs more than reading it."""
MODEL_LOAD_TIMEOUT_S = 180  # seconds for models to load; a cluster without room for an actor would let us wait for ever


class EventObserver(Protocol):
    """Observer of a session: a display, a recorder, a score."""

    def event(self, event: Event) -> None: ...

    def position(self, seconds: float) -> None:
        """Media time handed to the session."""
        ...


class SessionError(WorkersError):
    """The session could not start, or broke off."""


@dataclass
class Outcome:
    """Result of a session, for the exit code and the last line."""

    ended: SessionEnded
    interrupted: bool


def new_session(
    plan: SessionPlan, backend: InferenceBackend, redis: str | None, prefix: str, home: Home | None = None
) -> Session:
    """A session that publishes to a Redis; None = its events stay in this process. home: where it lives, None = in this
    process.

    Raises CheckpointError, BusError.
    """
    config, keys, plan = load_config(plan.checkpoint), Keys(plan.session, prefix), replace(plan, device=backend.device)
    bus = LocalBus(keys) if redis is None else Bus(redis, keys, plan.kept, home=home or this_process())
    return Session(plan, config, backend, bus)


async def run(
    session: Session,
    source: Source,
    speed: float | None,
    displays: Sequence[EventObserver],
    listened_to: ListenedTo | None = None,
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
    try:
        ended = await run_session(session, source, speed, displays, interrupted, listened_to=listened_to)
        return Outcome(ended, interrupted.is_set())
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def run_session(
    session: Session,
    source: Source,
    speed: float | None,
    displays: Sequence[EventObserver],
    interrupted: asyncio.Event,
    started: asyncio.Event | None = None,
    patience: float = 30.0,
    listened_to: ListenedTo | None = None,
) -> SessionEnded:
    """Carry a source through a session: `started` is set when its first event is there, `interrupted` by whoever
    stopped the source; patience: seconds that the last events may wait for Redis before they are left on disk;
    listened_to: shown how far a first pass is.

    Listens from the first moment, while models are still being loaded. Whatever fails, the session's stream gets its
    `session.ended`. Raises SessionError.
    """
    shown = asyncio.create_task(_relay_events(session.bus, displays, started))
    loaded = asyncio.create_task(_wait_for_models(session))
    forgotten = asyncio.create_task(session.bus.forgotten.wait())
    try:
        await session.start()
        loaded.add_done_callback(lambda task: None if task.cancelled() or task.exception() is None else source.stop())
        shown.add_done_callback(lambda _: source.stop())  # listening for nobody (a closed pipe, say) has no use
        forgotten.add_done_callback(lambda _: source.stop())
        try:
            if session.plan.first_pass:
                await _find_turns(session, source, listened_to)
            await _feed_blocks(session, source, Pacer(session.clock, speed), displays)
            reason = _reason(source, interrupted)
        except MediaError as error:
            reason = f"error: {error}"
        if session.bus.forgotten.is_set():
            raise SessionError("the session was forgotten while it went on")
        await loaded
        counts = {name: count for name, count in source.counts().items() if count}
        await session.finish(reason, counts, patience)
        return await asyncio.wait_for(shown, patience)
    except BrokenPipeError:
        raise
    except asyncio.CancelledError:
        await _end_for(session, "interrupted")
        raise
    except (SessionError, ServiceError, ConnectionError, TimeoutError) as error:
        await _end_for(session, f"error: {_line(error)}")
        raise SessionError(_line(error)) from None
    finally:
        session.close()
        for task in (shown, loaded, forgotten):
            await cancelled(task)


async def _wait_for_models(session: Session) -> None:
    """Wait until the models are loaded. Raises SessionError with what kept one from it."""
    try:
        await asyncio.wait_for(session.load_models(), MODEL_LOAD_TIMEOUT_S)
    except TimeoutError:
        raise SessionError("the actors do not start: has the Ray cluster room for them?") from None
    except ServiceError as error:
        raise SessionError(f"a model does not load: {_line(error, last=True)}") from None


def _line(error: Exception, last: bool = False) -> str:
    """The line of an error's text that says most: of a Ray traceback the last, else the first."""
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[-1 if last else 0] if lines else type(error).__name__


async def _find_turns(session: Session, source: Source, listened_to: ListenedTo | None) -> None:
    """Let the session know who speaks when, from a first pass over its whole recording in a thread.

    Stopping the source ends it. It finds the same again when the session is resumed. Raises MediaError, SessionError.
    """
    file, plan = played_file(source), session.plan
    assert file is not None
    try:
        turns = await asyncio.to_thread(find_turns, file.sound_again(), plan.enrolled, plan.people_count, listened_to)
    except asyncio.CancelledError:
        file.stop()
        raise
    except MediaError:
        raise
    except Exception as error:
        raise SessionError(f"it is not found who speaks when: {error_line(error)}") from None
    finally:
        if listened_to is not None:
            listened_to(None)
    if not file.is_stopped:
        session.use_turns(turns)


async def _feed_blocks(session: Session, source: Source, pacer: Pacer, displays: Sequence[EventObserver]) -> None:
    """Hand blocks over at their time; a session that is full holds back a file."""
    async with aclosing(_blocks(source)) as blocks:
        async for block in blocks:
            end = block.start + block.samples.shape[1] / RATE  # when a live source would have it whole
            if session.resume_position and end <= session.resume_position:  # at 0 a block may have a notice
                session.skip(block)
                continue
            late = await pacer.wait_until(end)
            for display in displays:
                display.position(end)
            await session.push(replace(block, lag=max(late, block.lag)))


async def _blocks(source: Source) -> AsyncGenerator[Block]:
    """The source's blocks, read in a thread. Raises MediaError, after those that were read."""
    iterator, count, error = iter(source), 1 if source.live else READ_AHEAD, None
    while error is None:
        blocks, error = await asyncio.to_thread(_read, iterator, count)
        for block in blocks:
            yield block
        if len(blocks) < count:
            break
    if error is not None:
        raise error


def _read(iterator: Iterator[Block], count: int) -> tuple[list[Block], MediaError | None]:
    """The next blocks, and the error that ends them early."""
    blocks: list[Block] = []
    try:
        blocks.extend(islice(iterator, count))
    except MediaError as error:
        return blocks, error
    return blocks, None


def _reason(source: Source, interrupted: asyncio.Event) -> str:
    if interrupted.is_set():
        return "interrupted"
    return f"error: {source.ended_early}" if source.ended_early else "end of source"


async def _end_for(session: Session, reason: str) -> None:
    """End a session that can no longer do it itself, and let the recognizer forget it."""
    session.close()
    await session.bus.end(reason)
    with suppress(ServiceError, TimeoutError):
        await asyncio.wait_for(session.backend.finish(session.bus.keys.session, []), 5)


async def _relay_events(
    bus: EventBus, displays: Sequence[EventObserver], started: asyncio.Event | None
) -> SessionEnded:
    async for event in bus.events():
        if started is not None:
            started.set()
        for display in displays:
            display.event(event)
        if isinstance(event, SessionEnded):
            return event
    raise SessionError("the subscription ended before the session")
