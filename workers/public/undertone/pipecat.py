"""Undertone in a Pipecat pipeline: the emotions of its participants, as frames.

    undertone = UndertoneProcessor("http://127.0.0.1:8765", consent="the caller agreed", token=TOKEN)
    pipeline = Pipeline([transport.input(), undertone, stt, …])

The work is done by a gateway (`undertone serve`); this process needs neither models nor Ray. Guide:
deploy/guide/agents.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    from pipecat.audio.resamplers.base_audio_resampler import BaseAudioResampler
    from pipecat.audio.utils import create_stream_resampler
    from pipecat.frames.frames import (
        CancelFrame,
        EndFrame,
        Frame,
        InputAudioRawFrame,
        StartFrame,
        SystemFrame,
        UserAudioRawFrame,
    )
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
except ModuleNotFoundError as error:
    raise ImportError(f"undertone.pipecat needs Pipecat ({error}): pip install pipecat-ai") from None

from stream.events import Emotion, Event
from workers.api.remote import END_S, RATES, GatewayError, GatewaySession

__all__ = ["EmotionFrame", "UndertoneEventFrame", "UndertoneProcessor"]

SOLE = "user"  # name of the participant where the transport tells none
RATE = 16_000  # Hz, where a gateway does not take the pipeline's


@dataclass
class UndertoneEventFrame(SystemFrame):
    """An event of the session, any but a label's. A system frame: an interruption, which often comes with what a label
    is about, does not drop it."""

    event: Event


@dataclass
class EmotionFrame(UndertoneEventFrame):
    """The label of an utterance: interim (`trigger` "interval"), at its end, and final, once later turns are known."""

    event: Emotion

    @property
    def speaker(self) -> str:
        """The participant: `user_id` of their audio frames, "user" where these have none."""
        return self.event.speaker

    @property
    def emotion(self) -> str:
        return self.event.emotion

    @property
    def text(self) -> str | None:
        """Their words; None if the session leaves words out."""
        return self.event.text


class UndertoneProcessor(FrameProcessor):
    """Sends the participants' sound to a gateway, and pushes a frame downstream for each event that comes back.

    All frames pass at once and unchanged. The session begins with the pipeline and ends with it. A gateway that is away
    or refuses costs the labels alone: an `ErrorFrame` that is not fatal tells so, once, and one that is away is tried
    again. Sound that came meanwhile is not analysed.
    """

    def __init__(
        self,
        url: str,
        *,
        consent: str,
        token: str | None = None,
        participants: Sequence[str] = (),
        places: int | None = None,
        settings: Mapping[str, Any] | None = None,
        linger_s: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """url: of the gateway. consent: who agreed to the analysis; it is published with the session. token: with the
        scopes `ingest` and `read`. participants: values of `user_id` that are known beforehand. places: tracks for so
        many others, first come, first served; None: one where there are no `participants`, else none; 0 without
        `participants`: one microphone for several people, told apart by voice. settings: more of what `POST /sessions`
        takes, such as `{"language": "en", "redact": True}`. linger_s: seconds that an `EndFrame` waits for the last
        labels, so that they still come before it.

        Raises UsageError.
        """
        super().__init__(**kwargs)
        self._url, self._participants = url, tuple(participants)
        spare = (0 if participants else 1) if places is None else places
        self._options: dict[str, Any] = {
            "consent": consent, "token": token, "places": spare, "settings": settings, "on_problem": self._report,
        }  # fmt: skip
        self._linger_s = linger_s
        self._is_cancelled = False
        self._resamplers: dict[str, BaseAudioResampler] = {}
        self._session = GatewaySession(url, self._participants, **self._options)  # what is wrong is told here
        self._reading: asyncio.Task[None] | None = None

    @property
    def session(self) -> str | None:
        """Id of the session at the gateway; None until it has started."""
        return self._session.session

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Take the pipeline's sample rate, at which the gateway is sent the sound."""
        await super().setup(setup)
        rate = setup.audio_in_sample_rate
        self._session = GatewaySession(
            self._url, self._participants, rate=rate if rate in RATES else RATE, **self._options
        )

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame, then send its sound."""
        await super().process_frame(frame, direction)
        if isinstance(frame, EndFrame):
            await self._end()
        self._is_cancelled |= isinstance(frame, CancelFrame)
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame) and self._reading is None:
            await self._session.__aenter__()
            self._reading = self.create_task(self._read())
        elif isinstance(frame, InputAudioRawFrame) and direction == FrameDirection.DOWNSTREAM:
            await self._send(frame)

    async def cleanup(self) -> None:
        """End the session."""
        await super().cleanup()
        await self._session.aclose(0.0 if self._is_cancelled else END_S)
        if self._reading is not None:
            await self.cancel_task(self._reading)
            self._reading = None

    async def _end(self) -> None:
        """Tell the gateway that there is no more sound, and wait for the last labels as long as it was asked for."""
        self._session.end()
        if self._reading is not None and self._linger_s > 0:
            await asyncio.wait({self._reading}, timeout=self._linger_s)

    async def _send(self, frame: InputAudioRawFrame) -> None:
        """Send a frame's sound, as mono and at the rate of the session."""
        speaker = (frame.user_id if isinstance(frame, UserAudioRawFrame) else "") or SOLE
        pcm: bytes = frame.audio
        if frame.num_channels > 1:
            samples = np.frombuffer(pcm, "<i2").reshape(-1, frame.num_channels)
            pcm = samples.mean(1).astype("<i2").tobytes()
        if frame.sample_rate != self._session.rate:
            if speaker not in self._resamplers:
                self._resamplers[speaker] = create_stream_resampler()
            pcm = await self._resamplers[speaker].resample(pcm, frame.sample_rate, self._session.rate)
        if pcm:
            self._session.send(speaker, pcm)

    async def _read(self) -> None:
        """Push the session's events downstream, until the last."""
        try:
            async for event in self._session:
                await self.push_frame(EmotionFrame(event) if isinstance(event, Emotion) else UndertoneEventFrame(event))
        except GatewayError:
            pass  # it was told

    def _report(self, message: str) -> None:
        """Push what goes wrong upstream, as an error that is not fatal."""
        self.create_task(self.push_error(f"Undertone: {message}"))
