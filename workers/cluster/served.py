"""Sessions that a gateway starts: carried by an actor in the cluster, so that they outlive the gateway."""

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
from stream.bus.keys import Keys
from stream.errors import MediaError
from stream.sources.base import OffsetSource, Source
from stream.sources.fetched import FetchedSource
from stream.sources.file import FileSource
from stream.sources.mixing import MixedSource, Participant
from stream.sources.pushed import PushedTrack
from stream.sources.reach import Reach
from stream.sources.reconnecting import ReconnectingSource
from stream.sources.recording import Recorder, unused
from workers.cluster.pools import start_pools
from workers.cluster.request import MediaFile, Options, Place, Push, Upload, Url
from workers.session.planning import SessionSettings, UsageError, plan_session, settings_of
from workers.session.runner import EventObserver, SessionError, new_session, publish_end, run_session
from workers.session.session import Session
from workers.session.snapshot import ResumePoint, load_resume_point
from workers.session.utterance import one_line

TRACK_TIMEOUT_S = 60.0  # seconds that a pushed track may take to connect, or to come back
REDIS_PATIENCE_S = (
    24 * 3600.0
)  # seconds that a session waits for Redis at its end: here nobody would send its events by hand
MAX_RESUMES_HERE = 3  # of them at the same place: then it is the source that kills it
MAX_RECORDING_S = 12 * 3600.0  # seconds of a recording that is sent whole: silence takes few bytes


class ServedSession:
    """Opens a source, carries it through a session beside it, and takes what is pushed to its tracks."""

    def __init__(
        self,
        session: str,
        options: Options,
        source: Push | Url | MediaFile | Upload,
        place: Place,
        displays: Sequence[EventObserver] = (),
    ) -> None:
        """displays: who, in this process, is shown the session's events as a subscriber receives them."""
        self._session, self._options, self._asked, self._place = session, options, source, place
        self._displays = list(displays)
        self._tracks: list[PushedTrack] = []
        self._stopped = asyncio.Event()
        self._work: asyncio.Task[Any] | None = None
        self._source: Source | None = None

    async def open(self, again: bool = False) -> None:
        """Decide everything and start; returns when the session listens.

        again: another process began it, and was killed. Raises UsageError, MediaError, SessionError and what else
        planning raises.
        """
        source, names, speed = await asyncio.to_thread(self._open_source)
        options, asked = self._options, self._asked
        words = asked.transcript if isinstance(asked, MediaFile) else None
        paced = speed is not None or not isinstance(asked, MediaFile | Upload)
        interim = options.interim if options.interim is not None else 3.0 if paced else 0.0
        wishes = SessionSettings(
            checkpoint=options.checkpoint, asr=options.asr, asr_model=self._place.asr_model, vad=options.vad,
            modalities=tuple(options.modalities), names=names, session=self._session, consent=options.consent,
            redact=options.redact, mask=options.mask, language=options.language, interim=interim,
            recorded=options.record, kept=self._place.kept,
            transcript=inside(self._place.media, words) if words else None,
            speculate=paced,
        )  # fmt: skip
        planned = await asyncio.to_thread(plan_session, wishes, source)
        here = ray.get_runtime_context().get_node_id()  # a node may have come since this session was placed
        pools = start_pools(planned.plan, planned.needs, here)
        session = new_session(planned.plan, pools, self._place.redis, self._place.prefix)
        left = await load_resume_point(self._place.redis, session.bus.keys) if again else None
        if left is not None:
            source = self._take_up(session, left, source)
        if options.record:
            if self._place.record is None:
                raise UsageError("record: this gateway keeps no recordings (undertone serve --record DIR)")
            folder = unused(self._place.record / self._session) if again else self._place.record / self._session
            source = recorder = Recorder(source, folder, *settings_of(wishes))
            self._displays.append(recorder)
        self._source, started = source, asyncio.Event()
        self._work = asyncio.create_task(
            run_session(session, source, speed, self._displays, self._stopped, started, REDIS_PATIENCE_S)
        )
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({waiting, self._work}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not started.is_set():
            self._work.result()

    def _take_up(self, session: Session, left: ResumePoint, source: Source) -> Source:
        """Let a session go on from what was left; returns its source on the session's clock. Raises SessionError."""
        if left.snapshot.tries >= MAX_RESUMES_HERE:
            raise SessionError(f"its process was killed {MAX_RESUMES_HERE + 1} times at the same place")
        replayed = isinstance(self._asked, MediaFile | Upload)
        at = session.resume(left, replayed)
        return source if replayed else OffsetSource(source, at)

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
                return MixedSource(people), named, None
            case Url(url=url, name=name):
                fetch = functools.partial(FetchedSource, url, Reach(self._place.pull_from))
                return ReconnectingSource(fetch, TRACK_TIMEOUT_S), {0: name} if name else {}, None
            case MediaFile(name=name, speed=speed):
                return FileSource(inside(self._place.media, name)), {}, speed
            case Upload(name=name, content=content, speed=speed):
                return FileSource(Path(name), content=content, longest=MAX_RECORDING_S), {}, speed

    async def take_up(self) -> None:
        """Go on with a session whose process was killed, unless it had ended. Raises what `open` raises."""
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
            await self.open(again=True)
        except Exception as error:
            keys = Keys(self._session, place.prefix)
            await publish_end(place.redis, keys, place.kept, f"error: {one_line(error)}")
            raise

    def attach(self, track: int, connection: str, form: str, rate: int) -> None:
        """A sender of a track is here. Raises MediaError."""
        self._track(track).attach(connection, form, rate)

    async def push(self, track: int, connection: str, piece: bytes) -> None:
        """Take a piece of a track; waits while it is decoded too slowly. Raises MediaError."""
        pushed = self._track(track)
        pushed.feed(connection, piece)
        while pushed.full(connection):  # noqa: ASYNC110 - a thread empties it, and this loop may be another's
            await asyncio.sleep(0.05)

    def detach(self, track: int, connection: str, over: bool) -> None:
        """The sender of a track is gone; `over`: for good."""
        self._track(track).detach(connection, over)

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
