"""Small made-up sessions in Redis, for tests whose own event loop is taken, as Playwright takes it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stream import events
from stream.bus.keys import Keys
from stream.bus.publisher import Bus


def published(conversation: Coroutine[Any, Any, str]) -> str:
    """Its session id. In a thread of its own, for Playwright occupies this one's event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, conversation).result()


async def talking(url: str) -> str:
    """A session in which somebody is in the middle of an utterance."""
    session = f"talking-{secrets.token_hex(4)}"
    bus = Bus(url, Keys(session))
    await bus.register("2026-01-01T00:00:00+00:00")
    bus.publish(
        events.UtterancePartial(
            id=f"{session}:0:partial:1",
            session=session,
            utterance=0,
            speaker="Mara",
            audio_start=0,
            audio_end=1,
            text="So what do you",
            stable="So what",
        )
    )
    assert await bus.aclose() and bus.dropped_events == 0
    return session


LAUGH = events.Sound(sound="laughter", start=2.4, end=3.1, probability=0.8)
EXCITED = events.Voice(arousal=0.62, expression={"angry": 0.7, "happy": 0.3}, sounds=[LAUGH, LAUGH])


async def conversation(url: str, count: int, text: str = "So what do you make of it?") -> str:
    """A past session of so many utterances, published; the second is laughed."""
    session = f"long-{secrets.token_hex(4)}"
    bus = Bus(url, Keys(session))
    await bus.register("2026-01-01T00:00:00+00:00")
    names = ["neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"]
    bus.publish(
        events.SessionStarted(
            id=f"{session}:started",
            session=session,
            time="2026-01-01T00:00:00+00:00",
            sources=["made up"],
            channels="per speaker",
            speakers="channel",
            encoders={"asr": "made up", "text": None},
            checkpoint="meld",
            emotions=names,
            consent="made up",
            redacted=False,
        )
    )
    for n in range(count):
        start = 1.8 * n
        common: dict[str, Any] = {"session": session, "utterance": n, "speaker": f"speaker {n % 3}"}
        common |= {"audio_start": start, "audio_end": start + 1.5}
        bus.publish(events.UtteranceHeard(id=f"{session}:{n}:heard", text=text, **common))
        share = dict.fromkeys(names, 0.05) | {names[n % 7]: 0.7}
        latency = dict.fromkeys(("queue", "asr", "encode", "graph", "publish"), 0.01)
        for revision in (0, 1):
            bus.publish(
                events.Emotion(
                    id=f"{session}:{n}:{revision}",
                    revision=revision,
                    final=revision == 1,
                    text=text,
                    trigger="context" if revision else "speech_ended",
                    emotion=names[n % 7],
                    probabilities=share,
                    sentiment="neutral",
                    uncertain=n % 5 == 0,
                    contribution={"text": 0.8, "audio": 0.2},
                    modalities=events.Modalities(used=["text", "audio"], missing=["visual"]),
                    influences={n - 1: 0.6} if n else {},
                    voice=EXCITED if n == 1 else None,
                    **common,
                    latency=None if revision else events.Latency(vad=0.5, **latency),
                )
            )
        if n % 500 == 499:  # more than the outbox holds would be dropped
            await bus.flush()
    bus.publish(
        events.SessionEnded(
            id=f"{session}:ended",
            session=session,
            reason="end of source",
            duration=1.8 * count,
            utterances=count,
            failed=0,
            counts={},
        )
    )
    assert await bus.aclose() and bus.dropped_events == 0
    return session
