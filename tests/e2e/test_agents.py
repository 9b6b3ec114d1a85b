"""Agents at a real gateway, with Redis and Ray: the demo conversation as two participants of a Pipecat pipeline, and of
a LiveKit room without a server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import undertone as program

from stream.bus.subscriber import history
from tests.support.agents import importing
from tests.support.gateways import HEARD, Gateway, gateways, pcm, wait_ready
from tests.support.paths import DEPLOY, ROOT
from tests.support.recordings import RATE, write_wav
from tests.support.rooms import MadeUpRoom, Person
from workers.api import remote

with importing("livekit"):
    from undertone.livekit import TOPIC, listen

with importing("pipecat"):
    from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, UserAudioRawFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.workers.runner import WorkerRunner
    from undertone.pipecat import EmotionFrame, UndertoneEventFrame, UndertoneProcessor

PEOPLE = ("mara", "jonas")  # of the demo conversation, a channel each
FRAME_S = 0.02
SETTINGS = {name: value for name, value in HEARD.items() if name != "consent"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str) -> Iterator[Gateway]:
    """One that any program of this machine may use; it has loaded its models."""
    options = ("--redis", redis_url, "--ray-address", ray_address)
    with gateways(tmp_path_factory.mktemp("agents"), 1, *options) as (one,):
        yield one


class Collector(FrameProcessor):
    """What comes by, downstream at the end of a pipeline or upstream at its beginning, and when."""

    def __init__(self, kinds: tuple[type[Frame], ...]) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.times: list[float] = []
        self._kinds = kinds

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, self._kinds):
            self.frames.append(frame)
            self.times.append(time.monotonic())
        await self.push_frame(frame, direction)

    def labels(self) -> list[EmotionFrame]:
        """Those at the end of speech."""
        labels = [frame for frame in self.frames if isinstance(frame, EmotionFrame)]
        return [frame for frame in labels if frame.event.trigger == "speech_ended"]


class Call:
    """A pipeline with the processor, and what it lets through."""

    def __init__(self, processor: UndertoneProcessor) -> None:
        self.errors = Collector((ErrorFrame,))
        self.out = Collector((UserAudioRawFrame, UndertoneEventFrame))
        params = PipelineParams(audio_in_sample_rate=RATE)
        self.worker = PipelineWorker(
            Pipeline([self.errors, processor, self.out]), params=params, cancel_on_idle_timeout=False, enable_rtvi=False
        )
        self.sent: list[Frame] = []
        self.times: list[float] = []

    async def speak(self, tracks: Sequence[np.ndarray], speed: float = 1.0) -> None:
        """Everybody's samples at the pace at which they were said, in frames of 20 ms."""
        step, began = int(FRAME_S * RATE), time.monotonic()
        for number, first in enumerate(range(0, len(tracks[0]), step)):
            for user, samples in zip(PEOPLE, tracks, strict=False):
                frame = UserAudioRawFrame(
                    user_id=user, audio=pcm(samples[first : first + step]), sample_rate=RATE, num_channels=1
                )
                self.sent.append(frame)
                self.times.append(time.monotonic())
                await self.worker.queue_frame(frame)
            await asyncio.sleep(max(0.0, began + (number + 1) * FRAME_S / speed - time.monotonic()))

    async def run(self, talk: asyncio.Task[None]) -> None:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)

        async def end() -> None:
            await talk
            await self.worker.queue_frame(EndFrame())

        await asyncio.gather(runner.run(), end())

    def audio(self) -> list[Frame]:
        return [frame for frame in self.out.frames if isinstance(frame, UserAudioRawFrame)]

    def delays(self) -> np.ndarray:
        """Seconds that each audio frame took."""
        came = [at for frame, at in zip(self.out.frames, self.out.times, strict=True) if frame in self.audio()]
        return np.subtract(came, self.times)


async def started(processor: UndertoneProcessor, seconds: float = 120) -> None:
    """Wait until the gateway has started the session, which may load models first."""
    deadline = time.monotonic() + seconds
    while processor.session is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_two_participants_of_a_pipeline_get_their_labels(
    gateway: Gateway, demo_audio: np.ndarray, redis_url: str
) -> None:
    """Labels name the right speakers and come in the pipeline; frames pass unchanged, in order, and do not wait."""
    processor = UndertoneProcessor(
        gateway.http, consent="synthetic voices", participants=PEOPLE[:1], places=1, settings=SETTINGS, linger_s=30
    )
    call = Call(processor)

    async def talk() -> None:
        await started(processor)
        await call.speak(demo_audio[:, : 12 * RATE])

    await call.run(asyncio.create_task(talk()))
    assert call.audio() == call.sent
    assert np.percentile(call.delays(), 95) < 0.1
    turns = [speaker for speaker, _ in groupby(frame.speaker for frame in call.out.labels())]
    assert turns == ["mara", "jonas", "mara"]
    kinds = [frame.event.type for frame in call.out.frames if isinstance(frame, UndertoneEventFrame)]
    assert kinds[0] == "session.started" and kinds[-1] == "session.ended"
    assert not call.errors.frames and processor.session is not None
    kept = await history(redis_url, processor.session)
    assert kept[-1].type == "session.ended" and kept[-1].reason == "end of source"
    assert {event.speaker for event in kept if event.type == "emotion"} == {"mara", "place 2"}


async def test_a_gateway_that_dies_costs_its_labels_alone(
    tmp_path: Path, demo_audio: np.ndarray, redis_url: str, ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames go on, an error that is not fatal says so, and with the next gateway at that address labels come again."""
    monkeypatch.setattr(remote, "MAX_PAUSE_S", 1.0)
    options = ("--redis", redis_url, "--ray-address", ray_address)
    with gateways(tmp_path, 1, *options) as (first,):
        processor = UndertoneProcessor(
            first.http, consent="synthetic voices", participants=PEOPLE, settings=SETTINGS, linger_s=30
        )
        call = Call(processor)
        before: list[int] = []
        silence = np.zeros((2, RATE), np.float32)

        async def talk() -> None:
            await started(processor)
            await call.speak(demo_audio[:, : 9 * RATE])
            first.process.kill()
            first.process.wait()
            before.append(len(call.out.labels()))
            await call.speak(demo_audio[:, 9 * RATE : 11 * RATE])
            again = tmp_path / "again.log"
            with again.open("wb") as told:
                command = [*first.process.args]  # type: ignore[misc]
                second = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
            running.append(second)
            ready = asyncio.create_task(asyncio.to_thread(wait_ready, Gateway(second, first.port, again)))
            while not ready.done():
                await call.speak(silence)
            ready.result()
            for _ in range(3):  # within which it is tried again
                await call.speak(silence)
            await call.speak(demo_audio[:, : 9 * RATE])

        running: list[subprocess.Popen[bytes]] = []
        try:
            await call.run(asyncio.create_task(talk()))
        finally:
            for process in running:
                process.kill()
                process.wait()
    assert call.audio() == call.sent
    errors = [frame.error for frame in call.errors.frames if isinstance(frame, ErrorFrame)]
    assert errors and all("does not answer" in error for error in errors)
    assert not [frame for frame in call.errors.frames if isinstance(frame, ErrorFrame) and frame.fatal]
    labels = call.out.labels()
    assert before[0] >= 1 and len(labels) > before[0]
    assert {frame.speaker for frame in labels[before[0] :]} == set(PEOPLE)
    assert {frame.event.session for frame in labels} == {processor.session}, "Ray had it still"
    assert len({frame.event.id for frame in labels}) == len(labels)


async def test_participants_of_a_room_get_their_labels(gateway: Gateway, demo_audio: np.ndarray) -> None:
    """Through LiveKit's tracks and streams, at its rate; the room itself is made up."""
    people = [Person(name) for name in PEOPLE]
    room, got = MadeUpRoom(people[0]), []

    async def talk() -> None:
        room.come(people[1])
        for person in people:
            room.subscribe(person, person.publications[0])
        tracks = np.repeat(demo_audio[:, : 12 * RATE], 3, axis=1) * 32_767
        await asyncio.gather(
            *(person.publications[0].play(sound) for person, sound in zip(people, tracks, strict=True))
        )
        room.emit("disconnected", 0)

    talking = None
    async for event in listen(room, gateway.http, consent="synthetic voices", settings=SETTINGS, publish=["data"]):
        if event.type == "session.started":
            talking = asyncio.create_task(talk())
        if event.type == "emotion" and event.trigger == "speech_ended":
            got.append(event.speaker)
    assert talking is not None
    await talking
    assert [speaker for speaker, _ in groupby(got)] == ["mara", "jonas", "mara"]
    assert len(room.packets) >= len(got) and {topic for topic, _ in room.packets} == {TOPIC}


def test_the_example_prints_the_labels_of_a_call(gateway: Gateway, demo_audio: np.ndarray, tmp_path: Path) -> None:
    call = write_wav(tmp_path / "call.wav", demo_audio[:1, : 9 * RATE], RATE)
    path = os.pathsep.join([str(ROOT), str(ROOT / "workers" / "public"), os.environ.get("PYTHONPATH", "")])
    example = subprocess.run(
        [sys.executable, DEPLOY / "examples" / "pipecat_agent.py", call, gateway.http],
        capture_output=True, text=True, timeout=200, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert example.returncode == 0, example.stderr
    assert " s  user: " in example.stdout, example.stdout + example.stderr


@pytest.mark.parametrize(("module", "package"), [("undertone.pipecat", "pipecat"), ("undertone.livekit", "livekit")])
def test_an_agent_stays_small(module: str, package: str) -> None:
    """Its process loads neither models nor what serves them."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "workers" / "public"), os.environ.get("PYTHONPATH", "")])
    code = f"import sys, {package}; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "torch",
        "ray",
        "redis",
        "av",
        "transformers",
        "onnxruntime",
        "model",
        "fastapi",
        "faster_whisper",
    }
    assert "workers.api.remote" in done.stdout.split()


def test_its_names_are_public() -> None:
    assert program.GatewaySession.__name__ == "GatewaySession" and issubclass(program.GatewayError, program.ERRORS)
