"""Made-up meetings of any length, published to Redis as a session publishes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from stream import events
from stream.bus.connection import connect
from stream.bus.keys import Keys
from stream.bus.publisher import Bus

EMOTIONS = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
PEOPLE = ("Ann", "Ben", "Chandra", "Dimitri", "Eva-Maria Hohenstein", "Farid", "Gül", "Hye-jin", "Ines", "Jonas")
LIVE_S = 600
LINES = {
    "neutral": (
        "Let us go through the list.",
        "The second point is the budget for the spring.",
        "I have sent the file.",
    ),
    "joy": ("That is wonderful, well done!", "I am so glad that this works now.", "Ha, that is a good one."),
    "surprise": ("Really? I had no idea.", "Wait, since when?", "That is a lot more than I thought."),
    "anger": ("I have asked for this three times.", "No. That is not what we agreed on.", "Why does nobody answer?"),
    "sadness": ("I am sorry to hear that.", "We have lost them, then.", "I had hoped for more."),
    "disgust": ("That is a cheap trick.", "I do not want to be part of that."),
    "fear": ("What if it fails on Monday?", "I am worried about the deadline."),
}


async def meeting(
    url: str,
    session: str,
    seconds: float,
    people: Sequence[str] = PEOPLE[:3],
    title: str | None = None,
    is_live: bool = False,
    utterance_s: float = 2.6,
    seed: int = 0,
    angry: Sequence[str] = (),
    sources: Sequence[str] = ("meeting.wav",),
    recorded: bool = False,
    days_ago: float = 0,
) -> str:
    """Publish a meeting; returns its id. Speakers keep their moods for a while; those in `angry` end in anger."""
    rng = np.random.default_rng(seed)
    begun = datetime.now(UTC) - timedelta(days=days_ago, seconds=seconds)
    bus = Bus(url, Keys(session))
    await bus.register(begun.isoformat())
    bus.publish(
        events.SessionStarted(
            id=f"{session}:started",
            session=session,
            time=begun.isoformat(),
            sources=list(sources),
            channels="per speaker",
            speakers="channel",
            encoders={"asr": "faster-whisper base", "text": "all-MiniLM-L6-v2", "audio": "prosody", "visual": None},
            checkpoint="meld",
            emotions=list(EMOTIONS),
            consent="All agreed",
            redacted=False,
            recorded=recorded,
            title=title,
        )
    )
    time_s, number, mood = 1.0, 0, dict.fromkeys(people, "neutral")
    talk = rng.dirichlet(np.full(len(people), 3.0))
    while time_s + utterance_s < seconds:
        speaker = str(rng.choice(people, p=talk))
        late = time_s > 0.6 * seconds
        if rng.random() < 0.25:
            mood[speaker] = str(rng.choice(EMOTIONS, p=[0.5, 0.2, 0.1, 0.05, 0.07, 0.03, 0.05]))
        if speaker in angry and late and rng.random() < 0.8:
            mood[speaker] = "anger"
        end_s = time_s + utterance_s * float(rng.uniform(0.4, 1.5))
        for event in _utterance(session, number, speaker, time_s, end_s, mood[speaker], rng):
            bus.publish(event)
        number += 1
        time_s = end_s + float(rng.uniform(0.1, 0.8))
        if number % 200 == 0:  # more than the outbox holds would be dropped
            await bus.flush()
    if is_live:
        await bus.flush()
        await _live(url, bus.keys, seconds)
    else:
        bus.publish(
            events.SessionEnded(
                id=f"{session}:ended",
                session=session,
                reason="end of source",
                duration=seconds,
                utterances=number,
                failed=0,
                counts={},
            )
        )
    assert await bus.aclose() and bus.dropped_events == 0
    return session


async def _live(url: str, keys: Keys, seconds: float) -> None:
    """A heartbeat that lasts longer than a test, instead of one every two seconds."""
    load = {"position": seconds, "seconds": seconds, "in_flight": 0, "lag": 0.1, "given_up": 0}
    client = connect(url)
    try:
        await client.set(keys.alive, json.dumps(load), ex=LIVE_S)
    finally:
        await client.aclose()


def _utterance(
    session: str, number: int, speaker: str, start: float, end: float, emotion: str, rng: np.random.Generator
) -> list[events.Event]:
    """The events of an utterance with its words and two labels."""
    common: dict[str, Any] = {"session": session, "utterance": number, "speaker": speaker}
    common |= {"audio_start": round(start, 2), "audio_end": round(end, 2)}
    text = str(rng.choice(LINES[emotion]))
    noise = rng.dirichlet(np.full(len(EMOTIONS), 0.6))
    strength = float(rng.uniform(0.35, 0.9))
    shares = {name: float((1 - strength) * part) for name, part in zip(EMOTIONS, noise, strict=True)}
    shares[emotion] += strength
    best = max(shares, key=shares.__getitem__)
    earlier = {number - back: 0.25 for back in (1, 2, 3) if number >= back}
    labels = [
        events.Emotion(
            id=f"{session}:{number}:{revision}",
            revision=revision,
            final=revision == 1,
            text=text,
            trigger="context" if revision else "speech_ended",
            emotion=best,
            probabilities=shares,
            sentiment="neutral",
            uncertain=shares[best] < 0.5,
            contribution={"text": 0.7, "audio": 0.3},
            modalities=events.Modalities(used=["text", "audio"], missing=["visual"]),
            influences=earlier if revision == 0 else {},
            latency=None,
            **common,
        )
        for revision in (0, 1)
    ]
    return [events.UtteranceHeard(id=f"{session}:{number}:heard", text=text, **common), *labels]
