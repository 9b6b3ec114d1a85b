"""A made-up conversation with everything an export has to cope with, and readers of what was exported."""

from __future__ import annotations

from collections.abc import Sequence

from stream import events
from stream.events import Event

EMOTIONS = ("neutral", "joy", "anger")


NASTY = '<b>&"quoted" --> 😀 \u202eשלום\u202c\nnext\x00\x07\ufffe ]]> {\\an8} \\N $x^2$'


def started(**change) -> events.SessionStarted:
    fields = {
        "id": "s:started",
        "session": "s",
        "time": "2026-01-02T03:04:05.250+00:00",
        "sources": ["call.wav"],
        "channels": "per speaker",
        "speakers": "channel",
        "encoders": {"asr": "faster-whisper base", "text": "MiniLM", "visual": None},
        "checkpoint": "meld",
        "emotions": list(EMOTIONS),
        "consent": "both agreed",
        "redacted": False,
    }
    return events.SessionStarted(**(fields | change))


def heard(
    number: int, speaker: str, start: float, end: float, text: str | None, words: Sequence[events.Word] = ()
) -> events.UtteranceHeard:
    return events.UtteranceHeard(
        id=f"s:{number}:heard",
        session="s",
        utterance=number,
        speaker=speaker,
        audio_start=start,
        audio_end=end,
        text=text,
        words=list(words),
    )


def emotion(of: events.UtteranceHeard, *shares: float, revision: int = 0, **change) -> events.Emotion:
    """The label of `of` with these probabilities of EMOTIONS; final when its revision is 1."""
    probabilities = dict(zip(EMOTIONS, shares, strict=True))
    fields = {
        "id": f"s:{of.utterance}:{revision}",
        "session": "s",
        "utterance": of.utterance,
        "revision": revision,
        "final": revision == 1,
        "trigger": "context" if revision else "speech_ended",
        "speaker": of.speaker,
        "audio_start": of.audio_start,
        "audio_end": of.audio_end,
        "text": of.text,
        "emotion": max(probabilities, key=probabilities.__getitem__),
        "probabilities": probabilities,
        "sentiment": "neutral",
        "uncertain": max(shares) < 0.5,
        "modalities": {"used": ["text", "audio"], "missing": ["visual"]},
        "contribution": {"text": 1.0},
        "influences": {},
        "latency": None,
    }
    return events.Emotion(**(fields | change))


def failed(number: int, speaker: str | None, start: float, end: float, reason: str) -> events.UtteranceFailed:
    return events.UtteranceFailed(
        id=f"s:{number}:failed",
        session="s",
        utterance=number,
        speaker=speaker,
        audio_start=start,
        audio_end=end,
        reason=reason,
    )


def conversation() -> list[Event]:
    """Seven utterances: labelled, revised, nasty, overlapping, redacted, failed, and one still going on."""
    anna = heard(0, "Anna", 0.5, 2.0, "=1+1 is two", [events.Word(word="=1+1", start=0.5, end=1, probability=0.9)])
    ben = heard(1, "Ben", 1.5, 4.25, NASTY)
    again = heard(2, "speaker 3", 3.0, 5.0, "I talk over myself")
    secret = heard(3, "Anna", 6.0, 7.0, None)
    late = heard(5, "Ben", 9.0, 11.0, "still")
    return [
        started(),
        emotion(anna, 0.4, 0.3, 0.3, trigger="interval", text="=1+1"),
        anna,
        emotion(anna, 0.6, 0.3, 0.1),
        ben,
        emotion(ben, 0.1, 0.1, 0.8),
        again,
        emotion(again, 0.35, 0.4, 0.25),
        emotion(anna, 0.2, 0.7, 0.1, revision=1),
        events.SpeakerMerged(id="s:notice:1", session="s", speaker="speaker 3", into="Ben"),
        secret,
        emotion(secret, 0.9, 0.05, 0.05),
        failed(4, None, 8.0, 8.5, "no words & no <sound>"),
        emotion(late, 0.2, 0.2, 0.6, trigger="interval"),
        emotion(heard(6, "Anna", 12.0, 12.4, ""), 0.9, 0.1, 0.0, trigger="interval"),
        failed(6, "Anna", 12.0, 12.4, "it turned out to be no speech"),
        events.Degraded(id="s:notice:2", session="s", audio_time=8, reason="source lost <again>"),
        events.SessionEnded(
            id="s:ended", session="s", reason="end of source", duration=20, utterances=5, failed=2, counts={"split": 2}
        ),
    ]
