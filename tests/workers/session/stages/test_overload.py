"""What is given up under overload, in which order, and that it comes back."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from model.encoders.face_observation import FaceObservation
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import history, subscribe
from stream.clock import MonotonicClock
from stream.events import Degraded, Emotion, UtteranceFailed, UtterancePartial
from tests.support.backend import MODEL, LocalBackend, blocks, demo_transcript, plan
from workers.session.session import Session
from workers.session.stages.overload import BUDGET_S, RECOVERY_S, DegradationStep, Overload

INTERIM_WORDS, PICTURES, EARLY_WORK, WORDS, UTTERANCES = DegradationStep
ALL = {"asr": "test", "text": "test", "audio": "test", "visual": "test", "vad": "webrtc"}

SILENT = ALL | {"audio": None, "visual": None}


def test_steps_are_taken_one_by_one_and_given_back_in_the_opposite_order() -> None:
    steps = (
        INTERIM_WORDS,
        PICTURES,
        EARLY_WORK,
        WORDS,
        UTTERANCES,
    )
    overload = Overload(plan(live=True, encoders=ALL, interim=3.0))
    told = [overload.watch(2.0 * n, 0.0) for n in range(8)]
    assert [text for text in told if text] == [f"overloaded, so {step.value}" for step in steps]
    assert all(overload.is_shed(step) for step in steps)
    back = [overload.watch(100.0 + n, None) for n in range(60)]
    assert [text for text in back if text] == [
        f"there is room again; no more: {step.value}" for step in reversed(steps)
    ]
    at = [n for n, text in enumerate(back) if text]
    assert min(np.diff(at)) >= RECOVERY_S, "not at once, or it would go back and forth"
    assert overload.level == 0


def test_between_room_and_overload_nothing_changes() -> None:
    overload = Overload(plan(live=True, encoders=ALL))
    overload.watch(10.0, 0.0)
    assert all(overload.watch(10.0 + n, 8.0 + n) is None for n in range(100))
    assert overload.level == 1


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"live": False}, ()),
        ({"live": True}, (EARLY_WORK, WORDS, UTTERANCES)),
        (
            {"live": True, "interim": 3.0},
            (
                INTERIM_WORDS,
                EARLY_WORK,
                WORDS,
                UTTERANCES,
            ),
        ),
        (
            {"live": True, "modalities": ("text",), "encoders": SILENT},
            (EARLY_WORK, UTTERANCES),
        ),
    ],
    ids=["a recording", "no pictures", "words while somebody talks", "words alone"],
)
def test_only_what_is_there_is_given_up(changes: dict, steps: tuple[str, ...]) -> None:
    overload = Overload(plan(**changes))
    told = [overload.watch(2.0 * n, 0.0) for n in range(8)]
    assert tuple(text.removeprefix("overloaded, so ") for text in told if text) == tuple(step.value for step in steps)


class Slow(LocalBackend):
    """Understands `pace` seconds of an utterance's words in as many seconds, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = 0.0
        self.pictures: list[int] = []
        self._one = asyncio.Lock()

    async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
        async with self._one:
            await asyncio.sleep(self.pace)
        return Transcription("words")

    async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
        return np.zeros(7, np.float32), VoiceObservation()

    async def analyse_faces(self, images, times, samples, start) -> FaceObservation:
        self.pictures.append(len(images))
        return FaceObservation(len(images), 0, reason="no face")


async def test_words_while_somebody_talks_are_the_first_thing_given_up(redis_url: str, demo_audio: np.ndarray) -> None:
    made = plan(live=True, interim=2.0)
    session = Session(made, MODEL.config, LocalBackend(), Bus(redis_url, Keys(made.session)))
    await session.start()
    session.admission.overload.watch(BUDGET_S + 1, 0.0)
    for block in blocks(demo_audio):
        await session.push(block)
        await asyncio.sleep(0.01)
    await session.finish("end of source")
    events = await history(redis_url, made.session)
    labels = {e.id.replace("interim", "partial") for e in events if isinstance(e, Emotion) and e.trigger == "interval"}
    partial = [e for e in events if isinstance(e, UtterancePartial)]
    assert labels and labels <= {e.id for e in partial}
    assert all(e.audio_end - e.audio_start >= 2.0 for e in partial), "with a label or not at all"


async def test_four_times_too_much_is_survived_and_forgotten(
    redis_url: str, demo_audio: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words take four times as long as they are said: steps are told, labels stay in time, and all comes back."""
    monkeypatch.setattr("workers.session.session.HEARTBEAT_S", 0.02)
    monkeypatch.setattr("workers.session.stages.overload.BUDGET_S", 0.15)
    monkeypatch.setattr("workers.session.stages.overload.RECOVERED_S", 0.05)
    monkeypatch.setattr("workers.session.stages.overload.RECOVERY_S", 0.2)
    made, helpers = plan(live=True, speculate=True, interim=0.5), Slow()
    session = Session(made, MODEL.config, helpers, Bus(redis_url, Keys(made.session)))
    await session.start()
    for n in range(3):  # the demo three times, at 50 times real time
        helpers.pace = 0.3 if n == 1 else 0.0
        for block in blocks(demo_audio):
            await session.push(block)
            await asyncio.sleep(0.004)
    await session.finish("end of source")
    events = await history(redis_url, made.session)
    told = [e.reason for e in events if isinstance(e, Degraded) and "no interim label:" not in e.reason]
    taken = [reason for reason in told if reason.startswith("overloaded")]
    assert taken[:3] == [f"overloaded, so {step.value}" for step in (INTERIM_WORDS, EARLY_WORK, WORDS)]
    assert told[-1] == f"there is room again; no more: {INTERIM_WORDS.value}"
    labels = [e for e in events if isinstance(e, Emotion) and e.trigger == "speech_ended"]
    failed = [e for e in events if isinstance(e, UtteranceFailed)]
    assert len(labels) + len(failed) == len({e.utterance for e in (*labels, *failed)})
    assert all("overloaded" in e.reason for e in failed)
    voice_alone = [e for e in labels if e.modalities.missing == ["text"]]
    assert voice_alone, "and the event says so"
    assert labels[-1].modalities.missing == []
    waits = [e.latency.queue + e.latency.asr + e.latency.encode for e in labels if e.latency]
    assert max(waits) < 8 * 0.3, "bounded by what was in work when the steps were taken"


class Turned(MonotonicClock):
    """Goes ahead when it is told to."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


class SlowToLoad(LocalBackend):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_loaded = asyncio.Event()

    async def ready(self) -> None:
        await self.is_loaded.wait()

    async def embed(self, lines):
        await self.is_loaded.wait()
        return await super().embed(lines)


async def test_time_in_which_models_load_is_no_latency(redis_url: str, demo_audio: np.ndarray) -> None:
    """A label that waited for models did not take as long itself."""
    clock, backend = Turned(), SlowToLoad()
    made = plan(transcript=demo_transcript())
    session = Session(made, MODEL.config, backend, Bus(redis_url, Keys(made.session)), clock)
    loading = asyncio.create_task(session.load_models())
    await session.start()
    for block in blocks(demo_audio[:, : 8 * 16_000]):
        await session.push(block)
    clock.ahead = 100.0
    backend.is_loaded.set()
    await loading
    await session.finish("end of source")
    labels = [event async for event in subscribe(redis_url, made.session) if getattr(event, "latency", None)]
    assert labels
    for label in labels:
        stages = label.latency.model_dump(exclude={"vad"})
        assert sum(stages.values()) < 50.0, stages


async def test_what_waits_for_models_to_load_is_not_late(redis_url: str, demo_audio: np.ndarray) -> None:
    """A live session listens while its models load: that alone is no reason to give anything up."""
    made = plan(live=True)
    session = Session(made, MODEL.config, LocalBackend(), Bus(redis_url, Keys(made.session)))
    assert session.admission.oldest is None
    begun = time.monotonic() - 60
    session.admission._admitted_at.append(begun)
    assert session.admission.oldest == begun
    session.admission.models_loading()
    assert session.admission.oldest is None
    session.admission.models_loaded()
    assert session.admission.oldest is not None and session.admission.oldest > begun + 50, "from then on"
    await session.bus.aclose(1)
