"""LiveKit rooms without a server: who is there is made up; tracks, streams and frames are LiveKit's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.support.agents import importing

with importing("livekit"):
    from livekit import rtc

RATE = 48_000


@dataclass
class Publication:
    """A track as the room announces it; its sound is LiveKit's."""

    sid: str = "mic"
    kind: int = rtc.TrackKind.KIND_AUDIO
    source: int = rtc.TrackSource.SOURCE_MICROPHONE
    subscribed: bool = False
    track: rtc.Track | None = None

    def __post_init__(self) -> None:
        self.sound = rtc.AudioSource(RATE, 1)
        self.own = rtc.LocalAudioTrack.create_audio_track(self.sid, self.sound)

    def set_subscribed(self, subscribed: bool) -> None:
        self.subscribed = subscribed

    async def speak(self, level: int, seconds: float = 0.5) -> None:
        """A tone whose loudest sample is `level`, at the pace of time."""
        await self.play(level * np.sin(np.arange(int(seconds * RATE)) * 2 * np.pi * 400 / RATE))

    async def play(self, samples: np.ndarray) -> None:
        """Samples of 16 bit at 48 kHz, at the pace of time."""
        wave, step = samples.astype(np.int16), RATE // 100
        for first in range(0, len(wave) - step + 1, step):
            await self.sound.capture_frame(rtc.AudioFrame(wave[first : first + step].tobytes(), RATE, 1, step))


@dataclass
class Person:
    """A participant."""

    identity: str
    publications: list[Publication] = field(default_factory=lambda: [Publication()])
    kind: int = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD

    @property
    def track_publications(self) -> dict[str, Publication]:
        return {publication.sid: publication for publication in self.publications}


class MadeUpRoom(rtc.EventEmitter[str]):
    """A room without a server: who is there, and what the agent told the others."""

    def __init__(self, *people: Person) -> None:
        super().__init__()
        self.remote_participants = {person.identity: person for person in people}
        self.local_participant = self
        self.packets: list[tuple[str, str]] = []
        self.attributes: dict[str, str] = {}
        self.is_left = False

    def come(self, person: Person) -> None:
        self.remote_participants[person.identity] = person
        for publication in person.publications:
            self.emit("track_published", publication, person)
            if publication.subscribed:
                self.subscribe(person, publication)

    def subscribe(self, person: Person, publication: Publication) -> None:
        publication.subscribed, publication.track = True, publication.own
        self.emit("track_subscribed", publication.track, publication, person)

    async def publish_data(self, payload: str, *, topic: str) -> None:
        if self.is_left:
            raise rtc.PublishDataError("the room was left")
        self.packets.append((topic, payload))

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes |= attributes
