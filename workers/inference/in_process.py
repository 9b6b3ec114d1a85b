"""All models in this process, each in a thread of its own: a session's `InferenceBackend` without Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from model.device import Device, WithFallback, choose
from model.encoders.face_observation import FaceObservation
from model.encoders.prosody import Array
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.incremental import Prediction, StepResult
from stream.block import Samples
from workers.inference.batching import Batcher
from workers.inference.encoders import Encoders, load_transcriber
from workers.inference.recognizer import load_recognizer
from workers.session.diarization import SpeakerSegment, Stretches
from workers.session.services import Image, ModelRequirements, ServiceError, SessionPlan

if TYPE_CHECKING:
    from model.encoders.asr import Guarded
    from model.encoders.faces import FaceReader

Loaded = TypeVar("Loaded")
Answer = TypeVar("Answer")


class SharedModel(Generic[Loaded]):
    """A model that is loaded when it is first asked, for all sessions of this process."""

    def __init__(self, load: Callable[[], Loaded], kinds: Sequence[str]) -> None:
        """kinds: of questions; those of one kind follow each other, in a thread of their own."""
        self._load, self._loading = load, threading.Lock()
        self._loaded: Loaded | None = None
        self._threads = {kind: ThreadPoolExecutor(1, f"undertone-{kind}") for kind in kinds}

    def get(self) -> Loaded:
        """The model. Raises whatever loading it raises."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    async def ask(self, kind: str, question: Callable[[Loaded], Answer]) -> Answer:
        """The answer of the model, in the thread of this kind. Raises ServiceError for whatever it raises."""
        try:
            return await asyncio.wrap_future(self.begin(kind, question))
        except Exception as error:
            raise ServiceError(error) from error

    def begin(self, kind: str, question: Callable[[Loaded], Answer]) -> Future[Answer]:
        """The answer to come."""
        return self._threads[kind].submit(lambda: question(self.get()))


# One of each stays loaded, so that a program's next session begins at once.
@lru_cache(maxsize=1)
def _encoders(checkpoint: str, voice: str | None, device: Device) -> SharedModel[Encoders]:
    return SharedModel(lambda: Encoders(checkpoint, voice, device), ("text", "audio", "voice", "speaker"))


@lru_cache(maxsize=1)
def _transcriber(model: str, device: Device) -> SharedModel[WithFallback[Guarded]]:
    return SharedModel(lambda: load_transcriber(model, device), ("words",))


@lru_cache(maxsize=1)
def _faces() -> SharedModel[FaceReader]:
    def load() -> FaceReader:
        from model.encoders.faces import FaceReader as Reader

        return Reader()

    return SharedModel(load, ("faces",))


class InProcessModels:
    """Answers the questions of one session (`workers.session.services.InferenceBackend`) in this process."""

    def __init__(self, checkpoint: str, needs: ModelRequirements) -> None:
        """Raises CheckpointError, DeviceError."""
        self.device = choose(needs.device)
        self._encoders = _encoders(checkpoint, needs.voice, self.device)
        self._faces = _faces() if needs.faces else None
        self._recognizer = load_recognizer(checkpoint, self.device)
        self._transcriber = None if needs.asr is None else _transcriber(needs.asr, self.device)
        self._batches = Batcher(self._transcribe_together, limit=8)

    async def ready(self) -> None:
        loading = [self._encoders.ask("text", bool)]
        if self._transcriber is not None:
            loading.append(self._transcriber.ask("words", bool))
        if self._faces is not None:
            loading.append(self._faces.ask("faces", bool))
        await asyncio.gather(*loading)

    async def faults(self) -> list[str]:
        words = None if self._transcriber is None else self._transcriber.get().fault
        faults = words, *self._encoders.get().faults, self._recognizer.fault
        return [fault for fault in faults if fault]

    async def transcribe(self, samples: Samples, language: str | None, partial: bool = False) -> Transcription:
        try:
            return await self._batches((samples, language), urgent=not partial)
        except Exception as error:
            raise ServiceError(error) from error

    def _transcribe_together(self, utterances: list[tuple[Samples, str | None]]) -> list[Transcription]:
        from model.encoders.asr import transcribe_together

        assert self._transcriber is not None

        def transcribe(recognizer: WithFallback[Guarded]) -> list[Transcription]:
            return recognizer(lambda asr: transcribe_together(asr, utterances))

        return self._transcriber.begin("words", transcribe).result()

    async def languages(self, text: str) -> dict[str, float]:
        return await self._encoders.ask("text", lambda encoders: encoders.languages(text))

    async def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        return await self._encoders.ask("text", lambda encoders: encoders.embed(lines))

    async def encode_audio(self, samples: Samples) -> tuple[Array | None, VoiceObservation]:
        return await self._encoders.ask("audio", lambda encoders: encoders.encode_audio(samples))

    async def judge_voice(self, states: Array, recognizer_states: Array) -> VoiceObservation:
        return await self._encoders.ask("voice", lambda encoders: encoders.judge_voice(states, recognizer_states))

    async def analyse_faces(
        self, images: list[Image], times: list[float], samples: Samples, start: float
    ) -> FaceObservation:
        assert self._faces is not None
        return await self._faces.ask("faces", lambda reader: reader(images, times, samples, start))

    async def speaker_segments(self, samples: Samples, alone: Stretches | None) -> list[SpeakerSegment]:
        return await self._encoders.ask("speaker", lambda encoders: encoders.speaker_segments(samples, alone))

    async def label(self, session: str, number: int, features: UtteranceFeatures) -> StepResult:
        return await self._recognizer.label(session, number, features)

    async def preview(self, session: str, number: int, features: UtteranceFeatures) -> Prediction | None:
        return self._recognizer.preview(session, number, features)

    async def restore(self, session: str, rows: list[GraphRow]) -> None:
        self._recognizer.restore(session, rows)

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Prediction]:
        return self._recognizer.finish(session, rows)


def load_in_process(plan: SessionPlan, needs: ModelRequirements) -> InProcessModels:
    """The models that a session needs, in this process. Raises CheckpointError, DeviceError."""
    return InProcessModels(plan.checkpoint, needs)
