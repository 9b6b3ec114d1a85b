"""The events that a session publishes: one pydantic model for each type, JSON on the wire, `schema: 1`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from stream.errors import without_folders

MAX_SECONDS = 1e9  # 30 years: dates and clocks can be computed with it
MAX_COUNT = 1 << 53  # beyond it JSON's numbers are not exact

Probability = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda share: round(share, 6))]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS), AfterValidator(lambda seconds: round(seconds, 3))]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
NOT_ANALYSED = "not analysed in this session"  # reason of a modality that is missing from a session's first to last
Told = Annotated[str, AfterValidator(without_folders)]
"""Text about this machine: a name or a reason, without the folders that files lie in."""


class Base(BaseModel):
    """Fields of every event. An event that is sent again has the same `id`: drop ids you have seen."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    id: str
    session: str

    def wire(self) -> str:
        """The event as the JSON text that is published."""
        return self.model_dump_json(by_alias=True)


class Agreement(BaseModel):
    """Consent to the analysis, person by person; as stated, nothing checks that it is true."""

    people: list[str]
    """Names of those who agreed."""
    how: str
    """The way in which they were asked, such as "in the meeting's chat"."""
    when: str
    """Wall-clock time, ISO 8601."""
    purpose: str
    """Purpose that they agreed to."""

    def __str__(self) -> str:
        return f"{', '.join(self.people)} agreed ({self.how}, {self.when}) to: {self.purpose}"


class SessionStarted(Base):
    """The first event of a session: its sources, encoders, checkpoint and privacy settings."""

    type: Literal["session.started"] = "session.started"
    time: str
    """Wall-clock start, ISO 8601 UTC; all other times are on the media clock."""
    sources: list[Told]
    """Names of files, without their folders; addresses; names of devices and participants."""
    channels: Literal["mixed", "per speaker"]
    speakers: Literal["channel", "turns", "cluster"]
    encoders: dict[str, Told | None]
    """Models in use for asr, text, audio, visual, speaker and vad; null = none."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of the models that can use a GPU; a `degraded` event tells if one goes back to the CPU."""
    checkpoint: Told
    """Name, and the first digits of the SHA-256 of its content: "meld@0123456789ab"."""
    emotions: list[str]
    consent: str | None
    """Consent of the speakers as the operator stated it; null = none was stated."""
    agreement: Agreement | None = None
    """The same, person by person, where it was stated so."""
    redacted: bool
    """True if all events are published without words."""
    masked: bool = False
    """True if names, numbers and addresses in the words are replaced, by <PHONE_NUMBER> for example, as far as they are
    recognized; words are then published only after the utterance has ended."""
    recorded: bool = False
    """True if sound and pictures are recorded on disk."""
    kept: Count = 24 * 3600
    """Retention in Redis, in seconds after the last event."""
    title: str | None = None
    """Title that the session was started with; it may have been renamed since (`stream.bus.annotations`)."""


class Word(BaseModel):
    """One word with the times of the speech recognizer, in seconds on the media clock."""

    word: str
    start: Seconds
    end: Seconds
    probability: Probability


class UtterancePartial(Base):
    """Interim words of an utterance that is still going on, after 0.5 s of speech, 1 s, and then every second.

    Not published if words are redacted or masked, nor with `--interim 0`.
    """

    type: Literal["utterance.partial"] = "utterance.partial"
    utterance: Count
    speaker: str
    audio_start: Seconds
    audio_end: Seconds
    """End of the audio that these words cover."""
    text: str | None
    stable: str = ""
    """Beginning of `text` that will not change before the utterance ends, because two consecutive hypotheses agree
    on it."""


class UtteranceHeard(Base):
    """Words and speaker of a finished utterance."""

    type: Literal["utterance"] = "utterance"
    utterance: Count
    speaker: str
    audio_start: Seconds
    audio_end: Seconds
    text: str | None
    """Null if redacted; "" if no words were recognized."""
    language: str | None = None
    """Recognized language, such as "en"; null if unknown."""
    words: list[Word] = []
    """Words with times, if the recognizer provides them; empty if redacted."""


class Modalities(BaseModel):
    """Modalities of the checkpoint that an utterance had, and those it lacked."""

    used: list[str]
    missing: list[str]
    reasons: dict[str, Told] = {}
    """Reason for each missing modality: {"text": "language: de"} if the encoder does not support German."""


class Visual(BaseModel):
    """Visual evidence from the video frames of an utterance."""

    frames: Count
    """Number of frames analysed."""
    faces: Count
    """Number of different faces."""
    visible: Probability
    """Share of the frames that show the speaking face."""
    quality: Probability
    """Quality of its crops: size, sharpness and frontal view."""
    speaking: Probability | None
    """Share of all mouth motion, if there were several faces; null if there was one."""
    expression: dict[str, Probability] | None
    """Probabilities of facial expressions; null with a `reason`."""
    reason: Told | None


class Sound(BaseModel):
    """A sound of a person that is no word, in seconds on the media clock."""

    sound: Literal["laughter", "crying", "sigh"]
    start: Seconds
    end: Seconds
    probability: Probability
    """The highest in this stretch."""


class Voice(BaseModel):
    """Evidence from the sound of an utterance, words aside. The emotion's probabilities contain its `expression` only
    if the checkpoint has an expert for it."""

    arousal: Annotated[float, Field(ge=-1, le=1), AfterValidator(lambda value: round(value, 3))] | None
    """Intensity of expression: -1 = calm, 1 = excited; null if the utterance is too short."""
    expression: dict[str, Probability] | None
    """Probabilities of eight expressions that actors were recorded with; null like `arousal`."""
    sounds: list[Sound] = []
    """Laughter, crying and sighs within the utterance."""


class Latency(BaseModel):
    """Seconds by stage, without those for which a session's models were still being loaded. `vad`: end of speech to
    endpoint on the media clock; the others on the machine's clock."""

    vad: Seconds
    queue: Seconds
    asr: Seconds
    encode: Seconds
    graph: Seconds
    publish: Seconds
    """Time that the previous event took to reach Redis, because an event cannot contain its own."""


class Emotion(Base):
    """The label of an utterance: revision 0 at the end of speech, revision 1 when later turns are known.

    During a long utterance, interim labels (`trigger` "interval", revision 0) come before these.
    """

    type: Literal["emotion"] = "emotion"
    utterance: Count
    revision: Count
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
    """True if the emotion is less probable than labels that are right in seven of ten cases on validation data."""
    modalities: Modalities
    contribution: dict[str, Probability]
    """Share of each modality in the label; sums to 1. A final label repeats the shares of its provisional label."""
    influences: dict[Count, Probability]
    """Attention on earlier utterances, by utterance number."""
    visual: Visual | None = None
    """Null if there was no video."""
    voice: Voice | None = None
    """Null if the sound was not analysed."""
    latency: Latency | None
    """Null for a revision, which waits for later utterances by design, and for an interim label."""

    @model_validator(mode="after")
    def _names_one_of_its_probabilities(self) -> Self:
        if self.emotion not in self.probabilities:
            raise ValueError("emotion is not among the probabilities")
        return self


class SpeakerMerged(Base):
    """Two speakers turned out to be one."""

    type: Literal["speaker.merged"] = "speaker.merged"
    speaker: str
    into: str


class Lag(Base):
    """The session lags behind its source."""

    type: Literal["lag"] = "lag"
    audio_time: Seconds
    seconds: Seconds


class Degraded(Base):
    """The session continues, but something was lost, switched off or restored; `reason` says what."""

    type: Literal["degraded"] = "degraded"
    audio_time: Seconds
    reason: Told


class EventsMissed(Base):
    """Events before this place were removed from the Stream before they could be read: the session is very long, or its
    reader was very far behind. Made by the reader itself; not in the Stream."""

    type: Literal["events.missed"] = "events.missed"
    count: Count | None
    """Number of entries removed; null = unknown, and perhaps none."""


class UtteranceFailed(Base):
    """An utterance without a label, and the reason."""

    type: Literal["utterance.failed"] = "utterance.failed"
    utterance: Count
    speaker: str | None
    audio_start: Seconds
    audio_end: Seconds
    reason: Told


class Alert(Base):
    """A rule's condition was met.

    Alerts of `undertone alert` are on `undertone:alerts`, those of a session's own rules among its events where the
    gateway is asked with `alerts=true`; none is in the session's Stream.
    """

    type: Literal["alert"] = "alert"
    rule: str
    speaker: str
    emotion: str
    audio_start: Seconds
    audio_end: Seconds
    utterances: list[Count]
    """Numbers of the utterances that met the condition, in order."""
    probability: Probability
    """Lowest probability among them."""


class SessionEnded(Base):
    """The last event of a session."""

    type: Literal["session.ended"] = "session.ended"
    reason: Told
    """"end of source", "interrupted", or "error: …"."""
    duration: Seconds
    """Seconds of media processed."""
    utterances: Count
    failed: Count
    counts: dict[str, Count]
    """Numbers of utterances or samples split, joined, dropped or repaired."""


Event = Annotated[
    SessionStarted
    | UtterancePartial
    | UtteranceHeard
    | Emotion
    | SpeakerMerged
    | Lag
    | Degraded
    | EventsMissed
    | UtteranceFailed
    | Alert
    | SessionEnded,
    Field(discriminator="type"),
]

# The text of a validation error may be logged, and logs must not contain words of the conversation.
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Event, config=ConfigDict(hide_input_in_errors=True))


def parse(payload: str | bytes) -> Event:
    """Parse the JSON of an event. Raises pydantic.ValidationError."""
    event: Event = _ADAPTER.validate_json(payload)
    return event


def parse_entry(fields: Mapping[str, str], session: str) -> Event | None:
    """Parse an entry of a session's Stream; None if it is not an event of this version and of this session."""
    try:
        event = parse(fields["event"])
    except (KeyError, ValidationError):
        return None
    stated = (fields.get("id", event.id), fields.get("type", event.type))
    return event if (event.session, event.id, event.type) == (session, *stated) else None
