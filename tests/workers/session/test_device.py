"""A session whose GPU fails while it goes on."""

from __future__ import annotations

import numpy as np
import pytest

from model.device import Device
from stream.bus.subscriber import subscribe
from stream.events import Degraded, Emotion, Event, SessionStarted
from tests.support.backend import MODEL, LocalBackend, blocks, plan
from tests.support.failing_gpu import failing_network
from workers.inference.recognizer import EmotionRecognizer
from workers.session.runner import new_session


class OnGpu(LocalBackend):
    device: Device = "cuda"

    async def ready(self) -> None:
        pass


async def told(url: str, recognizer: EmotionRecognizer, audio: np.ndarray) -> list[Event]:
    backend = OnGpu()
    backend.recognizer = recognizer
    session = new_session(plan(), backend, url, "undertone")
    await session.start()
    await session.load_models()
    for block in blocks(audio):
        await session.push(block)
    await session.finish("end of source")
    return [event async for event in subscribe(url, session.plan.session)]


async def test_a_gpu_that_fails_is_told_and_costs_no_label(redis_url: str, demo_audio: np.ndarray) -> None:
    calm = await told(redis_url, EmotionRecognizer(MODEL), demo_audio)
    shaken = await told(redis_url, EmotionRecognizer(failing_network(6), lambda: MODEL), demo_audio)
    assert isinstance(shaken[0], SessionStarted) and shaken[0].device == "cuda"
    reasons = [event.reason for event in shaken if isinstance(event, Degraded)]
    assert reasons == ["emotion model: on the CPU, because the GPU failed (CUDA error: device-side assert triggered)"]
    labels = [[e for e in events if isinstance(e, Emotion)] for events in (calm, shaken)]
    assert len(labels[1]) == 28
    for one, other in zip(*labels, strict=True):
        assert (one.utterance, one.revision) == (other.utterance, other.revision)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
