"""Undertone in a LiveKit room: the emotions of its participants.

    async for event in listen(context.room, "http://127.0.0.1:8765", consent="all agreed", token=TOKEN):
        …

The work is done by a gateway (`undertone serve`); this process needs neither models nor Ray. Guide:
deploy/guide/agents.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any, Literal

try:
    from livekit import rtc
except ModuleNotFoundError as error:
    raise ImportError(f"undertone.livekit needs LiveKit ({error}): pip install livekit") from None

from stream.events import Emotion, Event
from workers.api.remote import GatewaySession

__all__ = ["ATTRIBUTE", "TOPIC", "listen"]

log = logging.getLogger(__name__)

RATE = 16_000  # Hz; LiveKit resamples
PLACES = 8
TOPIC = "undertone"  # of the data packets
ATTRIBUTE = "undertone.emotion."  # before the identity, in the agent's attributes


class _Room:
    """The microphones of a room's participants, each of which goes to the participant's track of the session."""

    def __init__(self, room: rtc.Room, session: GatewaySession) -> None:
        self._room, self._session = room, session
        self._sending: dict[str, asyncio.Task[None]] = {}
        """By identity of the participant."""
        self._handlers: dict[Any, Callable[..., None]] = {
            "track_published": self._published, "track_subscribed": self._subscribed,
            "track_unsubscribed": self._unsubscribed, "disconnected": self._disconnected,
        }  # fmt: skip

    def open(self) -> None:
        """Listen to those who are there, and to those who come."""
        for name, handler in self._handlers.items():
            self._room.on(name, handler)
        for participant in self._room.remote_participants.values():
            for publication in participant.track_publications.values():
                self._published(publication, participant)
                if publication.track is not None:
                    self._subscribed(publication.track, publication, participant)

    async def aclose(self) -> None:
        """Listen to nobody any more."""
        for name, handler in self._handlers.items():
            self._room.off(name, handler)
        sending = list(self._sending.values())
        for task in sending:
            task.cancel()
        if sending:
            await asyncio.wait(sending)

    def _published(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if _is_microphone(publication, participant) and not publication.subscribed:
            publication.set_subscribed(True)

    def _subscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if _is_microphone(publication, participant):
            self._unsubscribed(track, publication, participant)  # a new microphone takes the place of the one before
            self._sending[participant.identity] = asyncio.create_task(self._send(participant.identity, track))

    def _unsubscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if _is_microphone(publication, participant) and (task := self._sending.pop(participant.identity, None)):
            task.cancel()

    def _disconnected(self, _: object) -> None:
        self._session.end()

    async def _send(self, identity: str, track: rtc.Track) -> None:
        stream = rtc.AudioStream.from_track(track=track, sample_rate=RATE, num_channels=1)
        try:
            async for heard in stream:
                self._session.send(identity, heard.frame.data.tobytes())
        finally:
            await stream.aclose()


def _is_microphone(publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> bool:
    """True for what a person says: not for the sound of a shared screen, and not for other agents."""
    return bool(
        publication.kind == rtc.TrackKind.KIND_AUDIO
        and publication.source != rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO
        and participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    )


async def listen(
    room: rtc.Room,
    url: str,
    *,
    consent: str,
    token: str | None = None,
    places: int = PLACES,
    publish: Collection[Literal["data", "attributes"]] = (),
    settings: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Event]:
    """The events of a session that hears everybody in the room, each on a track of their own; `speaker` is the
    participant's identity.

    room: connected. url: of the gateway. consent: who agreed to the analysis; it is published with the session. token:
    with the scopes `ingest` and `read`. places: the most participants who are analysed, 16 at most; those who come when
    all are taken are not. publish: "data" sends each label to the room as a data packet (the event's JSON, topic
    `TOPIC`); "attributes" sets it as an attribute of this participant, `ATTRIBUTE` and the identity. settings: more of
    what `POST /sessions` takes, such as `{"language": "en"}`.

    It ends when the room is left; leaving the loop (`aclose()`) ends the session. A gateway that is away is tried
    again, and said in the log. Raises UsageError, and GatewayError if the gateway refuses.
    """
    people = [
        participant.identity
        for participant in room.remote_participants.values()
        if participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    ][:places]
    session = GatewaySession(
        url, people, consent=consent, token=token, places=places - len(people), rate=RATE, settings=settings
    )
    async with session:
        heard = _Room(room, session)
        heard.open()
        try:
            async for event in session:
                if isinstance(event, Emotion) and publish:
                    await _publish(room, event, publish)
                yield event
        finally:
            await heard.aclose()


async def _publish(room: rtc.Room, label: Emotion, publish: Collection[str]) -> None:
    """Tell the room of a label; that it cannot be told costs nothing else."""
    try:
        if "data" in publish:
            await room.local_participant.publish_data(label.wire(), topic=TOPIC)
        if "attributes" in publish:
            await room.local_participant.set_attributes({ATTRIBUTE + label.speaker: label.emotion})
    except Exception as error:  # its library has no base for its errors, and a room that is left has others
        log.warning("the room was not told of a label: %s", error)
