from __future__ import annotations

import asyncio

import numpy as np
import pytest

from model.fusion.checkpoint import load_step
from model.fusion.dialogue import UtteranceFeatures
from workers.inference.recognizer import EmotionRecognizer
from workers.session.services import GraphStateMissing

MODEL = load_step("meld")


def utterance(seed: int) -> UtteranceFeatures:
    return UtteranceFeatures(
        {"text": np.random.default_rng(seed).normal(size=MODEL.config.inputs["text"]).astype(np.float32)}, seed % 2
    )


async def test_sessions_that_wait_together_share_a_batch_and_stay_apart() -> None:
    alone, shared, sizes = EmotionRecognizer(MODEL), EmotionRecognizer(MODEL), []
    step = shared._labeller.step
    shared._labeller.step = lambda states, heard: sizes.append(len(states)) or step(states, heard)  # type: ignore[method-assign]
    expected = [await alone.label(f"s{n}", 0, utterance(n)) for n in range(8)]
    together = await asyncio.gather(*(shared.label(f"s{n}", 0, utterance(n)) for n in range(8)))
    assert max(sizes) == 8
    for one, other in zip(expected, together, strict=True):
        assert one.prediction.emotion == pytest.approx(other.prediction.emotion, abs=1e-5)


async def test_labels_are_idempotent_by_number() -> None:
    recognizer = EmotionRecognizer(MODEL)
    first = await recognizer.label("s", 0, utterance(0))
    assert await recognizer.label("s", 0, utterance(0)) is first
    second = await recognizer.label("s", 1, utterance(1))
    assert second.prediction.number == 1
    with pytest.raises(GraphStateMissing):
        await recognizer.label("s", 3, utterance(3))
    with pytest.raises(GraphStateMissing):
        await recognizer.label("unknown", 2, utterance(2))


async def test_a_session_is_restored_and_forgotten() -> None:
    one, other = EmotionRecognizer(MODEL), EmotionRecognizer(MODEL)
    rows = [(await one.label("s", n, utterance(n))).row for n in range(5)]
    other.restore("s", rows)
    assert (await other.label("s", 5, utterance(5))).prediction.emotion == pytest.approx(
        (await one.label("s", 5, utterance(5))).prediction.emotion, abs=1e-6
    )
    owed = one.finish("s", [])
    assert [prediction.number for prediction in owed] == [4, 5]
    with pytest.raises(GraphStateMissing):
        await one.label("s", 6, utterance(6))
