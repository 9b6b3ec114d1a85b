"""A session at a gateway, for a program that has the participants' sound and shall stay small: no models, no Ray."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import requests
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from stream.errors import one_line
from stream.events import Event, SessionEnded, parse
from workers.errors import UsageError, WorkersError

log = logging.getLogger(__name__)

MAX_TRACKS = 16  # of a session at a gateway
RATES = range(8_000, 96_001)  # of pushed samples in Hz, that a gateway takes
MAX_WAITING_S = 2.0  # seconds of a participant's sound that wait for the gateway; what is older is lost
QUIET_S = 0.3  # seconds without sound of a participant after which silence is sent: a track that lags delays the others
CONNECT_S = 10.0  # seconds that a connection may take
START_S = 300.0  # seconds that a session may take to start: its models may have to be loaded
END_S = 2.0  # seconds that are left for the last labels when a program leaves
LAST_S = 60.0  # seconds after the end of the sound in which a gateway that is away is tried again
STOP_S = 5.0  # seconds that a gateway may take to stop a session
GRACE_S = 5.0  # seconds within which the end of a session that is gone should be told
STEADY_S = 60.0  # seconds after which a session counts as one that works
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 5.0  # seconds between attempts
MAX_UNREAD_EVENTS = 1_000
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")  # of a track
LOST = (OSError, TimeoutError, InvalidHandshake, ConnectionClosed)
GONE = "no such session", "no session"  # beginnings of a gateway's answer
OVER = "the session has ended"  # to who sends; its last event tells why


class GatewayError(WorkersError):
    """The gateway refuses the session; trying again would not help. The message is its reason."""


class _Away(WorkersError):
    """The gateway cannot be reached, or has no room at the moment."""


class _Track:
    """A participant's place in the session, and the sound that waits to be sent."""

    def __init__(self, participant: str | None, name: str | None, max_bytes: int) -> None:
        self.participant, self.name = participant, name
        """Whose place it is, None while it is free; its name at the gateway, None: a room."""
        self.news = asyncio.Event()
        self._pieces: deque[bytes] = deque()
        self._size, self._max_bytes = 0, max_bytes

    def put(self, pcm: bytes) -> None:
        """Add samples; the oldest make room."""
        self._pieces.append(pcm)
        self._size += len(pcm)
        while (surplus := self._size - self._max_bytes) > 0:
            oldest = self._pieces.popleft()
            if len(oldest) > surplus:
                self._pieces.appendleft(oldest[surplus:])
            self._size -= min(len(oldest), surplus)
        self.news.set()

    def take(self) -> bytes:
        """All that waits."""
        pcm = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self.news.clear()
        return pcm


class GatewaySession:
    """A session at a gateway, whose sound the program sends:

        async with GatewaySession("http://127.0.0.1:8765", ["Ann", "Ben"], consent="both agreed") as session:
            session.send("Ann", pcm)
            async for event in session: …

    Nothing here waits for the gateway but reading the events. One that is away is tried again, with growing pauses and
    without end; a session that is gone with it is started anew, with an id of its own. What was said meanwhile is not
    analysed. Leaving the block ends the session; `end()` lets it come to its end.
    """

    def __init__(
        self,
        url: str,
        participants: Sequence[str] = (),
        *,
        consent: str,
        token: str | None = None,
        places: int = 0,
        rate: int = 16_000,
        settings: Mapping[str, Any] | None = None,
        on_problem: Callable[[str], None] | None = None,
    ) -> None:
        """url: of the gateway, http or https. participants: those known now, a track each; places: tracks for so many
        others, given to who sends first. Without either there is one track, whose speakers are told apart by voice.
        consent: who agreed to the analysis. token: with the scopes `ingest` and `read`. rate: of the samples, in Hz.
        settings: more of what `POST /sessions` takes, such as `{"language": "en"}`. on_problem: told what goes wrong, a
        line each, once until it is well again; it is logged in any case.

        Raises UsageError.
        """
        if not re.match(r"https?://[^/]", url):
            raise UsageError(f"url: that of a gateway, such as http://127.0.0.1:8765, not {one_line(url)!r}")
        if not 3 <= len(consent.strip()) <= 500:
            raise UsageError("consent: say in 3 to 500 characters who agreed to the analysis")
        if len(participants) + places > MAX_TRACKS:
            raise UsageError(f"participants and places: {MAX_TRACKS} together at most")
        if len(set(participants)) < len(participants):
            raise UsageError("participants: each name once")
        if rate not in RATES:
            raise UsageError(f"rate: {RATES[0]} to {RATES[-1]} Hz, not {rate}")
        self.rate = rate
        self.session: str | None = None
        """Id of the session; None until one has started."""
        self._url, self._token = url.rstrip("/"), token
        self._settings = {"consent": consent, **(settings or {})}
        self._id = str(self._settings.pop("id", None) or f"agent-{secrets.token_hex(4)}")
        self._on_problem = on_problem
        owners = [*participants, *(None for _ in range(places))]
        self._is_room, self._known = not owners, frozenset(participants)
        self._tracks = [
            _Track(owner, self._wire_name(owner, number), int(MAX_WAITING_S * rate) * 2)
            for number, owner in enumerate(owners or [None])
        ]
        self._unplaced: set[str] = set()
        self._down: dict[str, str] = {}
        """Problems, by the part that they concern."""
        self._starts = 0
        self._last_event: str | None = None
        self._ended = asyncio.Event()
        self._ended_at = 0.0
        self._gone = asyncio.Event()
        self._unread: asyncio.Queue[Event] = asyncio.Queue(MAX_UNREAD_EVENTS)
        self._work: asyncio.Task[None] | None = None

    def _wire_name(self, owner: str | None, number: int) -> str | None:
        """The name of a track at the gateway: of its participant, where that is known and can be one."""
        if self._is_room:
            return None
        if owner is not None and NAME.fullmatch(owner):
            return owner
        name = f"place {number + 1}"
        while name in self._known:
            name += "'"
        return name

    async def __aenter__(self) -> Self:
        self._work = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(0.0 if error is not None else END_S)

    def send(self, participant: str, pcm: bytes) -> bool:
        """Take a participant's next samples: 16 bit, little-endian, mono, `rate` a second. Never waits. To be called
        where the event loop runs.

        False if all places are taken by others. Raises UsageError for half a sample.
        """
        if len(pcm) % 2:
            raise UsageError(f"pcm: {len(pcm)} bytes are not whole samples of 16 bit")
        track = self._track_of(participant)
        if track is None:
            if participant not in self._unplaced:
                self._unplaced.add(participant)
                self._tell(f"no place for {one_line(participant, 64)!r}, who is not analysed: declare more places")
            return False
        if not self._ended.is_set():
            track.put(pcm)
        return True

    def _track_of(self, participant: str) -> _Track | None:
        if self._is_room:
            return self._tracks[0]
        wanted: tuple[str | None, ...] = (participant, None)  # the participant's own place, else the first free one
        for owner in wanted:
            for track in self._tracks:
                if track.participant == owner:
                    track.participant = participant
                    return track
        return None

    def end(self) -> None:
        """There is no more sound: the events that are owed come, then `session.ended`."""
        if not self._ended.is_set():
            self._ended_at = time.monotonic()
        self._ended.set()
        for track in self._tracks:
            track.news.set()

    async def aclose(self, patience_s: float = END_S) -> None:
        """End the session; events that come within `patience_s` seconds can still be read. Tells the gateway to stop
        it, if it can be reached."""
        self.end()
        if self._work is None:
            return
        if self.session is not None and patience_s:
            await asyncio.wait({self._work}, timeout=patience_s)
        is_over = self._work.done()
        self._work.cancel()
        await asyncio.wait({self._work})
        if not self._work.cancelled():
            self._work.exception()  # nobody may read events any more
        if self.session is not None and not is_over:
            try:
                await asyncio.to_thread(self._request, "DELETE", f"/sessions/{self.session}", None, STOP_S)
            except (_Away, GatewayError) as error:
                log.warning("session %s: %s", self.session, error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event, its speaker as the program calls them. Raises GatewayError if the gateway refuses."""
        assert self._work is not None, "enter the session first: async with"
        if self._unread.empty() and not self._work.done():
            coming = asyncio.ensure_future(self._unread.get())
            try:
                await asyncio.wait({coming, self._work}, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    return coming.result()
            finally:
                coming.cancel()
        if not self._unread.empty():
            return self._unread.get_nowait()
        if not self._work.cancelled():
            self._work.result()
        raise StopAsyncIteration

    async def _run(self) -> None:
        """Start a session and feed it; start another when it is gone. Raises GatewayError."""
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._start()
                self._well("start")
                if not await self._is_lost() or self._ended.is_set():
                    return
                self._fail("start", "the gateway has lost the session; another one is started")
            except _Away as error:
                self._fail("start", str(error))
                if self._ended.is_set():
                    return
            except GatewayError as error:
                self._fail("start", str(error))
                raise
            pause = FIRST_PAUSE_S if time.monotonic() - began > STEADY_S else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)

    async def _start(self) -> None:
        """Start a session. Raises _Away and GatewayError."""
        tracks = [{} if track.name is None else {"name": track.name} for track in self._tracks]
        self._starts += 1
        session = self._id if self._starts == 1 else f"{self._id}-{self._starts}"
        body = {**self._settings, "id": session, "source": {"kind": "push", "tracks": tracks}}
        await asyncio.to_thread(self._request, "POST", "/sessions", body, START_S)
        self._last_event = None
        self._gone.clear()
        self.session = session

    def _request(self, method: str, path: str, body: Any, timeout_s: float) -> None:
        """A request to the gateway. Raises _Away, and GatewayError for what will not be better the next time."""
        try:
            answer = requests.request(
                method, self._url + path, json=body, auth=self._authorize, timeout=(CONNECT_S, timeout_s)
            )
        except requests.RequestException:
            raise _Away(self._no_answer()) from None
        if answer.ok:
            return
        try:
            reason = answer.json()["detail"]
        except (ValueError, KeyError, TypeError):
            reason = answer.reason
        message = f"the gateway refuses: {one_line(reason if isinstance(reason, str) else json.dumps(reason))}"
        is_passing = answer.status_code >= 500 or answer.status_code in (408, 429)
        if is_passing or (answer.status_code == 409 and self._starts > 1):  # it may have begun though we were not told
            raise _Away(message)
        raise GatewayError(message)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request with the token, which ~/.netrc would otherwise take the place of."""
        request.headers.update(self._headers)
        return request

    @property
    def _headers(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    def _no_answer(self) -> str:
        return f"the gateway at {self._url} does not answer; trying again"

    async def _is_lost(self) -> bool:
        """Feed the session and read its events until it ends: True if it broke off, and another should be started."""
        tasks = [asyncio.create_task(self._send_track(number)) for number in range(len(self._tracks))]
        reading = asyncio.create_task(self._read())
        missing = asyncio.create_task(self._missing())
        try:
            await asyncio.wait({reading, missing}, return_when=asyncio.FIRST_COMPLETED)
            end = reading.result() if reading.done() else None
        finally:
            for task in (*tasks, reading, missing):
                task.cancel()
            await asyncio.wait([*tasks, reading, missing])
        return end is None or end.reason.startswith("error: ")

    async def _missing(self) -> None:
        """Wait until the gateway knows the session no more, and does not tell its end either."""
        await self._gone.wait()
        await asyncio.sleep(GRACE_S)

    async def _send_track(self, number: int) -> None:
        """Send one track, over as many connections as it takes."""
        part, path = f"track {number}", f"/sessions/{self.session}/tracks/{number}?format=pcm&rate={self.rate}"

        async def talk(socket: ClientConnection) -> None:
            if json.loads(await asyncio.wait_for(socket.recv(), CONNECT_S))["type"] != "ready":
                await socket.recv()  # it refuses, and closes the connection with the reason
            self._well(part)
            await self._feed(self._tracks[number], socket)

        await self._keep_connected(part, path, talk)

    async def _feed(self, track: _Track, socket: ClientConnection) -> None:
        """Send a track's sound as it comes, and silence where none comes, until the end."""
        reached = time.monotonic()
        while True:
            if pcm := track.take():
                await socket.send(pcm)
                reached = time.monotonic()
            elif self._ended.is_set():
                return
            else:
                try:
                    await asyncio.wait_for(track.news.wait(), max(0.0, reached + QUIET_S - time.monotonic()))
                except TimeoutError:
                    now = time.monotonic()
                    await socket.send(bytes(2 * int((now - reached) * self.rate)))
                    reached = now

    async def _read(self) -> SessionEnded | None:
        """Read the session's events until the last, over as many connections as it takes; None if it is gone."""
        end: SessionEnded | None = None

        async def talk(socket: ClientConnection) -> None:
            nonlocal end
            self._well("events")
            async for message in socket:
                try:
                    event = parse(message)
                except ValidationError:  # of a newer gateway
                    log.warning("session %s: an event that this version does not know", self.session)
                    continue
                self._last_event = event.id
                await self._unread.put(self._named(event))
                if isinstance(event, SessionEnded):
                    end = event
                    return
            if socket.close_code != 1000:
                raise ConnectionResetError  # the gateway drains: another one, or the same later, goes on

        await self._keep_connected("events", f"/sessions/{self.session}/events", talk)
        return end

    async def _keep_connected(
        self, part: str, path: str, talk: Callable[[ClientConnection], Coroutine[Any, Any, None]]
    ) -> None:
        """Talk over a WebSocket, and over another after each that is lost, until `talk` returns or the session is
        gone."""
        pause, base = FIRST_PAUSE_S, self._url.replace("http", "ws", 1) + path
        while not self._gone.is_set() or part == "events":
            began = time.monotonic()
            after = f"?after={self._last_event}" if part == "events" and self._last_event else ""
            try:
                async with connect(
                    base + after, additional_headers=self._headers, open_timeout=CONNECT_S, max_size=None
                ) as socket:
                    await talk(socket)
                    return
            except LOST as error:
                reason = error.rcvd.reason if isinstance(error, ConnectionClosed) and error.rcvd is not None else ""
                if reason.startswith(GONE):
                    self._gone.set()
                    if part == "events":
                        return
                elif reason != OVER:
                    self._fail(part, f"{part}: {one_line(reason)}; trying again" if reason else self._no_answer())
            if self._ended.is_set() and time.monotonic() - self._ended_at > LAST_S:
                return
            pause = FIRST_PAUSE_S if time.monotonic() - began > MAX_PAUSE_S else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)

    def _named(self, event: Event) -> Event:
        """The event with the participant's name instead of that of the place."""
        speaker = getattr(event, "speaker", None)
        for track in self._tracks:
            if speaker is not None and speaker == track.name and track.participant not in (None, speaker):
                return event.model_copy(update={"speaker": track.participant})
        return event

    def _fail(self, part: str, message: str) -> None:
        """Something goes wrong; it is told once, until it is well again."""
        is_new = message not in self._down.values()
        self._down[part] = message
        if is_new:
            self._tell(message)

    def _well(self, part: str) -> None:
        self._down.pop(part, None)

    def _tell(self, message: str) -> None:
        log.warning("%s", message)
        if self._on_problem is not None:
            self._on_problem(message)
