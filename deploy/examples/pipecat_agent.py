"""The labels of a call in a Pipecat pipeline. The call is a WAV file here, and no transport.

undertone serve --no-token            # the gateway, on this machine
python pipecat_agent.py call.wav
"""

import asyncio
import sys
import wave

from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from undertone.pipecat import EmotionFrame, UndertoneProcessor

GATEWAY = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8765"


class Printer(FrameProcessor):
    """Where an agent would take the caller's emotion into account."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, EmotionFrame) and frame.event.trigger == "speech_ended":
            print(f"{frame.event.audio_start:6.1f} s  {frame.speaker}: {frame.emotion}  {frame.text!r}", flush=True)
        await self.push_frame(frame, direction)


async def play(path: str, worker: PipelineWorker) -> None:
    """Frames of 20 ms at the pace of time, as a transport has them."""
    with wave.open(path) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        while pcm := file.readframes(rate // 50):
            await worker.queue_frame(InputAudioRawFrame(audio=pcm, sample_rate=rate, num_channels=channels))
            await asyncio.sleep(0.02)
    await worker.queue_frame(EndFrame())


async def tell(_: PipelineWorker, frame: ErrorFrame) -> None:
    """What goes wrong: the gateway is away, or refuses."""
    print(frame.error, file=sys.stderr)


async def main(path: str) -> None:
    undertone = UndertoneProcessor(GATEWAY, consent="the caller agreed", linger_s=10)
    worker = PipelineWorker(Pipeline([undertone, Printer()]), params=PipelineParams(audio_in_sample_rate=16_000))
    worker.add_event_handler("on_pipeline_error", tell)
    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), play(path, worker))


asyncio.run(main(sys.argv[1]))
