"""Sessions that a gateway starts: each runs in an actor of the cluster, so that it outlives the gateway."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from redis.exceptions import RedisError

from stream.bus.directory import overview
from stream.bus.forget import find_files, remove_files
from stream.bus.keys import Keys
from stream.bus.publisher import publish_end
from stream.bus.running import Home
from stream.bus.tasks import abandon
from stream.errors import MediaError
from stream.sources.base import Source
from stream.sources.fetched import FetchedSource
from stream.sources.file import open_recording
from stream.sources.mixing import MixedSource, Participant
from stream.sources.pushed import PushedTrack
from stream.sources.reach import Reach
from stream.sources.reconnecting import ReconnectingSource
from workers.cluster.pools import start_pools
from workers.cluster.request import MediaFile, Options, Place, Push, Upload, Url
from workers.errors import UsageError
from workers.session.opening import open_session
from workers.session.runner import EventObserver, SessionError, run_session
from workers.session.services import EventBus
from workers.session.utterance import error_line

TRACK_TIMEOUT_S = 60.0  # that a pushed track may take to connect, or to come back
REDIS_PATIENCE_S = 24 * 3600.0  # that a session waits for Redis at its end: nobody would send its events by hand
MAX_RESUMES_HERE = 3  # at the same place: then it is the source that kills the process
WATCH_S = 0.1  # between looks at a connection whose sender has to learn when it cannot be read
MAX_RECORDING_S = 12 * 3600.0  # of a recording that is sent whole: silence takes few bytes


class ServedSession:
    """A source and the session that takes it, and the tracks of that source that clients push to."""

    def __init__(
        self,
        session: str,
        options: Options,
        source: Push | Url | MediaFile | Upload,
        place: Place,
        observers: Sequence[EventObserver] = (),
        home: Home | None = None,
    ) -> None:
        """observers: objects of this process that get the session's events as a subscriber receives them; home: where
        the session lives, None = in this process."""
        self._session, self._options, self._asked, self._place = session, options, source, place
        self._observers, self._home = list(observers), home
        self._tracks: list[PushedTrack] = []
        self._mixed: MixedSource | None = None
        self._stopped = asyncio.Event()
        self._work: asyncio.Task[Any] | None = None
        self._source: Source | None = None
        self._bus: EventBus | None = None

    async def start(self, resumed: bool = False) -> None:
        """Decide everything and start; returns when the session listens.

        resumed: another process began the session, and was killed. Raises what `open_session` raises, and MediaError.
        """
        options, place = self._options, self._place
        if options.recorded and place.record is None:
            raise UsageError("record: this gateway keeps no recordings (undertone serve --record DIR)")
        source, names, speed = await asyncio.to_thread(self._open_source)
        words = self._asked.transcript if isinstance(self._asked, MediaFile) else None
        node = ray.get_runtime_context().get_node_id()  # a node may have come since this session was placed
        opened = await open_session(
            options.settings(
                session=self._session, asr_model=place.asr_model, device=place.device, names=names,
                kept=place.kept, transcript=inside(place.media, words) if words else None,
            ),
            source,
            functools.partial(start_pools, node=node),
            place.redis,
            place.prefix,
            speed=speed,
            record=place.record if options.recorded else None,
            resume="if possible" if resumed else "no",
            max_attempts=MAX_RESUMES_HERE,
            exclusive=False,  # the gateway has claimed it
            home=self._home,
        )  # fmt: skip
        self._bus = opened.session.bus
        self._source, started = opened.source, asyncio.Event()
        observers = opened.observers(self._observers)
        self._work = asyncio.create_task(
            run_session(opened.session, opened.source, speed, observers, self._stopped, started, REDIS_PATIENCE_S)
        )
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({waiting, self._work}, return_when=asyncio.FIRST_COMPLETED)
        abandon(waiting)
        if not started.is_set():
            self._work.result()

    def _open_source(self) -> tuple[Source, dict[int, str], float | None]:
        """The source, the names of its channels, and the speed at which a recording plays."""
        match self._asked:
            case Push(tracks=tracks):
                if len(tracks) > 1 and not all(track.name for track in tracks):
                    raise UsageError("tracks: several need a name each")
                self._tracks = [PushedTrack(track.name or "room", track.video, TRACK_TIMEOUT_S) for track in tracks]
                people = [
                    Participant(ReconnectingSource(track.connect, TRACK_TIMEOUT_S, longest=1.0), None, track.name)
                    for track in self._tracks
                ]
                named = {n: track.name for n, track in enumerate(tracks) if track.name}
                self._mixed = MixedSource(people)
                return self._mixed, named, None
            case Url(url=url, name=name):
                fetch = functools.partial(FetchedSource, url, Reach(self._place.pull_from))
                return ReconnectingSource(fetch, TRACK_TIMEOUT_S), {0: name} if name else {}, None
            case MediaFile(name=name, speed=speed, track=track):
                source = open_recording(inside(self._place.media, name), track=track)
                return source, source.names, speed
            case Upload(name=name, content=content, speed=speed, track=track):
                source = open_recording(Path(name), content=content, max_seconds=MAX_RECORDING_S, track=track)
                return source, source.names, speed

    async def resume(self) -> None:
        """Go on with a session whose process was killed, unless it had ended. Raises what `start` raises."""
        place = self._place
        while True:
            try:
                found = await overview(place.redis, place.prefix, [self._session])
                break
            except (RedisError, OSError):  # without it nobody knows where to go on; live sound is lost meanwhile
                await asyncio.sleep(1)
        if found and found[0].state == "ended":
            return
        try:
            await self.start(resumed=True)
        except Exception as error:
            keys = Keys(self._session, place.prefix)
            await publish_end(place.redis, keys, place.kept, f"error: {error_line(error)}")
            raise

    def attach(self, track: int, connection: str, format: str, rate: int) -> None:
        """A sender of a track is here. Raises MediaError."""
        self._track(track).attach(connection, format, rate)

    async def push(self, track: int, connection: str, piece: bytes) -> None:
        """Take a piece of a track; waits while it is decoded too slowly. Raises MediaError."""
        pushed = self._track(track)
        pushed.feed(connection, piece)
        while pushed.full(connection):  # noqa: ASYNC110 - a thread empties it, and this loop may be another's
            await asyncio.sleep(0.05)

    async def watch(self, track: int, connection: str) -> None:
        """Wait until nothing more is read from a connection of a track. Raises MediaError, then, with the reason."""
        pushed = self._track(track)
        while True:
            pushed.full(connection)
            await asyncio.sleep(WATCH_S)

    def detach(self, track: int, connection: str, over: bool) -> None:
        """The sender of a track is gone; `over`: for good."""
        self._track(track).detach(connection, over)

    def began(self, track: int) -> float | None:
        """Time of a pushed track's first sample, in seconds on the media clock; None if nothing of it has come."""
        return None if self._mixed is None else self._mixed.began(track)

    def _track(self, number: int) -> PushedTrack:
        if not 0 <= number < len(self._tracks):
            raise MediaError(f"track {number}: the session has {len(self._tracks)} that are pushed")
        return self._tracks[number]

    def stop(self) -> None:
        """Listen no further; what was heard is still labelled."""
        self._stopped.set()
        if self._source is not None:
            self._source.stop()

    async def done(self) -> None:
        """Wait for the session's end."""
        if self._work is not None:
            with suppress(SessionError):  # its stream says why
                await self._work
        if self._bus is not None and self._bus.forgotten.is_set() and self._place.record is not None:
            await asyncio.to_thread(remove_files, find_files(self._bus.keys, [self._place.record]))


def inside(folder: Path | None, name: str) -> Path:
    """A file of the media folder. Raises UsageError when the name leads elsewhere or there is no such folder."""
    if folder is None:
        raise UsageError("source: this gateway plays no files (undertone serve --media DIR)")
    try:
        path = (folder / name).resolve()
        found = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        found = False
    if not found:
        raise UsageError(f"source: no file {name!r} in the media folder")
    return path
