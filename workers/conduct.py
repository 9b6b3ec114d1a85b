"""Sessions that a gateway starts: carried by an actor in the cluster, so that they outlive the gateway."""

from __future__ import annotations

import asyncio
import functools
import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray.exceptions import RayError
from redis.exceptions import RedisError

from stream.bus import RETENTION, SESSION_ID, Keys
from stream.directory import overview
from stream.fetched import FetchedSource
from stream.live import Later, Reconnecting, Source
from stream.media import FileSource, MediaError
from stream.pushed import PushedTrack
from stream.reach import Reach
from stream.recording import Recorder, unused
from stream.together import Participant, Together
from workers.actors import NAMESPACE, SHARE
from workers.pending import one_line
from workers.planning import UsageError, Wishes, plan_session, settings_of
from workers.pools import node_of, on_node, start_pools, working_nodes
from workers.run import Display, SessionError, carry, end_for, new_session
from workers.session import Session
from workers.snapshot import Left, left_behind

PATIENCE = 60.0  # seconds that a pushed track may take to connect, or to come back
AWAY = 24 * 3600.0  # seconds that a session waits for Redis at its end: here nobody would send its events by hand
RESTARTS = 100  # of a session's process, whatever killed it
TRIES = 3  # of them at the same place: then it is the source that kills it
TRACKS = 16
LONGEST = 12 * 3600.0  # seconds of a recording that is sent whole: silence takes few bytes
ROOM = 3 << 29  # bytes that decoding may take: pictures of 4K, with all that a decoder looks back at, take half of it
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Strict(BaseModel):
    """What comes from outside: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Track(Strict):
    """One participant's sound (and pictures)."""

    name: Name | None = None
    """None, for a single track: a room, whose speakers are told apart by voice."""
    video: bool = False


class Push(Strict):
    """Tracks that the client sends over WebSockets."""

    kind: Literal["push"]
    tracks: Annotated[list[Track], Field(min_length=1, max_length=TRACKS)]


class Url(Strict):
    """A stream that is fetched, from a host that the operator allows."""

    kind: Literal["url"]
    url: Annotated[str, Field(max_length=2000)]
    name: Name | None = None


class MediaFile(Strict):
    """A file of the server's media folder, played as if live."""

    kind: Literal["file"]
    name: Annotated[str, Field(max_length=200)]
    speed: Annotated[float, Field(ge=0.1, le=1000)] | None = 1.0
    """None = as fast as it goes."""
    transcript: Annotated[str, Field(max_length=200)] | None = None
    """A file of the same folder (STM, VTT, SRT or CSV with times) that has the words; used instead of ASR."""


class Options(Strict):
    """How a session listens; as the options of `undertone live`."""

    consent: Annotated[str, Field(min_length=3, max_length=500)]
    """Who agreed to the analysis; no session without."""
    id: Annotated[str, Field(pattern=f"^{SESSION_ID.pattern}$")] | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    modalities: list[Literal["text", "audio", "visual"]] = ["text", "audio", "visual"]
    redact: bool = False
    mask: bool = False
    record: bool = False
    interim: Annotated[float | None, Field(ge=0, le=600)] = None
    """Seconds; null = 3, but 0 for a recording that is played as fast as it goes."""
    checkpoint: Annotated[str, Field(pattern="^[a-z0-9_-]{1,40}$")] = "meld"
    """One that is shipped."""
    asr: Literal["auto", "whisper", "none"] = "auto"
    vad: Literal["webrtc", "silero"] = "webrtc"


class SessionRequest(Options):
    """A session to be started."""

    source: Annotated[Push | Url | MediaFile, Field(discriminator="kind")]


class UploadRequest(Options):
    """A recording that is sent whole, as the body of the request."""

    name: Annotated[str, Field(max_length=200)] = "recording"
    """Of the file."""
    speed: Annotated[str, Field(pattern=r"^(max|\d{1,3}(\.\d{1,3})?)$")] = "1"
    """Times real time, or max."""

    @property
    def pace(self) -> float | None:
        return None if self.speed == "max" else max(0.1, float(self.speed))


@dataclass(frozen=True)
class Upload:
    """A recording that was sent whole; it stays in memory."""

    name: str
    content: bytes
    speed: float | None


@dataclass(frozen=True)
class Place:
    """Where a served session publishes and records."""

    redis: str
    prefix: str
    record: Path | None
    media: Path | None
    asr_model: str | None = None
    """faster-whisper: a size, Hugging Face id or folder; None = base, or what is here."""
    pull_from: frozenset[str] = frozenset()
    """Hosts, addresses and networks that streams may be fetched from."""
    kept: int = RETENTION
    """Seconds that Redis keeps events after a session's last."""


class Conductor:
    """Opens a source, carries it through a session beside it, and takes what is pushed to its tracks."""

    def __init__(
        self,
        session: str,
        options: Options,
        source: Push | Url | MediaFile | Upload,
        place: Place,
        displays: Sequence[Display] = (),
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
        wishes = Wishes(
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
        left = await left_behind(self._place.redis, session.bus.keys) if again else None
        if left is not None:
            source = self._take_up(session, left, source)
        if options.record:
            if self._place.record is None:
                raise UsageError("record: this gateway keeps no recordings (undertone serve --record DIR)")
            folder = unused(self._place.record / self._session) if again else self._place.record / self._session
            source = recorder = Recorder(source, folder, *settings_of(wishes))
            self._displays.append(recorder)
        self._source, started = source, asyncio.Event()
        self._work = asyncio.create_task(carry(session, source, speed, self._displays, self._stopped, started, AWAY))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({waiting, self._work}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not started.is_set():
            self._work.result()

    def _take_up(self, session: Session, left: Left, source: Source) -> Source:
        """Let a session go on from what was left; returns its source on the session's clock. Raises SessionError."""
        if left.snapshot.tries >= TRIES:
            raise SessionError(f"its process was killed {TRIES + 1} times at the same place")
        replayed = isinstance(self._asked, MediaFile | Upload)
        at = session.take_up(left, replayed)
        return source if replayed else Later(source, at)

    def _open_source(self) -> tuple[Source, dict[int, str], float | None]:
        """The source, the names of its channels, and the speed at which a recording plays."""
        match self._asked:
            case Push(tracks=tracks):
                if len(tracks) > 1 and not all(track.name for track in tracks):
                    raise UsageError("tracks: several need a name each")
                self._tracks = [PushedTrack(track.name or "room", track.video, PATIENCE) for track in tracks]
                people = [
                    Participant(Reconnecting(track.connect, PATIENCE, longest=1.0), None, track.name)
                    for track in self._tracks
                ]
                named = {n: track.name for n, track in enumerate(tracks) if track.name}
                return Together(people), named, None
            case Url(url=url, name=name):
                fetch = functools.partial(FetchedSource, url, Reach(self._place.pull_from))
                return Reconnecting(fetch, PATIENCE), {0: name} if name else {}, None
            case MediaFile(name=name, speed=speed):
                return FileSource(inside(self._place.media, name)), {}, speed
            case Upload(name=name, content=content, speed=speed):
                return FileSource(Path(name), content=content, longest=LONGEST), {}, speed

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
            await end_for(place.redis, keys, place.kept, f"error: {one_line(error)}")
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


def bound_memory(room: int = ROOM) -> None:
    """Let this process have no more than so many bytes beyond what it has: a header may ask FFmpeg for any number.

    What it is then refused is an error of that recording. Where Linux is not, nothing happens.
    """
    sizes = Path("/proc/self/statm")
    if sizes.exists():
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        used = int(sizes.read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + room if most < 0 else min(most, used + room), most))


@ray.remote(concurrency_groups={"push": TRACKS, "health": 1})
class ServedSessionActor:
    """A conductor and its session; goes when the session has ended."""

    def __init__(self, session: str, options: Options, source: Push | Url | MediaFile | Upload, place: Place) -> None:
        bound_memory()
        self._conductor = Conductor(session, options, source, place)
        self._leaving: asyncio.Task[None] | None = None
        self._begun = False
        self._opened = asyncio.Event()
        self._refused: Exception | None = None
        # By itself: whoever made it may be gone by then, and Ray runs nothing but this in a new process.
        context = ray.get_runtime_context()
        context.current_actor.begin.remote(context.was_current_actor_reconstructed)

    @ray.method(max_task_retries=-1)  # Ray refuses it when it believes that this actor is not back yet
    async def begin(self, again: bool) -> None:
        """Start the session, or go on with what this actor's last process carried; once, however often it is called."""
        if self._begun:
            return
        self._begun = True
        try:
            await (self._conductor.take_up() if again else self._conductor.open())
        except Exception as error:
            self._refused = error
        self._opened.set()
        self._leaving = asyncio.create_task(self._leave())

    async def opened(self) -> None:
        """Wait until the session listens, in this process or the one before. Raises what `Conductor.open` raises."""
        await self._opened.wait()
        if self._refused is not None:
            raise self._refused

    async def _leave(self) -> None:
        await self._conductor.done()
        await asyncio.sleep(1)  # for calls that are on their way
        ray.kill(ray.get_runtime_context().current_actor)

    async def attach(self, track: int, connection: str, form: str, rate: int) -> None:
        await self._opened.wait()
        self._conductor.attach(track, connection, form, rate)

    @ray.method(concurrency_group="push")
    async def push(self, track: int, connection: str, piece: bytes) -> None:
        await self._conductor.push(track, connection, piece)

    @ray.method(max_task_retries=-1)
    async def detach(self, track: int, connection: str, over: bool) -> None:
        """The sender of a track is gone. If for good, this ends with the session: Ray tells it to the process that goes
        on when this one is killed before."""
        await self._opened.wait()
        self._conductor.detach(track, connection, over)
        if over:
            await self._conductor.done()

    async def stop(self) -> None:
        await self._opened.wait()
        self._conductor.stop()
        await self._conductor.done()

    @ray.method(concurrency_group="health")
    async def health(self) -> bool:
        return True


def start_session(session: str, options: Options, source: Push | Url | MediaFile | Upload, place: Place) -> Any:
    """The named actor of a session that is served, on the node of its pools.

    Raises ValueError when the id is taken, and ClusterError.
    """
    actor = cast(Any, ServedSessionActor).options(
        name=f"session:{session}", namespace=NAMESPACE, lifetime="detached", num_cpus=SHARE, max_pending_calls=1000,
        max_restarts=RESTARTS,
        scheduling_strategy=on_node(node_of(session, working_nodes())),
    )  # fmt: skip
    return actor.remote(session, options, source, place)


def find_session(session: str) -> Any | None:
    """The actor of a session that a gateway started and that goes on; those of a command line are none of ours."""
    try:
        actor = ray.get_actor(f"session:{session}", namespace=NAMESPACE)
    except (ValueError, RayError):
        return None
    return actor if hasattr(actor, "attach") else None
