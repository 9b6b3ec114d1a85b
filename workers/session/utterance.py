"""An utterance on its way through a session, and the events that are told of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from model.encoders.face_observation import EXPRESSIONS, FaceObservation
from model.encoders.prosody import Array
from model.encoders.spoken_language import Belief
from model.encoders.transcription import Transcription
from model.fusion.incremental import Prediction
from stream import events
from stream.block import Utterance
from workers.session.masking import Masker
from workers.session.snapshot import Milestone, Unfinished
from workers.session.tracing import UtteranceTrace


@dataclass
class UtteranceInProgress:
    """An utterance on its way to its label."""

    session: str
    number: int
    utterance: Utterance
    speaker: str
    heard_at: float
    redacted: bool
    """Its words go into no event."""
    mask: Masker | None = None
    """What its words go through on their way into events."""
    before: tuple[UtteranceInProgress, ...] = ()
    """The utterances whose words the text encoder reads along, until it has."""
    said: Transcription = field(default_factory=Transcription)
    foreign: str | None = None
    """Language of the words, where the text encoder does not read it."""
    languages: dict[str, Belief] | None = None
    """Belief about each speaker's language after this utterance."""
    stable: str = ""
    """While it goes on: the first of the words, which will not change any more."""
    understood: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the words are final."""
    embedding: Array | None = None
    prosody: Array | None = None
    sight: FaceObservation | None = None
    opinions: dict[str, Array] = field(default_factory=dict)
    """Of the experts that have one."""
    trace: UtteranceTrace = field(default_factory=UtteranceTrace)
    queue: float = 0.0
    asr: float = 0.0
    encode: float = 0.0
    used: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Why a modality that was there could not be understood."""
    milestone: Milestone | None = None
    """What another process needs to go on after it; None where another utterance ended in the same block."""

    @classmethod
    def known(cls, session: str, speaker: str, words: str) -> UtteranceInProgress:
        """One that another process labelled: the text encoder reads its words along."""
        over = Utterance(0, 0.0, 0.0, np.zeros(0, np.float32), 0.0, speaker)
        pending = cls(session, -1, over, speaker, 0.0, False, None, said=Transcription(words))
        pending.understood.set()
        return pending

    @property
    def readable(self) -> str:
        """The words as the text encoder reads them: none of a language that it does not know."""
        return "" if self.foreign else self.said.text

    @property
    def reasons(self) -> dict[str, str]:
        """Why a modality is missing, where that is known."""
        unread = self.foreign and self.said.text and "text" in self.missing
        return {"text": f"language: {self.foreign}"} if unread else {}

    @property
    def told(self) -> Transcription | None:
        """The words as events may tell them."""
        if self.redacted:
            return None
        return self.said if self.mask is None else self.mask(self.said)

    @property
    def text(self) -> str | None:
        """Of the words, once they are all there."""
        return None if self.told is None else self.told.text

    @property
    def text_so_far(self) -> str | None:
        """Of the words while it goes on. Half a number or address is not known as one, so where these are masked
        nothing is told yet."""
        return None if self.mask else self.text

    def heard(self) -> events.UtteranceHeard:
        """Its words."""
        start, told = self.utterance.start, self.told
        return events.UtteranceHeard(
            id=f"{self.session}:{self.number}:heard",
            session=self.session,
            utterance=self.number,
            speaker=self.speaker,
            audio_start=start,
            audio_end=self.utterance.end,
            text=self.text,
            language=self.said.language if self.text else None,
            words=[
                events.Word(word=w.text, start=start + w.start, end=start + w.end, probability=w.probability)
                for w in (told.words if told else ())
            ],
        )

    def partial(self, count: int) -> events.UtterancePartial:
        """Its words so far, for the `count`-th time."""
        return events.UtterancePartial(
            id=f"{self.session}:{self.number}:partial:{count}",
            session=self.session,
            utterance=self.number,
            speaker=self.speaker,
            audio_start=self.utterance.start,
            audio_end=self.utterance.end,
            text=self.text_so_far,
            stable=self.stable,
        )

    def emotion(
        self,
        judgement: Prediction,
        influences: dict[int, float],
        latency: events.Latency | None = None,
        interim: int | None = None,
    ) -> events.Emotion:
        """Its provisional label. `interim`: the how-manieth while it goes on."""
        return events.Emotion(
            id=f"{self.session}:{self.number}:" + ("0" if interim is None else f"interim:{interim}"),
            session=self.session,
            utterance=self.number,
            revision=0,
            final=False,
            trigger="speech_ended" if interim is None else "interval",
            speaker=self.speaker,
            audio_start=self.utterance.start,
            audio_end=self.utterance.end,
            text=self.text if interim is None else self.text_so_far,
            emotion=_likeliest(judgement.emotion),
            probabilities=judgement.emotion,
            sentiment=_likeliest(judgement.sentiment),
            uncertain=judgement.uncertain,
            modalities=events.Modalities(used=self.used, missing=self.missing, reasons=self.reasons),
            contribution=judgement.contribution,
            influences=influences,
            visual=None if self.sight is None else _visual(self.sight),
            latency=latency,
        )

    def failed(self, reason: str) -> events.UtteranceFailed:
        """That it has no label."""
        return events.UtteranceFailed(
            id=f"{self.session}:{self.number}:failed",
            session=self.session,
            utterance=self.number,
            speaker=self.speaker,
            audio_start=self.utterance.start,
            audio_end=self.utterance.end,
            reason=reason,
        )


def lost(session: str, unfinished: Unfinished) -> events.UtteranceFailed:
    """That an utterance was begun by a process that is no more."""
    return events.UtteranceFailed(
        id=f"{session}:{unfinished.number}:failed",
        session=session,
        utterance=unfinished.number,
        speaker=unfinished.speaker,
        audio_start=unfinished.start,
        audio_end=unfinished.end,
        reason="its sound was lost with the process that listened",
    )


def revised(told: events.Emotion, judgement: Prediction, influences: dict[int, float]) -> events.Emotion:
    """The final label of an utterance whose provisional one was told; what it is made of is the same."""
    new = {
        "id": f"{told.session}:{told.utterance}:{judgement.revision}",
        "revision": judgement.revision,
        "final": True,
        "trigger": "context",
        "emotion": _likeliest(judgement.emotion),
        "probabilities": judgement.emotion,
        "sentiment": _likeliest(judgement.sentiment),
        "uncertain": judgement.uncertain,
        "influences": influences,
        "latency": None,
    }
    return events.Emotion.model_validate({**told.model_dump(), **new})


def _likeliest(shares: dict[str, float]) -> str:
    return max(shares, key=shares.__getitem__)


def _visual(sight: FaceObservation) -> events.Visual:
    worn = None if sight.expression is None else dict(zip(EXPRESSIONS, map(float, sight.expression), strict=True))
    return events.Visual(
        frames=sight.frames,
        faces=sight.faces,
        visible=sight.visible,
        quality=sight.quality,
        speaking=sight.speaking,
        expression=worn,
        reason=sight.reason,
    )


def one_line(error: BaseException) -> str:
    """An error as it stands in an event."""
    cause = getattr(error, "cause", None) or error  # of an error in another process, Ray tells the traceback too
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
