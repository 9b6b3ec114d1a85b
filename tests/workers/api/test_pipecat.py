"""The processor in pipelines of Pipecat, at a gateway that is a stub."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from tests.support.agents import importing
from tests.support.events import ended, label, notice
from tests.support.stub_gateway import StubGateway
from workers.api import remote
from workers.errors import UsageError

with importing("pipecat"):
    from pipecat.frames.frames import (
        CancelFrame,
        ErrorFrame,
        Frame,
        InputAudioRawFrame,
        TextFrame,
        UserAudioRawFrame,
    )
    from pipecat.pipeline.worker import PipelineParams
    from pipecat.tests.utils import SleepFrame, run_test
    from undertone.pipecat import EmotionFrame, UndertoneEventFrame, UndertoneProcessor

RATE = 16_000


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(remote, "QUIET_S", 0.1)
    monkeypatch.setattr("undertone.pipecat.END_S", 0.1)


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    async with StubGateway().serving() as stub:
        yield stub


def said(user: str | None, number: int, rate: int = RATE, channels: int = 1) -> Frame:
    """A hundredth of a second of somebody, all samples alike."""
    pcm = np.full(rate // 100 * channels, 100 + number, "<i2").tobytes()
    if user is None:
        return InputAudioRawFrame(audio=pcm, sample_rate=rate, num_channels=channels)
    return UserAudioRawFrame(user_id=user, audio=pcm, sample_rate=rate, num_channels=channels)


async def through(
    processor: UndertoneProcessor, frames: Sequence[Frame], rate: int = RATE
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """What comes out downstream and upstream."""
    params = PipelineParams(audio_in_sample_rate=rate)
    return await run_test(processor, frames_to_send=frames, pipeline_params=params)


def loud(heard: bytes) -> np.ndarray:
    """Samples that are no silence."""
    samples = np.frombuffer(bytes(heard), "<i2")
    return samples[samples != 0]


async def test_frames_pass_and_labels_come(gateway: StubGateway) -> None:
    """Each participant on a track of their own; frames pass as they are, in order."""
    processor = UndertoneProcessor(
        gateway.url, consent="both agreed", participants=["Ann", "Ben"], settings={"id": "call"}
    )
    audio = [said("Ann" if n % 3 else "Ben", n) for n in range(60)]
    words = [TextFrame(text=str(n)) for n in range(5)]

    async def answer() -> None:
        while not (len(gateway.heard["call", 0]) and len(gateway.heard["call", 1])):
            await asyncio.sleep(0.01)
        await gateway.publish(notice("call", 0), label("call", 0, speaker="Ben"))

    answering = asyncio.create_task(answer())
    down, up = await through(processor, [*audio, *words, SleepFrame(sleep=1.0)])
    await answering
    assert [frame for frame in down if isinstance(frame, UserAudioRawFrame)] == audio
    assert [frame for frame in down if isinstance(frame, TextFrame)] == words
    (about, told) = (frame for frame in down if isinstance(frame, UndertoneEventFrame))
    assert about.event == notice("call", 0) and not isinstance(about, EmotionFrame)
    assert isinstance(told, EmotionFrame) and (told.speaker, told.emotion, told.text) == ("Ben", "joy", "Hi")
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]
    assert processor.session == "call" and gateway.stopped == ["call"]
    for number, own in ((0, [n for n in range(60) if n % 3]), (1, list(range(0, 60, 3)))):
        heard = loud(gateway.heard["call", number])
        assert set(heard.tolist()) == {100 + n for n in own} and all(a <= b for a, b in pairwise(heard))


async def test_who_comes_first_gets_the_place(gateway: StubGateway) -> None:
    """Where the transport tells no user, it is "user"; one more is told, and costs nothing else."""
    processor = UndertoneProcessor(gateway.url, consent="the caller agreed", settings={"id": "one"})

    async def answer() -> None:
        while not len(loud(gateway.heard["one", 0])):
            await asyncio.sleep(0.01)
        await gateway.publish(label("one", 0, speaker="place 1"))

    answering = asyncio.create_task(answer())
    down, up = await through(processor, [said(None, 1), SleepFrame(sleep=0.5), said("Ben", 2), SleepFrame(sleep=0.5)])
    await answering
    assert [frame.speaker for frame in down if isinstance(frame, EmotionFrame)] == ["user"]
    (error,) = (frame for frame in up if isinstance(frame, ErrorFrame))
    assert "no place for 'Ben'" in error.error and not error.fatal and error.processor.is_usable


@pytest.mark.parametrize(("pipeline", "frames", "sent"), [(8_000, 8_000, 8_000), (16_000, 48_000, 16_000)])
async def test_any_rate_and_two_channels(gateway: StubGateway, pipeline: int, frames: int, sent: int) -> None:
    processor = UndertoneProcessor(gateway.url, consent="the caller agreed", settings={"id": "s"})
    audio = [said(None, 900, frames, channels=2) for _ in range(50)]
    down, _ = await through(processor, [*audio, SleepFrame(sleep=0.6)], pipeline)
    assert [frame for frame in down if isinstance(frame, InputAudioRawFrame)] == audio
    heard = loud(gateway.heard["s", 0])
    assert 0.4 * sent < len(heard) <= 0.51 * sent, "half a second, but for what the resampler holds back"
    assert abs(np.median(heard) - 1_000) < 5


async def test_a_gateway_that_is_away_costs_the_labels_alone() -> None:
    stub = StubGateway()
    processor = UndertoneProcessor(stub.url, consent="the caller agreed")
    audio = [said(None, n) for n in range(20)]
    down, up = await through(processor, [*audio, SleepFrame(sleep=0.3), *audio])
    assert [frame for frame in down if isinstance(frame, InputAudioRawFrame)] == [*audio, *audio]
    (error,) = (frame for frame in up if isinstance(frame, ErrorFrame))
    assert "does not answer; trying again" in error.error and not error.fatal and error.processor.is_usable


async def test_a_gateway_that_refuses_is_told(gateway: StubGateway) -> None:
    gateway.refusal = (401, "this token is unknown")
    processor = UndertoneProcessor(gateway.url, consent="the caller agreed", token="wrong")  # noqa: S106
    down, up = await through(processor, [said(None, 1), SleepFrame(sleep=0.3), said(None, 2)])
    assert len([frame for frame in down if isinstance(frame, InputAudioRawFrame)]) == 2
    (error,) = (frame for frame in up if isinstance(frame, ErrorFrame))
    assert error.error == "Undertone: the gateway refuses: this token is unknown" and not error.fatal


async def test_the_last_labels_come_before_the_end_if_it_may_wait(gateway: StubGateway) -> None:
    processor = UndertoneProcessor(gateway.url, consent="the caller agreed", settings={"id": "s"}, linger_s=5)

    async def answer() -> None:
        while not gateway.closed:
            await asyncio.sleep(0.01)
        await gateway.publish(label("s", 0, speaker="place 1"), ended("s"))

    answering = asyncio.create_task(answer())
    down, _ = await through(processor, [said(None, 1), SleepFrame(sleep=0.5)])
    await answering
    kinds = [type(frame) for frame in down if isinstance(frame, UndertoneEventFrame)]
    assert kinds == [EmotionFrame, UndertoneEventFrame] and not gateway.stopped  # `run_test` takes none after the end


async def test_a_pipeline_that_is_cancelled_stops_the_session(gateway: StubGateway) -> None:
    processor = UndertoneProcessor(gateway.url, consent="the caller agreed", settings={"id": "s"})
    frames = [said(None, 1), SleepFrame(sleep=0.5), CancelFrame()]
    await run_test(processor, frames_to_send=frames, send_end_frame=False)
    assert gateway.stopped == ["s"]


def test_what_is_wrong_is_told_when_it_is_made() -> None:
    with pytest.raises(UsageError, match="who agreed"):
        UndertoneProcessor("http://127.0.0.1:8765", consent="")


def test_without_pipecat_a_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "undertone.pipecat")
    monkeypatch.setitem(sys.modules, "pipecat.frames.frames", None)
    with pytest.raises(ImportError, match=r"^undertone\.pipecat needs Pipecat .*: pip install pipecat-ai$"):
        importlib.import_module("undertone.pipecat")
