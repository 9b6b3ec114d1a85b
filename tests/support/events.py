"""Events of every kind, made up."""

from __future__ import annotations

from stream.events import Degraded, Emotion, Latency, Modalities, SessionEnded, UtterancePartial

EMOTION = Emotion(
    id="s:3:0",
    session="s",
    utterance=3,
    revision=0,
    final=False,
    trigger="speech_ended",
    speaker="Ann",
    audio_start=1.0,
    audio_end=2.0,
    text="Hi",
    emotion="joy",
    probabilities={"joy": 0.75, "neutral": 0.25},
    sentiment="positive",
    uncertain=False,
    modalities=Modalities(used=["text"], missing=["audio"]),
    contribution={"text": 1.0},
    influences={1: 0.2},
    latency=Latency(vad=0.5, queue=0, asr=0.1, encode=0.01, graph=0.002, publish=0.001),
)


def notice(session: str, number: int) -> Degraded:
    return Degraded(id=f"{session}:notice:{number}", session=session, audio_time=number, reason="test")


def ended(session: str) -> SessionEnded:
    return SessionEnded(
        id=f"{session}:ended", session=session, reason="end of source", duration=1, utterances=0, failed=0, counts={}
    )


def label(session: str, utterance: int, **changes: object) -> Emotion:
    revision = changes.get("revision", 0)
    update = {"id": f"{session}:{utterance}:{revision}", "session": session, "utterance": utterance}
    return EMOTION.model_copy(update=update | changes)


def partial(session: str, utterance: int, text: str, stable: str) -> UtterancePartial:
    return UtterancePartial(
        id=f"{session}:{utterance}:partial:{text}", session=session, utterance=utterance, speaker="Ann",
        audio_start=1, audio_end=2, text=text, stable=stable,
    )  # fmt: skip
