"""An utterance on its way through a session: one immutable result of each stage."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from model.encoders.face_observation import FaceObservation
from model.encoders.prosody import Array
from model.encoders.spoken_language import Belief
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from stream.block import Utterance
from stream.events import Emotion
from workers.session.snapshot import GraphRowRecord, Milestone
from workers.session.tracing import UtteranceTrace


class SpokenLine:
    """An utterance's words as the text encoder reads them along with later ones; there once they are final."""

    def __init__(self, speaker: str, text: str | None = None) -> None:
        """text: None = the words are still being recognized."""
        self.speaker = speaker
        self._text = text
        self._final = asyncio.Event()
        if text is not None:
            self._final.set()

    @property
    def is_final(self) -> bool:
        return self._text is not None

    def settle(self, text: str) -> None:
        """The words are final. The first call counts."""
        if self._text is None:
            self._text = text
            self._final.set()

    async def wait(self) -> None:
        """Returns when the words are final."""
        await self._final.wait()

    @property
    def line(self) -> Line:
        """Speaker and words; none while they are not final."""
        return Line(self.speaker, self._text or "")


@dataclass(frozen=True, eq=False)
class AdmittedUtterance:
    """Result of the stage admit: one speaker's utterance with its number. It holds one of the session's places."""

    number: int
    """Number in events; -1 for a preview, which no event is about."""
    utterance: Utterance
    speaker: str
    admitted_at: float
    """Seconds on the session's clock."""
    line: SpokenLine
    """Its own words, for later utterances."""
    context: tuple[SpokenLine, ...] = ()
    """The utterances before it whose words the text encoder reads along."""
    given: Transcription = field(default_factory=Transcription)
    """Its words in a transcript that the user gave."""
    trace: UtteranceTrace = field(default_factory=UtteranceTrace)
    cut_off: bool = False
    """The session was stopped while it went on."""
    so_far: Words | None = None
    """The last words that were recognized while it went on."""


@dataclass(frozen=True)
class Words:
    """The words of an utterance, and the text encoder's reading of them."""

    transcription: Transcription = field(default_factory=Transcription)
    foreign: str | None = None
    """Language of the words, where the text encoder does not read it."""
    beliefs: dict[str, Belief] | None = None
    """Belief about each speaker's language after this utterance."""
    embedding: Array | None = None
    """[d] float32; None where there are no words that can be read."""
    posterior: Array | None = None
    """[C] of the expert that reads the words in context; None where the checkpoint has none."""
    left_out: bool = False
    """Given up under overload."""
    error: str | None = None
    asr_s: float = 0.0
    """Seconds until the words were recognized."""

    @property
    def readable(self) -> str:
        """The words as the text encoder reads them: none of a language that it does not know."""
        return "" if self.foreign else self.transcription.text


@dataclass(frozen=True)
class UnderstoodUtterance:
    """Result of the stage understand: words, voice and face. What could not be found out is None."""

    words: Words = field(default_factory=Words)
    prosody: Array | None = None
    """[7] float32, columns of `model.encoders.prosody`."""
    voice: VoiceObservation | None = None
    face: FaceObservation | None = None
    expert_posteriors: dict[str, Array] = field(default_factory=dict)
    """[C] over the checkpoint's emotions, by expert."""
    errors: dict[str, str] = field(default_factory=dict)
    """Errors that cost a modality, by its name."""
    queue_s: float = 0.0
    """Seconds between admission and the beginning of this stage."""
    encode_s: float = 0.0
    """Seconds in this stage besides recognizing words."""


@dataclass(frozen=True)
class LabelledUtterance:
    """Result of the stage label."""

    emotion: Emotion
    """The provisional label."""
    row: GraphRowRecord
    """Its row in the graph, for later utterances."""
    final: Emotion | None = None
    """The final label that an earlier utterance gets now."""


@dataclass(frozen=True)
class InFlight:
    """An utterance between the stages admit and label."""

    admitted: AdmittedUtterance
    understanding: asyncio.Task[UnderstoodUtterance]
    milestone: Milestone | None = None
    """State for a process that resumes after it; None where another utterance ended in the same block."""


def error_line(error: BaseException) -> str:
    """An error as it stands in an event."""
    cause = getattr(error, "cause", None) or error  # of an error in another process, Ray tells the traceback too
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
