"""`undertone bench endtoend`: constructed conversations through the whole live path, scored from media to label."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from model.metrics import word_error_rate
from model.progress import Progress
from model.training.voice_train import Rng
from stream.block import RATE
from stream.bus.server import private_server
from stream.errors import MediaError
from stream.events import Emotion, Event, SpeakerMerged, UtteranceHeard
from stream.sources.file import FileSource
from workers.bench.accuracy.data import ravdess
from workers.cluster.actors import ray_cluster
from workers.cluster.pools import start_pools
from workers.console.tables import Rows
from workers.research.compose import Conversation, converse, one_microphone, write
from workers.session.planning import plan_session
from workers.session.runner import new_session, run
from workers.session.settings import SessionSettings, VoiceActivity

STEP_S = 0.01  # between the moments at which a label is compared with the truth


class Collected:
    """An event observer that collects all events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def position(self, seconds: float) -> None:
        pass


def bench_endtoend(
    folder: Path, actors: list[int], encoder: Path | None, conversations: int, seed: int, progress: Progress
) -> Rows:
    """Rows by kind of recording: errors of segmentation, words and speakers, and the share of time with a wrong
    emotion.

    Raises MediaError when there is no clip of these actors.
    """
    clips = [clip for clip in ravdess(folder) if not actors or clip.actor in actors]
    if not clips:
        raise MediaError(f"{folder}: no clip of actors {', '.join(map(str, actors))}")
    rows: Rows = []
    with tempfile.TemporaryDirectory() as work, private_server() as redis, ray_cluster(None):
        for number, (kind, vad, record) in enumerate(RECORDINGS):
            scores = []
            for n in range(conversations):
                progress.step("conversations", number * conversations + n, len(RECORDINGS) * conversations)
                rng = np.random.default_rng((seed, n))
                conversation = record(converse(clips, rng), rng)
                path = write(conversation, Path(work) / str(number), f"constructed{n}")
                scores.append(
                    score(
                        conversation,
                        asyncio.run(_replay(path, conversation, vad, encoder and encoder.resolve(), redis)),
                    )
                )
            mean = {key: round(100 * float(np.mean([one[key] for one in scores])), 1) for key in scores[0]}
            rows.append({"recording": kind, "n": conversations, **mean})
    return rows


def _alone(conversation: Conversation, rng: Rng) -> Conversation:
    return conversation


RECORDINGS: tuple[tuple[str, VoiceActivity, Callable[[Conversation, Rng], Conversation]], ...] = (
    ("a channel per speaker", "webrtc", _alone),
    ("one microphone", "pyannote", one_microphone),
    ("one microphone, reverberation 0.4 s", "pyannote", partial(one_microphone, reverberation=0.4)),
    ("one microphone, noise 10 dB", "pyannote", partial(one_microphone, snr=10.0)),
)


async def _replay(
    path: Path, conversation: Conversation, vad: VoiceActivity, encoder: Path | None, redis: str
) -> list[Event]:
    """Events of a session that replays one conversation, with words by the best local recognizer."""
    split = len(conversation.samples) > 1
    names = {spoken.channel: spoken.speaker for spoken in conversation.utterances} if split else {}
    wishes = SessionSettings(asr="whisper", vad=vad, names=names, interim=0, enrolled=False, speculate=False)
    source = FileSource(path, "split" if split else "mix")
    planned = plan_session(wishes, source)
    needs = replace(planned.needs, voice=None if encoder is None else str(encoder))
    shown = Collected()
    session = new_session(planned.plan, start_pools(planned.plan, needs), redis, "bench")
    await run(session, source, None, [shown])
    return shown.events


def score(conversation: Conversation, events: list[Event]) -> dict[str, float]:
    """Error rates, 0 … 1, of a session's events against the annotation of its conversation."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.detection import DetectionErrorRate
    from pyannote.metrics.diarization import DiarizationErrorRate

    utterances = [event for event in events if isinstance(event, UtteranceHeard)]
    merged = {event.speaker: event.into for event in events if isinstance(event, SpeakerMerged)}
    reference, hypothesis = Annotation(), Annotation()
    for n, spoken in enumerate(conversation.utterances):
        reference[Segment(spoken.start, spoken.end), n] = spoken.speaker
    for n, utterance in enumerate(utterances):
        speaker = merged.get(utterance.speaker, utterance.speaker)
        hypothesis[Segment(utterance.audio_start, utterance.audio_end), n] = speaker
    whole = Timeline([Segment(0, conversation.samples.shape[1] / RATE)])
    words = " ".join(spoken.text for spoken in sorted(conversation.utterances, key=lambda spoken: spoken.start))
    recognized = " ".join(event.text or "" for event in sorted(utterances, key=lambda event: event.audio_start))
    labels = [event for event in events if isinstance(event, Emotion)]
    return {
        "segmentation": DetectionErrorRate()(reference, hypothesis, uem=whole),
        "WER": word_error_rate([words], [recognized]),
        "DER": DiarizationErrorRate()(reference, hypothesis, uem=whole),
        "emotion": _time_weighted(conversation, [event for event in labels if event.revision == 0]),
        "emotion_final": _time_weighted(conversation, [event for event in labels if event.final]),
        "always_neutral": _time_weighted(conversation, None),
    }


def _time_weighted(conversation: Conversation, labels: list[Emotion] | None) -> float:
    """Share of the annotated speech, in time, that no recognized utterance with the right emotion covers.

    labels: None: a label "neutral" everywhere. With a channel per speaker, the utterance must be the speaker's.
    """
    wrong = total = 0.0
    by_speaker = len(conversation.samples) > 1
    for spoken in conversation.utterances:
        moments = np.arange(spoken.start + STEP_S / 2, spoken.end, STEP_S)
        right = (
            np.zeros(len(moments), bool) if labels is not None else np.full(len(moments), spoken.emotion == "neutral")
        )
        for label in labels or ():
            if label.emotion == spoken.emotion and (not by_speaker or label.speaker == spoken.speaker):
                right |= (moments >= label.audio_start) & (moments < label.audio_end)
        wrong, total = wrong + float((~right).sum()), total + len(moments)
    return wrong / total
