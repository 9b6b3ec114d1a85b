from __future__ import annotations

import asyncio

import numpy as np
import pytest

from model.device import without_cuda
from model.fusion.checkpoint import CheckpointError, load_step
from model.fusion.dialogue import GraphRow, UtteranceFeatures
from tests.support.failing_gpu import failing_network
from workers.inference.recognizer import MAX_BATCH, EmotionRecognizer, load_recognizer
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


async def test_a_gpu_that_fails_costs_no_label() -> None:
    calm, shaken = EmotionRecognizer(MODEL), EmotionRecognizer(failing_network(4), lambda: MODEL)
    rows: dict[str, list[GraphRow]] = {"a": [], "b": []}
    for n in range(8):
        for session in rows:
            expected = await calm.label(session, n, utterance(n))
            try:
                found = await shaken.label(session, n, utterance(n))
            except GraphStateMissing:
                shaken.restore(session, rows[session])
                found = await shaken.label(session, n, utterance(n))
            rows[session].append(found.row)
            assert found.prediction.emotion == pytest.approx(expected.prediction.emotion, abs=1e-4)
    assert shaken.fault is not None and "emotion model: on the CPU, because the GPU failed (CUDA error" in shaken.fault
    for session in rows:
        assert [p.number for p in shaken.finish(session, rows[session])] == [6, 7]


@pytest.mark.parametrize("asked", ["preview", "restore", "finish"])
async def test_whatever_a_gpu_is_asked_the_cpu_answers(asked: str) -> None:
    calm = EmotionRecognizer(MODEL)
    rows = [(await calm.label("s", n, utterance(n))).row for n in range(3)]
    shaken = EmotionRecognizer(network := failing_network(99), lambda: MODEL)
    shaken.restore("s", rows)
    network._engine.fails_at = 0
    if asked == "preview":
        assert shaken.preview("s", 3, utterance(3)) is None  # its state is gone
        assert shaken.preview("new", 0, utterance(0)) is not None
    elif asked == "restore":
        shaken.restore("s", rows)
        assert shaken.preview("s", 3, utterance(3)) is not None
    else:
        owed = [(p.number, p.emotion) for p in shaken.finish("s", rows)]
        assert [n for n, _ in owed] == [1, 2]
        for (_, one), other in zip(owed, calm.finish("s", rows), strict=True):
            assert one == pytest.approx(other.emotion, abs=1e-4)
    assert shaken.fault is not None


async def test_all_who_wait_hear_that_a_gpu_has_failed() -> None:
    shaken = EmotionRecognizer(failing_network(1), lambda: MODEL)
    told = await asyncio.gather(
        *(shaken.label(f"s{n}", 0, utterance(n)) for n in range(MAX_BATCH + 8)), return_exceptions=True
    )
    assert all(isinstance(each, GraphStateMissing) for each in told)
    assert (await shaken.label("s0", 0, utterance(0))).prediction.number == 0


async def test_bad_features_are_not_the_gpus_fault() -> None:
    recognizer = EmotionRecognizer(failing_network(99), lambda: MODEL)
    with pytest.raises(ValueError, match="broadcast"):
        await recognizer.label("s", 0, UtteranceFeatures({"text": np.zeros(3, np.float32)}, 0))
    assert recognizer.fault is None


async def test_a_gpu_that_cannot_be_used_is_told() -> None:
    assert load_recognizer("meld", "cpu").fault is None
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_recognizer("unknown", "cuda")
    if without_cuda():
        recognizer = load_recognizer("meld", "cuda")
        assert recognizer.fault is not None and recognizer.fault.startswith("emotion model: on the CPU")
        assert (await recognizer.label("s", 0, utterance(0))).prediction.number == 0
