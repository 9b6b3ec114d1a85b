"""Requests for sessions, as they come over REST, and the place that serves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from model.device import DeviceChoice
from stream.bus.keys import RETENTION_S
from stream.errors import one_line
from stream.events import Agreement
from workers.session.settings import CommonSettings, SessionId, SessionSettings

MAX_TRACKS = 16
AudioTrack = Annotated[int, Field(ge=1, le=64)] | Literal["all"] | None
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Strict(BaseModel):
    """Base of what comes from outside: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Track(Strict):
    """One participant's sound (and pictures)."""

    name: Name | None = None
    """Absent for a single track: a room, whose speakers are told apart by voice."""
    video: bool = False


class Push(Strict):
    """Tracks that the client sends over WebSockets."""

    kind: Literal["push"]
    tracks: Annotated[list[Track], Field(min_length=1, max_length=MAX_TRACKS)]


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
    """Times real time; None: as fast as it goes."""
    track: AudioTrack = None
    """Number of the file's audio track, or all: a speaker each; None: the default one, or the loudest if that is
    silent."""
    transcript: Annotated[str, Field(max_length=200)] | None = None
    """A file of the same folder (STM, VTT, SRT or CSV with times) that has the words; used instead of ASR."""


class Asked(Strict):
    """A person who was asked to agree to the analysis."""

    name: Name
    agreed: bool


class Consent(Strict):
    """Consent to the analysis, person by person: who was asked, and agreed; how, when, and for what."""

    people: Annotated[list[Asked], Field(min_length=1, max_length=64)]
    how: Annotated[str, Field(min_length=3, max_length=200)]
    when: AwareDatetime
    purpose: Annotated[str, Field(min_length=3, max_length=200)]

    @field_validator("people")
    @classmethod
    def _all_agreed(cls, people: list[Asked]) -> list[Asked]:
        if refused := [person.name for person in people if not person.agreed]:
            raise PydanticCustomError(
                "refused", "{who} did not agree: no session begins", {"who": one_line(", ".join(refused))}
            )
        return people

    def agreement(self) -> Agreement:
        names = [person.name for person in self.people]
        when = self.when.isoformat(timespec="minutes")
        return Agreement(people=names, how=self.how, when=when, purpose=self.purpose)


Statement = Annotated[str, Field(min_length=3, max_length=500)]


def _kind(consent: object) -> str:
    """The form of a consent: one error for one mistake, instead of one for each form."""
    return "agreement" if isinstance(consent, dict | Consent) else "statement"


class Options(CommonSettings):
    """Settings of a session as a client gives them: of the common ones all, within narrower bounds."""

    consent: Annotated[  # type: ignore[assignment]
        Annotated[Statement, Tag("statement")] | Annotated[Consent, Tag("agreement")], Discriminator(_kind)
    ]
    """Required here: a statement, or person by person."""
    session: Annotated[SessionId | None, Field(alias="id")] = None
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    recorded: Annotated[bool, Field(alias="record")] = False
    interim: Annotated[float | None, Field(ge=0, le=600)] = None
    checkpoint: Annotated[str, Field(pattern="^[a-z0-9_-]{1,40}$")] = "meld"
    """The name of a shipped checkpoint, no folder."""

    def settings(self, **more: Any) -> SessionSettings:
        """The session's settings: these, and `more` that the gateway decides.

        Consent that was given person by person is stated in a line, too.
        """
        stated: object = self.consent
        if isinstance(stated, Consent):
            agreement = stated.agreement()
            more = {"consent": str(agreement), "agreement": agreement} | more
        chosen = set(CommonSettings.model_fields) - more.keys()
        return SessionSettings(**self.model_dump(include=chosen), **more)


class SessionRequest(Options):
    """A session to be started."""

    source: Annotated[Push | Url | MediaFile, Field(discriminator="kind")]


class UploadRequest(Options):
    """A recording that is sent whole, as the body of the request."""

    consent: Statement
    """Required here."""
    name: Annotated[str, Field(max_length=200)] = "recording"
    """Name of the file."""
    speed: Annotated[str, Field(pattern=r"^(max|\d{1,3}(\.\d{1,3})?)$")] = "1"
    """Times real time, or max."""
    track: AudioTrack = None
    """Number of the file's audio track, or all: a speaker each; None: the default one, or the loudest if that is
    silent."""

    @property
    def pace(self) -> float | None:
        return None if self.speed == "max" else max(0.1, float(self.speed))


@dataclass(frozen=True)
class Upload:
    """A recording that was sent whole."""

    name: str
    content: bytes
    speed: float | None
    track: AudioTrack = None


@dataclass(frozen=True)
class Place:
    """The servers and folders of a served session."""

    redis: str
    prefix: str
    record: Path | None
    media: Path | None
    asr_model: str | None = None
    """faster-whisper: a size, Hugging Face id or folder; None = base, or what is here."""
    pull_from: frozenset[str] = frozenset()
    """Hosts, addresses and networks that streams may be fetched from."""
    kept: int = RETENTION_S
    device: DeviceChoice = "auto"
    """Seconds that Redis keeps events after a session's last."""
