"""The events about a session and its utterances, with words left out or masked as the session asks."""

from __future__ import annotations

from model.encoders.face_observation import EXPRESSIONS, FaceObservation
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from model.fusion.incremental import Prediction
from model.labels import RAVDESS
from stream import events
from stream.block import Utterance
from workers.session.masking import Masker
from workers.session.services import SessionPlan
from workers.session.snapshot import Unfinished
from workers.session.utterance import AdmittedUtterance, UnderstoodUtterance, Words


class EventFactory:
    """Makes events. Ids are `{session}:{utterance}:…`, the same when an event is made again."""

    def __init__(self, plan: SessionPlan, emotions: tuple[str, ...]) -> None:
        """emotions: names of the checkpoint's classes."""
        self._plan, self._emotions = plan, emotions
        self._mask = Masker(plan.people) if plan.mask else None

    @property
    def keeps_words(self) -> bool:
        """Words may be stored as they were recognized: neither redacted nor masked."""
        return not self._plan.redact and self._mask is None

    @property
    def notes(self) -> tuple[str, ...]:
        """Faults in what the session was given, a line each."""
        return self._plan.notes

    def publishable(self, transcription: Transcription) -> Transcription | None:
        """The words that events may have; None where they are redacted."""
        if self._plan.redact:
            return None
        return transcription if self._mask is None else self._mask(transcription)

    def text(self, transcription: Transcription, so_far: bool = False) -> str | None:
        """The text that events may have. so_far: of an utterance that goes on; half a number or address is not known
        as one, so where these are masked there is none yet."""
        words = None if so_far and self._mask is not None else self.publishable(transcription)
        return None if words is None else words.text

    def started(self, time: str) -> events.SessionStarted:
        """time: ISO 8601, UTC."""
        plan = self._plan
        return events.SessionStarted(
            id=f"{plan.session}:started",
            session=plan.session,
            time=time,
            sources=list(plan.sources),
            channels="per speaker" if plan.speakers == "channel" else "mixed",
            speakers=plan.speakers,  # type: ignore[arg-type]  # validated by pydantic
            encoders=plan.encoders,
            device=plan.device,  # type: ignore[arg-type]
            checkpoint=plan.checkpoint_identity,
            emotions=list(self._emotions),
            consent=plan.consent,
            agreement=plan.agreement,
            redacted=plan.redact,
            masked=plan.mask and not plan.redact,
            recorded=plan.recorded,
            kept=plan.kept,
            title=plan.title,
        )

    def heard(self, admitted: AdmittedUtterance, words: Words) -> events.UtteranceHeard:
        """Words of an utterance that has ended."""
        start, transcription = admitted.utterance.start, self.publishable(words.transcription)
        text = self.text(words.transcription)
        return events.UtteranceHeard(
            id=f"{self._plan.session}:{admitted.number}:heard",
            session=self._plan.session,
            utterance=admitted.number,
            speaker=admitted.speaker,
            audio_start=start,
            audio_end=admitted.utterance.end,
            text=text,
            language=words.transcription.language if text else None,
            words=[
                events.Word(word=w.text, start=start + w.start, end=start + w.end, probability=w.probability)
                for w in (transcription.words if transcription else ())
            ],
        )

    def partial(self, admitted: AdmittedUtterance, words: Words, stable: str, count: int) -> events.UtterancePartial:
        """Words so far of an utterance that goes on. stable: the first of them, which will not change any more;
        count: events of this kind before."""
        return events.UtterancePartial(
            id=f"{self._plan.session}:{admitted.number}:partial:{count}",
            session=self._plan.session,
            utterance=admitted.number,
            speaker=admitted.speaker,
            audio_start=admitted.utterance.start,
            audio_end=admitted.utterance.end,
            text=self.text(words.transcription, so_far=True),
            stable=stable,
        )

    def emotion(
        self,
        admitted: AdmittedUtterance,
        understood: UnderstoodUtterance,
        prediction: Prediction,
        modalities: events.Modalities,
        influences: dict[int, float],
        latency: events.Latency | None = None,
        interim: int | None = None,
    ) -> events.Emotion:
        """A provisional label. interim: number of the interim label, for an utterance that goes on."""
        return events.Emotion(
            id=f"{self._plan.session}:{admitted.number}:" + ("0" if interim is None else f"interim:{interim}"),
            session=self._plan.session,
            utterance=admitted.number,
            revision=0,
            final=False,
            trigger="speech_ended" if interim is None else "interval",
            speaker=admitted.speaker,
            audio_start=admitted.utterance.start,
            audio_end=admitted.utterance.end,
            text=self.text(understood.words.transcription, so_far=interim is not None),
            emotion=_likeliest(prediction.emotion),
            probabilities=prediction.emotion,
            sentiment=_likeliest(prediction.sentiment),
            uncertain=prediction.uncertain,
            modalities=modalities,
            contribution=prediction.contribution,
            influences=influences,
            visual=None if understood.face is None else _visual(understood.face),
            voice=None if understood.voice is None else _voice(understood.voice, admitted.utterance.start),
            latency=latency,
        )

    def failed(self, number: int, utterance: Utterance, speaker: str, reason: str) -> events.UtteranceFailed:
        """An utterance without a label, and why."""
        return self._failed(number, speaker, utterance.start, utterance.end, reason)

    def lost(self, unfinished: Unfinished) -> events.UtteranceFailed:
        """An utterance that was begun by a process that is no more."""
        reason = "its sound was lost with the process that listened"
        return self._failed(unfinished.number, unfinished.speaker, unfinished.start, unfinished.end, reason)

    def _failed(self, number: int, speaker: str, start: float, end: float, reason: str) -> events.UtteranceFailed:
        return events.UtteranceFailed(
            id=f"{self._plan.session}:{number}:failed",
            session=self._plan.session,
            utterance=number,
            speaker=speaker,
            audio_start=start,
            audio_end=end,
            reason=reason,
        )


def revised(provisional: events.Emotion, prediction: Prediction, influences: dict[int, float]) -> events.Emotion:
    """The final label of an utterance that has its provisional one; modalities and words are the same."""
    new = {
        "id": f"{provisional.session}:{provisional.utterance}:{prediction.revision}",
        "revision": prediction.revision,
        "final": True,
        "trigger": "context",
        "emotion": _likeliest(prediction.emotion),
        "probabilities": prediction.emotion,
        "sentiment": _likeliest(prediction.sentiment),
        "uncertain": prediction.uncertain,
        "influences": influences,
        "latency": None,
    }
    return events.Emotion.model_validate({**provisional.model_dump(), **new})


def _likeliest(shares: dict[str, float]) -> str:
    return max(shares, key=shares.__getitem__)


def _visual(face: FaceObservation) -> events.Visual:
    expression = None if face.expression is None else dict(zip(EXPRESSIONS, map(float, face.expression), strict=True))
    return events.Visual(
        frames=face.frames,
        faces=face.faces,
        visible=face.visible,
        quality=face.quality,
        speaking=face.speaking,
        expression=expression,
        reason=face.reason,
    )


def _voice(voice: VoiceObservation, start: float) -> events.Voice:
    """start: of the utterance, in seconds on the media clock."""
    expression = None if voice.expression is None else dict(zip(RAVDESS, map(float, voice.expression), strict=True))
    sounds = [
        events.Sound(sound=s.name, start=start + s.start, end=start + s.end, probability=s.probability)
        for s in voice.sounds
    ]
    return events.Voice(arousal=voice.arousal, expression=expression, sounds=sounds)
