"""Who speaks, and what that costs when nobody can tell."""

from __future__ import annotations

import numpy as np

from stream.events import Degraded, UtteranceFailed, UtteranceHeard
from tests.support.backend import LocalBackend, blocks, numbers, plan, run
from workers.session.diarization import SpeakerSegment


async def test_speakers_on_one_microphone_are_clustered_split_and_merged(
    redis_url: str, demo_audio: np.ndarray
) -> None:
    one, other = np.eye(256, dtype=np.float32)[:2]
    strange = (0.6 * one + 0.8 * other) / np.float32(1.0)
    voices = iter([[one], [one, other], [strange], [other]])

    class Voices(LocalBackend):
        async def speaker_segments(self, samples, alone):
            heard = next(voices, [one])
            cut = len(samples) / 16_000 / len(heard)
            return [SpeakerSegment(n * cut, (n + 1) * cut, voice, cut) for n, voice in enumerate(heard)]

    mono = blocks(demo_audio.sum(0, keepdims=True)[:, : 25 * 16_000])
    events = await run(redis_url, plan(channels=1, speakers="cluster"), Voices(), mono)
    heard = [e for e in events if isinstance(e, UtteranceHeard)]
    assert [e.speaker for e in heard[:3]] == ["speaker 1", "speaker 1", "speaker 2"]
    assert heard[1].audio_end == heard[2].audio_start  # one stretch of speech, cut where the voice changes
    assert numbers(events, 0) == list(range(len(heard)))


async def test_an_unknown_voice_costs_the_name_alone(redis_url: str, demo_audio: np.ndarray) -> None:
    mono = blocks(demo_audio.sum(0, keepdims=True)[:, : 12 * 16_000])
    events = await run(redis_url, plan(channels=1, speakers="cluster", interim=2.0), LocalBackend(), mono)
    reasons = [e.reason for e in events if isinstance(e, Degraded)]
    assert any("the speaker is not known" in reason for reason in reasons)
    assert sum("no interim label" in reason for reason in reasons) <= 6  # once an interval, not once a block
    assert numbers(events, 0) and not any(isinstance(e, UtteranceFailed) for e in events)
