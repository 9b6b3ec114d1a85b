"""Voices and faces join as experts, and work begins before an utterance's end is confirmed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from model.encoders.face_observation import FaceObservation
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import Sound, VoiceObservation
from model.fusion.checkpoint import load_step
from stream.block import VideoFrame
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import subscribe
from stream.events import Degraded, Emotion
from tests.support.backend import MODEL, LocalBackend, blocks, demo_transcript, plan, run
from workers.inference.recognizer import EmotionRecognizer
from workers.session.session import Session

WITH_MEDIA = load_step("meld")


async def test_faces_and_voices_join_as_experts(redis_url: str, demo_audio: np.ndarray) -> None:
    happy = np.array([0.02, 0.88, 0.02, 0.02, 0.02, 0.02, 0.02], np.float32)

    class Seeing(LocalBackend):
        def __init__(self) -> None:
            super().__init__()
            self.recognizer = EmotionRecognizer(WITH_MEDIA)

        async def analyse_faces(self, images, times, samples, start):
            assert all(start <= time for time in times)
            return FaceObservation(len(images), 1, 1.0, 0.9, None, happy)

        async def encode_audio(self, samples):
            return None, VoiceObservation(expression=np.full(8, 0.125, np.float32))

    seen = [
        replace(block, frames=(VideoFrame(block.start, np.zeros((2, 2, 3), np.uint8)),)) for block in blocks(demo_audio)
    ]
    encoders = plan().encoders | {"visual": "test"}
    looking = plan(encoders=encoders, modalities=("text", "audio", "visual"))
    session = Session(looking, WITH_MEDIA.config, Seeing(), Bus(redis_url, Keys(looking.session)))
    await session.start()
    for block in seen:
        await session.push(block)
    await session.finish("end of source")
    labels = [e async for e in subscribe(redis_url, looking.session) if isinstance(e, Emotion) and not e.revision]
    assert labels
    for event in labels:
        assert event.visual is not None and event.visual.expression is not None and event.visual.frames > 0
        assert event.visual.expression["happy"] == pytest.approx(0.88)
        assert {"text", "audio", "visual"} == set(event.modalities.used)
        assert sum(event.contribution.values()) == pytest.approx(1, abs=1e-4) and event.contribution["visual"] > 0


@pytest.mark.parametrize("broken", [False, True])
async def test_a_voice_is_judged_again_with_what_the_recognizer_heard(
    redis_url: str, demo_audio: np.ndarray, broken: bool
) -> None:
    """Sounds stay, on the session's clock; where the second judgement fails, the first one stands and is told of."""
    even = np.full(8, 0.125, np.float32)

    class Listening(LocalBackend):
        async def transcribe(self, samples, language, partial=False):
            return Transcription("words", states=np.ones(1024, np.float32))

        async def encode_audio(self, samples):
            laugh = Sound("laughter", 0.25, 0.75, 0.9)
            return np.zeros(7, np.float32), VoiceObservation(0.1, even, (laugh,), states=np.ones(1280, np.float32))

        async def judge_voice(self, states, recognizer_states):
            assert states.shape == (1280,) and recognizer_states.shape == (1024,)
            if broken:
                raise RuntimeError("the voice encoder broke")
            return VoiceObservation(-0.4, even, states=states)

    made = plan()
    session = Session(made, MODEL.config, Listening(), Bus(redis_url, Keys(made.session)))
    await session.start()
    for block in blocks(demo_audio[:, : 10 * 16_000]):
        await session.push(block)
    await session.finish("end of source")
    events = [event async for event in subscribe(redis_url, made.session)]
    labels = [e for e in events if isinstance(e, Emotion)]
    assert labels
    for label in labels:
        assert label.voice is not None and label.voice.arousal == (0.1 if broken else -0.4)
        assert label.voice.expression is not None and label.voice.expression["angry"] == 0.125
        (sound,) = label.voice.sounds
        assert sound.sound == "laughter" and sound.start == pytest.approx(label.audio_start + 0.25, abs=1e-3)
    reasons = [e.reason for e in events if isinstance(e, Degraded)]
    assert any("the voice encoder broke" in reason for reason in reasons) == broken


async def test_work_begins_before_the_end_is_confirmed(redis_url: str, demo_audio: np.ndarray) -> None:
    """Speculation asks at the first short silence, asks nothing twice about an end that was right, and labels alike."""

    class Watched(LocalBackend):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[float, int]] = []
            self.slow = 0.0

        async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
            self.asked.append((self.session.position, len(samples)))
            await asyncio.sleep(self.slow)
            return Transcription(f"{len(samples)} samples")

    async def labels(speculate: bool, slow: float = 0.0) -> tuple[list[Emotion], list[tuple[float, int]]]:
        helpers, chosen = Watched(), plan(speculate=speculate)
        helpers.slow = slow
        helpers.session = session = Session(chosen, MODEL.config, helpers, Bus(redis_url, Keys(chosen.session)))
        await session.start()
        for block in blocks(demo_audio[:, : 30 * 16_000]):
            await session.push(block)
            await asyncio.sleep(0.01)
        await session.finish("end of source")
        told = [event async for event in subscribe(redis_url, chosen.session)]
        return [e for e in told if isinstance(e, Emotion) and not e.revision], helpers.asked

    patient, late = await labels(False)
    eager, early = await labels(True)
    alike = ("utterance", "speaker", "audio_start", "audio_end", "text", "probabilities")
    assert [[getattr(e, name) for name in alike] for e in eager] == [
        [getattr(e, name) for name in alike] for e in patient
    ]
    assert len({size for _, size in early}) == len(early), "asked twice about the same samples"
    overtaken, _ = await labels(True, slow=0.5)  # the next pause comes before the words do
    assert [e.probabilities for e in overtaken] == [e.probabilities for e in patient]
    first = {size: position for position, size in early}
    gained = [position - first[size] for position, size in late]
    assert len(gained) == len(patient) and sorted(gained)[len(gained) // 2] >= 0.2


@pytest.mark.parametrize("given", [False, True])
async def test_the_text_encoder_is_told_whether_a_recognizer_wrote_the_words(
    redis_url: str, demo_audio: np.ndarray, given: bool
) -> None:
    backend = LocalBackend()
    await run(redis_url, plan(transcript=demo_transcript()) if given else plan(), backend, blocks(demo_audio))
    assert backend.read and all(lines[-1].recognized is not given for lines in backend.read)
