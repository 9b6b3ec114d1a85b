"""What is published: one pydantic model an event type, JSON on the wire, `schema: 1`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Probability = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda share: round(share, 6))]
Seconds = Annotated[float, Field(ge=0), AfterValidator(lambda seconds: round(seconds, 3))]


class Base(BaseModel):
    """Fields of every event. `id` is stable over retries: drop what you have seen."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    id: str
    session: str

    def wire(self) -> str:
        """The JSON that is published."""
        return self.model_dump_json(by_alias=True)


class SessionStarted(Base):
    """What is listened to, and with what."""

    type: Literal["session.started"] = "session.started"
    time: str
    """Wall-clock start, ISO 8601 UTC; everything else is on the media clock."""
    sources: list[str]
    channels: Literal["mixed", "per speaker"]
    speakers: Literal["channel", "turns", "cluster"]
    encoders: dict[str, str | None]
    """asr, text, audio, visual, speaker, vad: what is really used; null = missing."""
    checkpoint: str
    emotions: list[str]
    consent: str | None
    """Who agreed to what, as the operator stated it; null = nothing was stated."""
    redacted: bool
    """Words are left out of all events."""
    masked: bool = False
    """In the words of all events names, numbers and addresses are masked, as <PHONE_NUMBER>, as far as they are
    recognized; until an utterance has ended its words are left out."""
    recorded: bool = False
    """Sound and pictures are kept on disk."""
    kept: int = 24 * 3600
    """Seconds that Redis keeps the events after the last of them."""


class Word(BaseModel):
    """One word as the recognizer of speech timed it, in seconds on the media clock."""

    word: str
    start: Seconds
    end: Seconds
    probability: Probability


class UtterancePartial(Base):
    """Words so far of an utterance that goes on, after 0.5 s of speech, 1 s, and then each second.

    Not published where words are redacted or masked, nor with `--interim 0`.
    """

    type: Literal["utterance.partial"] = "utterance.partial"
    utterance: int
    speaker: str
    audio_start: Seconds
    audio_end: Seconds
    """Up to where it had been heard."""
    text: str | None
    stable: str = ""
    """The words at the beginning of `text` that will not change until the utterance has ended: two consecutive
    hypotheses agree on them."""


class UtteranceHeard(Base):
    """Words and speaker of a finished utterance."""

    type: Literal["utterance"] = "utterance"
    utterance: int
    speaker: str
    audio_start: Seconds
    audio_end: Seconds
    text: str | None
    """None when redacted; "" when nothing was understood."""
    language: str | None = None
    """Language that the words were taken for, such as "en"; null where it is not known."""
    words: list[Word] = []
    """With their times, where the recognizer gives any; none when redacted."""


class Modalities(BaseModel):
    """Which modalities of the checkpoint an utterance had."""

    used: list[str]
    missing: list[str]
    reasons: dict[str, str] = {}
    """Why a missing one is missing, where that is known: {"text": "language: de"}, which the encoder does not read."""


class Visual(BaseModel):
    """What the pictures of an utterance showed."""

    frames: int
    """Pictures looked at."""
    faces: int
    """Different faces in them."""
    visible: Probability
    """Share of the pictures that show the speaking face."""
    quality: Probability
    """Of its crops: size, sharpness, how frontal."""
    speaking: Probability | None
    """Where there were several faces: how much of all mouth motion was this one's."""
    expression: dict[str, Probability] | None
    """What the face wore; null with a `reason`."""
    reason: str | None


class Latency(BaseModel):
    """Seconds by stage. `vad`: end of speech to endpoint on the media clock; the others on the machine's clock."""

    vad: Seconds
    queue: Seconds
    asr: Seconds
    encode: Seconds
    graph: Seconds
    publish: Seconds
    """What the previous event took to reach Redis; this one's own time is known only after it left."""


class Emotion(Base):
    """The label of an utterance; revision 0 when its speaker stops, revision 1 when later turns are known.

    While a long utterance goes on, interim labels (`trigger` "interval", revision 0) come before these.
    """

    type: Literal["emotion"] = "emotion"
    utterance: int
    revision: int
    final: bool
    trigger: Literal["interval", "speech_ended", "context"]
    speaker: str
    audio_start: Seconds
    audio_end: Seconds
    text: str | None
    emotion: str
    probabilities: dict[str, Probability]
    sentiment: str
    uncertain: bool
    """The prediction set (conformal, on validation data) does not hold exactly one emotion."""
    modalities: Modalities
    contribution: dict[str, Probability]
    """Share of each modality in the label; sums to 1. A final label's is that of its provisional one."""
    influences: dict[int, Probability]
    """Attention on earlier utterances, by number."""
    visual: Visual | None = None
    """Null when nobody looked."""
    latency: Latency | None
    """None for a revision, which waits for others by design, and for an interim label."""


class SpeakerMerged(Base):
    """Two speakers turned out to be one."""

    type: Literal["speaker.merged"] = "speaker.merged"
    speaker: str
    into: str


class Lag(Base):
    """The session runs behind its source."""

    type: Literal["lag"] = "lag"
    audio_time: Seconds
    seconds: Seconds


class Degraded(Base):
    """Something was given up to keep going."""

    type: Literal["degraded"] = "degraded"
    audio_time: Seconds
    reason: str


class UtteranceFailed(Base):
    """An utterance that has no label, and why."""

    type: Literal["utterance.failed"] = "utterance.failed"
    utterance: int
    speaker: str | None
    audio_start: Seconds
    audio_end: Seconds
    reason: str


class Alert(Base):
    """A rule's condition was met (`undertone alert`); published on `undertone:alerts`, not in the session's Stream."""

    type: Literal["alert"] = "alert"
    rule: str
    speaker: str
    emotion: str
    audio_start: Seconds
    audio_end: Seconds
    utterances: list[int]
    """Those that met it, in order."""
    probability: Probability
    """The lowest of them."""


class SessionEnded(Base):
    """The last event of a session."""

    type: Literal["session.ended"] = "session.ended"
    reason: str
    """"end of source", "interrupted", or "error: …"."""
    duration: Seconds
    """Media time heard."""
    utterances: int
    failed: int
    counts: dict[str, int]
    """Everything split, joined, dropped or repaired on the way."""


Event = Annotated[
    SessionStarted
    | UtterancePartial
    | UtteranceHeard
    | Emotion
    | SpeakerMerged
    | Lag
    | Degraded
    | UtteranceFailed
    | Alert
    | SessionEnded,
    Field(discriminator="type"),
]

# An error's text ends in logs, where words do not belong.
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Event, config=ConfigDict(hide_input_in_errors=True))


def parse(payload: str | bytes) -> Event:
    """An event from its JSON. Raises pydantic.ValidationError."""
    event: Event = _ADAPTER.validate_json(payload)
    return event


def parse_entry(fields: Mapping[str, str]) -> Event | None:
    """The event in an entry of a session's Stream; None when there is none that we know: a later version's, or what
    somebody else has written there."""
    try:
        return parse(fields["event"])
    except (KeyError, ValidationError):
        return None
