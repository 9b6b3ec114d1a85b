"""An InferenceBackend in this process, and sessions over it: no Ray."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import numpy as np

from model.device import Device
from model.encoders.face_observation import FaceObservation
from model.encoders.spoken_language import languages_of
from model.encoders.text import Line, TextConfig
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from model.fusion.checkpoint import load_step
from model.fusion.config import FusionConfig
from stream.block import Block
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import subscribe
from stream.events import Emotion, Event
from stream.speech.transcript import read_transcript
from tests.support.paths import DEMO_TRANSCRIPT
from workers.inference.recognizer import EmotionRecognizer
from workers.session.diarization import SpeakerSegment, Stretches
from workers.session.services import SessionPlan
from workers.session.session import Session

MODEL = load_step("meld")
# Like a checkpoint whose reader reads twelve utterances along.
MODEL.config = replace(MODEL.config, reader=TextConfig(context=12, tokens=128))


class LocalBackend:
    """The real recognizer in this process; words and embeddings made up, with delays that put them out of order."""

    device: Device = "cpu"

    def __init__(self) -> None:
        self.recognizer = EmotionRecognizer(MODEL)
        self.rng = np.random.default_rng(0)
        self.at_once = self.most_at_once = self.calls = 0
        self.fail: set[int] = set()
        self.silent: set[int] = set()
        self.read: list[list[Line]] = []

    async def ready(self) -> None:
        """It is at once."""

    async def faults(self) -> list[str]:
        return [self.recognizer.fault] if self.recognizer.fault else []

    async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
        call, self.calls = self.calls, self.calls + 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.rng.uniform(0, 0.05))
        self.at_once -= 1
        if call in self.fail:
            raise RuntimeError("the recognizer of speech broke")
        return Transcription() if call in self.silent else Transcription(f"words {call}")

    async def languages(self, text: str) -> dict[str, float]:
        return languages_of(text)

    async def embed(self, lines: list[Line]) -> tuple[np.ndarray, np.ndarray]:
        self.read.append(lines)
        await asyncio.sleep(self.rng.uniform(0, 0.02))
        width = MODEL.config.inputs["text"]
        rng = np.random.default_rng(len(lines[-1].words))
        return rng.normal(size=width).astype(np.float32), rng.dirichlet(np.ones(7)).astype(np.float32)

    async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
        return None, VoiceObservation()

    async def judge_voice(self, states: np.ndarray, recognizer_states: np.ndarray) -> VoiceObservation:
        raise RuntimeError("no recognizer here has states")

    async def analyse_faces(self, images, times, samples, start) -> FaceObservation:
        return FaceObservation(len(images), 0, reason="no face")

    async def speaker_segments(self, samples: np.ndarray, alone: Stretches | None) -> list[SpeakerSegment]:
        raise RuntimeError("nobody tells voices apart here")

    async def preview(self, session, number, heard):
        return self.recognizer.preview(session, number, heard)

    async def label(self, session, number, heard):
        return await self.recognizer.label(session, number, heard)

    async def restore(self, session, rows) -> None:
        self.recognizer.restore(session, rows)

    async def finish(self, session, rows):
        return self.recognizer.finish(session, rows)


def plan(**changes) -> SessionPlan:
    made = SessionPlan(
        session=f"test-{secrets.token_hex(4)}",
        sources=("test",),
        channels=2,
        speakers="channel",
        modalities=("text", "audio"),
        encoders={"asr": "test", "text": "test", "audio": "test", "visual": None, "vad": "webrtc"},
        checkpoint="meld",
        interim=0,
        speculate=False,
    )
    return replace(made, **changes)


def blocks(audio: np.ndarray) -> list[Block]:
    return [Block(n, n * 0.2, audio[:, n * 3200 : (n + 1) * 3200]) for n in range(-(-audio.shape[1] // 3200))]


async def run(
    url: str, plan: SessionPlan, helpers: LocalBackend, pieces: list[Block], config: FusionConfig = MODEL.config
) -> list[Event]:
    session = Session(plan, config, helpers, Bus(url, Keys(plan.session)))
    await session.start()
    for block in pieces:
        await session.push(block)
    await session.finish("end of source")
    return [event async for event in subscribe(url, plan.session)]


def numbers(events: list[Event], revision: int) -> list[int]:
    return [e.utterance for e in events if isinstance(e, Emotion) and e.revision == revision]


def demo_transcript():
    return read_transcript(DEMO_TRANSCRIPT, "conversation")


def probabilities(events: list[Event]) -> list[dict[str, float]]:
    return [event.probabilities for event in events if isinstance(event, Emotion)]
