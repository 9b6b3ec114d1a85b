"""The plan of a session, and the interfaces through which it asks for words, embeddings and labels, and publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.device import Device, DeviceChoice
from model.encoders.face_observation import FaceObservation
from model.encoders.prosody import Array
from model.encoders.silero import SileroVad
from model.encoders.speaker_activity import SpeakerActivityNet
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.incremental import Prediction, StepResult
from stream.block import Samples
from stream.bus.keys import RETENTION_S, Keys
from stream.events import Agreement, Base, Event
from stream.speech.endpointing import Endpointing
from stream.speech.overlap_segmenter import OverlapSegmenter
from stream.speech.segmenter import Segmenter, TurnSegmenter, VadSegmenter
from stream.speech.transcript import Transcript
from stream.speech.turns import MOST_PEOPLE, Turn
from stream.speech.vad import WebRtcVad
from workers.errors import WorkersError
from workers.session.diarization import SpeakerSegment, Stretches

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class SessionPlan:
    """Source, encoders and options of a session, decided before it starts."""

    session: str
    sources: tuple[str, ...]
    channels: int
    speakers: str
    """"channel", "turns" or "cluster"."""
    modalities: tuple[str, ...]
    """Those switched on."""
    encoders: dict[str, str | None]
    checkpoint: str
    """Its folder, or the name of one that is shipped."""
    names: dict[int, str] = field(default_factory=dict)
    """Speaker of each channel."""
    turns: tuple[Turn, ...] = ()
    """Given by the user."""
    first_pass: bool = False
    """A first pass over the whole recording finds who speaks when (`workers.session.whole_recording`)."""
    transcript: Transcript | None = None
    notes: tuple[str, ...] = ()
    """Faults in what was given, a line each, told at the start."""
    lines_left_out: int = 0
    """Lines of the transcript and the turns that cannot be used."""
    vad: str = "webrtc"
    endpointing: Endpointing = field(default_factory=Endpointing)
    language: str | None = None
    """Spoken language, such as "en"; None = detected utterance by utterance."""
    enrolled: dict[str, Array] = field(default_factory=dict)
    """Known voices by name."""
    people_count: tuple[int, int] = (1, MOST_PEOPLE)
    """Fewest and most speakers, where they are told apart by voice."""
    interim: float = 3.0
    """Seconds of speech after each of which an utterance that goes on is labelled; 0 = nothing is told of it."""
    device: DeviceChoice = "cpu"
    """Device of the models; "auto" until they are started."""
    speculate: bool = True
    """Begin with an utterance at the first short silence, before its end is confirmed."""
    live: bool = False
    """The source does not wait, so under overload something is given up (`workers.session.stages.overload`)."""
    redact: bool = False
    mask: bool = False
    """Names, numbers and addresses are masked in the words of events."""
    consent: str | None = None
    agreement: Agreement | None = None
    title: str | None = None
    recorded: bool = False
    """Sound, pictures and events are recorded on disk."""
    kept: int = RETENTION_S
    """Seconds that Redis keeps the events after the last of them."""
    checkpoint_identity: str = ""
    """The checkpoint as events name it (`model.fusion.checkpoint.identity`)."""

    @property
    def partials(self) -> bool:
        """True where words are told while somebody talks: where there are any, neither redacted nor masked."""
        readable = self.transcript is not None or ("text" in self.modalities and self.encoders["asr"] is not None)
        return self.interim > 0 and readable and not self.redact and not self.mask

    @property
    def people(self) -> set[str]:
        """All speakers that are known by name."""
        transcribed = self.transcript.speakers if self.transcript is not None else ()
        return {*self.names.values(), *self.enrolled, *transcribed, *(turn.speaker for turn in self.turns)}


@dataclass(frozen=True)
class ModelRequirements:
    """The models that a session needs besides its checkpoint."""

    asr: str | None = None
    """The ASR model, as `model.encoders.asr.locate` takes it: each node has a copy of its own."""
    faces: bool = False
    """Pictures are looked at."""
    voice: str | None = None
    """Folder of the voice encoder; None = the shipped one."""
    device: DeviceChoice = "auto"


class InferenceBackend(Protocol):
    """Inference for a session: the Ray pools, or plain functions in tests.

    Samples are [n] float32 at 16 kHz with full scale ±1. Every method may raise ServiceError.
    """

    @property
    def device(self) -> Device:
        """Device of the models that can use a GPU, as long as it does not fail."""
        ...

    async def ready(self) -> None:
        """Wait until all models are loaded. Raises ServiceError with the cause where one cannot be."""
        ...

    async def faults(self) -> list[str]:
        """The models that run on the CPU because the GPU failed, a line each for users."""
        ...

    async def transcribe(self, samples: Samples, language: str | None, partial: bool = False) -> Transcription:
        """Words of an utterance, samples [n].

        language: code such as "en", None = detected. partial: the utterance goes on; those that have ended go first.
        """
        ...

    async def languages(self, text: str) -> dict[str, float]:
        """Probability of each language for a text."""
        ...

    async def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        """Embedding [d] float32 of the last line, and the posterior [C] of the expert that reads it in the context of
        the lines before; None where the checkpoint has no such expert."""
        ...

    async def encode_audio(self, samples: Samples) -> tuple[Array | None, VoiceObservation]:
        """Prosody [7] float32 (columns of `model.encoders.prosody`; None where Praat is missing or there is too little
        voice), and the sound of the utterance. samples: [n]."""
        ...

    async def judge_voice(self, states: Array, recognizer_states: Array) -> VoiceObservation:
        """The sound of an utterance by what two encoders have inside: states [1280] of `VoiceObservation`, and [1024]
        of `Transcription`."""
        ...

    async def analyse_faces(
        self, images: list[Image], times: list[float], samples: Samples, start: float
    ) -> FaceObservation:
        """The face of the one who speaks, and its expression.

        images: [height, width, 3] uint8 RGB each, taken at `times`; samples: [n], from `start` on. Times in seconds on
        the media clock.
        """
        ...

    async def speaker_segments(self, samples: Samples, alone: Stretches | None) -> list[SpeakerSegment]:
        """Stretches of an utterance in one voice each, in order and without gaps.

        samples: [n]; alone: stretches in which nobody else speaks, in seconds; None = all of it.
        """
        ...

    async def label(self, session: str, number: int, features: UtteranceFeatures) -> StepResult:
        """The graph's step for utterance `number` of a session, counted from 0 in the graph.

        Raises GraphStateMissing where the recognizer does not hold the state of the utterance before.
        """
        ...

    async def preview(self, session: str, number: int, features: UtteranceFeatures) -> Prediction | None:
        """The label that the next utterance would get; the graph stays as it is. None where its state is missing."""
        ...

    async def restore(self, session: str, rows: list[GraphRow]) -> None:
        """Give the recognizer the session's last rows, oldest first."""
        ...

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Prediction]:
        """The final labels that are still owed; the recognizer forgets the session."""
        ...


class EventBus(Protocol):
    """A session's way out: `stream.bus.publisher.Bus` to Redis, or one that stays in this process."""

    keys: Keys
    """The session's id, and the names of its keys."""
    forgotten: asyncio.Event
    """Set once the session turns out to have been forgotten while it went on: nothing more is published."""
    delay: float
    """Seconds that the last event took."""

    @property
    def dropped_events(self) -> int:
        """Number of events that were given up."""
        ...

    @property
    def is_spooling(self) -> bool:
        """True while events wait on disk."""
        ...

    def publish(self, *events: Base, state: str | None = None, row: str | None = None, rows: int = 0) -> None:
        """Publish events and, with them, the session's state and one graph row, of which the last `rows` are kept."""
        ...

    def save_state(self, state: str) -> None:
        """Replace the session's state without an event."""
        ...

    async def register(self, started: str) -> None:
        """Enter the session into the directory; started: ISO 8601. Raises RedisError or OSError."""
        ...

    async def beat(self, load: str) -> None:
        """Write the heartbeat; load: JSON of `stream.bus.directory.Load`."""
        ...

    def events(self) -> AsyncGenerator[Event]:
        """The session's events, as a subscriber receives them, up to `session.ended`."""
        ...

    async def aclose(self, timeout: float = 30.0) -> bool:
        """Wait until everything is sent; False if that takes longer than `timeout` seconds."""
        ...

    async def end(self, reason: str) -> None:
        """Close, and publish the `session.ended` of a session that can no longer do it itself."""
        ...


def segmenters(plan: SessionPlan) -> list[Segmenter]:
    """One segmenter a channel, as the plan says."""
    if plan.speakers == "turns":
        return [TurnSegmenter(plan.turns, plan.endpointing)]
    if plan.first_pass:
        return [TurnSegmenter((), plan.endpointing, given=False)]  # until `Session.use_turns`
    if plan.vad == "pyannote":
        return [OverlapSegmenter(SpeakerActivityNet())]
    return [
        VadSegmenter(
            SileroVad() if plan.vad == "silero" else WebRtcVad(),
            plan.endpointing,
            channel,
            plan.names.get(channel, f"speaker {channel + 1}") if plan.speakers == "channel" else None,
        )
        for channel in range(plan.channels)
    ]


class ServiceError(WorkersError):
    """A model that the session asks does not answer, or failed."""

    def __init__(self, cause: BaseException) -> None:
        """cause: the error where the model runs."""
        super().__init__(str(cause))
        self.cause = cause


class GraphStateMissing(WorkersError):
    """The recognizer does not hold the state that the utterance continues; `restore` it."""
