"""The sessions of a program: their events one after the other, in an event loop or without one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Coroutine, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.progress import Silent
from stream.block import Block
from stream.bus.keys import PREFIX
from stream.bus.tasks import cancelled
from stream.events import Event, SessionEnded
from stream.sources.base import Source, SourceWrapper
from stream.sources.file import FileSource
from workers.api.samples import Pcm, PushedSamples, as_wav
from workers.errors import UsageError
from workers.session.opening import StartModels, open_session
from workers.session.runner import SessionError, run_session
from workers.session.settings import SessionSettings

log = logging.getLogger(__name__)

MAX_UNREAD_EVENTS = 1_000  # that wait for the program, after which no more media are taken
END_S = 15.0  # seconds that a session may take to end when its program leaves it
LOOK_S = 0.2  # seconds between looks whether a source that waits was stopped

Answer = TypeVar("Answer")


class _LoggedProgress(Silent):
    """Reports of downloads, in the log."""

    def tell(self, message: str) -> None:
        log.warning("%s", message)


class _Unread:
    """Events that the program has not read yet (`workers.session.runner.EventObserver`)."""

    def __init__(self) -> None:
        self.has_room = threading.Event()
        """Set while there are fewer than `MAX_UNREAD_EVENTS`."""
        self.has_room.set()
        self._events: deque[Event] = deque()
        self._came = asyncio.Event()

    def event(self, event: Event) -> None:
        self._events.append(event)
        self._came.set()
        if len(self._events) >= MAX_UNREAD_EVENTS:
            self.has_room.clear()

    def position(self, seconds: float) -> None:
        pass

    def wake(self, _: object) -> None:
        """Let who waits look again: the session is over."""
        self._came.set()

    async def next(self, work: asyncio.Task[SessionEnded]) -> Event | None:
        """The next event; None once all have been read and the session's work is done."""
        while not self._events:
            if work.done():
                return None
            self._came.clear()
            await self._came.wait()
        event = self._events.popleft()
        if len(self._events) < MAX_UNREAD_EVENTS:
            self.has_room.set()
        return event


class _HeldSource(SourceWrapper):
    """A source that is read no further while too many events are unread."""

    def __init__(self, source: Source, has_room: threading.Event) -> None:
        super().__init__(source)
        self._has_room, self._stopped = has_room, False

    def stop(self) -> None:
        self._stopped = True
        super().stop()

    def __iter__(self) -> Iterator[Block]:
        for block in self.source:
            while not self._has_room.wait(LOOK_S) and not self._stopped:
                pass
            yield block


class _Running:
    """A session that runs in this event loop, and its unread events."""

    def __init__(self, source: Source, settings: SessionSettings, redis: str | None, prefix: str) -> None:
        self._unread = _Unread()
        self._source = _HeldSource(source, self._unread.has_room)
        self._settings, self._redis, self._prefix = settings, redis, prefix
        self._work: asyncio.Task[SessionEnded] | None = None

    async def open(self, start: StartModels, speed: float | None, paced: bool) -> str:
        """Plan the session and let it begin; returns its id. Raises what `open_session` raises, and DownloadError."""
        from model.encoders.asr import check_name
        from workers.research.downloads import fetch_recognizer, fetch_text_encoder

        settings = self._settings
        if settings.wants_recognizer:
            check_name(settings.asr_model)
        await asyncio.to_thread(fetch_text_encoder, _LoggedProgress())
        if settings.wants_recognizer:
            wanted = settings.asr == "whisper"
            await asyncio.to_thread(fetch_recognizer, wanted, settings.asr_model, _LoggedProgress())
        opened = await open_session(settings, self._source, start, self._redis, self._prefix, speed=speed, paced=paced)
        observers = opened.observers([self._unread])
        self._work = asyncio.create_task(run_session(opened.session, opened.source, speed, observers, asyncio.Event()))
        self._work.add_done_callback(self._unread.wake)
        self._work.add_done_callback(lambda _: self._source.stop())
        return opened.plan.session

    async def next(self) -> Event | None:
        """The next event; None after the last. Raises SessionError if the session broke off, once all are read."""
        assert self._work is not None
        event = await self._unread.next(self._work)
        if event is None:
            reason = self._work.result().reason
            if reason.startswith("error: "):
                raise SessionError(reason.removeprefix("error: "))
        return event

    async def aclose(self) -> None:
        """End the session, if it goes on."""
        self._source.stop()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work}, timeout=END_S)  # it tells its end, and the models forget it
            await cancelled(self._work)


@contextmanager
def _models(ray_address: str | None) -> Iterator[StartModels]:
    """The models of a session: in this process, or in the Ray cluster at an address. Raises ClusterError."""
    if ray_address is None:
        from workers.inference.in_process import load_in_process

        yield load_in_process
        return
    import ray

    from workers.cluster.actors import ray_cluster
    from workers.cluster.pools import start_pools

    if ray.is_initialized():  # the program has joined a cluster itself
        yield start_pools
        return
    with ray_cluster(ray_address):
        yield start_pools


class _LoopThread:
    """An event loop in a thread, for programs that have none, or that have one which must not wait."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="undertone-session", daemon=True)

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._running.set()
            self._loop.run_forever()

    def __enter__(self) -> Self:
        self._thread.start()
        self._running.wait()
        return self

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The result of a coroutine that runs in the thread; Ctrl-C cancels it."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def analyse(
    recording: str | Path | NDArray[np.int16] | NDArray[np.floating[Any]],
    rate: int | None = None,
    settings: SessionSettings | None = None,
    *,
    channels: str = "auto",
    track: int | None = None,
    speed: float | None = None,
    redis: str | None = None,
    prefix: str = PREFIX,
    ray_address: str | None = None,
) -> Generator[Event]:
    """The events of a recording, as they come.

    recording: a media file, or samples [n] or [channels, n], int16 or floating point with full scale ±1, that were
    taken `rate` times a second. channels: "mix", "split" (a speaker each), or "auto". track: of a file, from 1. speed:
    times real time; None: as fast as it goes, when interim labels come only with `Settings(interim=…)`. redis: publish
    there, too. ray_address: of a Ray cluster that has the models; None: they are loaded into this process.

    The analysis is at most 1,000 events ahead of the program. Leaving the loop ends it, as `close()` does.

    Raises MediaError and UsageError at once; while events are read, whatever the models raise that are missing, and
    SessionError when the session broke off.
    """
    if isinstance(recording, np.ndarray):
        if rate is None:
            raise UsageError("rate: say how many samples a second the array has")
        source = FileSource(Path("samples"), channels, content=as_wav(recording, rate))
    elif rate is not None:
        raise UsageError("rate: of an array of samples; a file says it itself")
    else:
        source = FileSource(Path(recording), channels, track=track)
    running = _Running(source, settings or SessionSettings(), redis, prefix)
    return _events(running, speed, ray_address)


def _events(running: _Running, speed: float | None, ray_address: str | None) -> Generator[Event]:
    with _models(ray_address) as start, _LoopThread() as loop:
        try:
            loop.run(running.open(start, speed, speed is not None))
            while (event := loop.run(running.next())) is not None:
                yield event
        finally:
            loop.run(running.aclose())


class Listening:
    """A session whose sound the program pushes; see `listen`."""

    def __init__(
        self, source: PushedSamples, settings: SessionSettings, redis: str | None, prefix: str, ray_address: str | None
    ) -> None:
        self.session = ""
        """Id of the session, once it has begun."""
        self._source, self._ray_address = source, ray_address
        self._running = _Running(source, settings, redis, prefix)
        self._open = ExitStack()

    async def push(self, pcm: Pcm) -> None:
        """Take the next samples: bytes (16 bit, little-endian, channels interleaved), or an array [n] or [channels, n],
        int16 or floating point with full scale ±1.

        Waits while 5 s of sound or 1,000 events are unread. Raises UsageError for other samples, and after the end.
        """
        await self._source.push(pcm)

    def end(self) -> None:
        """There is no more sound: the events that are owed come, then `session.ended`."""
        self._source.stop()

    async def __aenter__(self) -> Self:
        start = self._open.enter_context(_models(self._ray_address))
        try:
            self.session = await self._running.open(start, None, paced=True)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self._source.discard()
        with self._open:
            await self._running.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises SessionError when the session broke off."""
        if (event := await self._running.next()) is None:
            raise StopAsyncIteration
        return event


def listen(
    rate: int,
    channels: int = 1,
    settings: SessionSettings | None = None,
    *,
    redis: str | None = None,
    prefix: str = PREFIX,
    ray_address: str | None = None,
) -> Listening:
    """A session of sound that the program pushes, in an event loop:

        async with listen(16_000) as session:
            await session.push(pcm)
            async for event in session: …

    One task pushes, another reads: who pushes waits when nobody reads. Leaving the block ends the session at once;
    `end()` lets it come to its end. rate: of the samples, in Hz; channels: more than one are a speaker each. redis,
    ray_address: as in `analyse`.

    Raises UsageError. Entering the block raises whatever the models raise that are missing.
    """
    return Listening(PushedSamples(rate, channels), settings or SessionSettings(), redis, prefix, ray_address)
