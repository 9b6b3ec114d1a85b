"""`undertone bench latency`, `undertone bench lag`: time to label in real time, and its growth over an hour."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from model.progress import Progress
from stream.block import BLOCK_SAMPLES, RATE
from stream.bus.server import private_server
from stream.events import Emotion, Event, UtterancePartial
from stream.sources.file import FileSource
from stream.speech.endpointing import Endpointing
from stream.speech.turns import Turn
from workers.bench.accuracy.constructed import converse, voices_of
from workers.bench.speed.loaded import run_loaded
from workers.bench.speed.looped import LoopedSource, LoopedTranscript, write_wav
from workers.bench.speed.words import Words
from workers.cluster.actors import ray_cluster
from workers.console.tables import Rows
from workers.session.planning import plan_session
from workers.session.settings import SessionSettings, VoiceActivity

STAGES = ("queue", "asr", "encode", "graph", "publish")
DETECTORS: tuple[VoiceActivity, ...] = ("pyannote", "silero", "webrtc")  # of speech on one microphone
PEOPLE, OVERLAP, SECONDS, SEED = 4, 0.1, 120.0, 4101  # of the conversation on one microphone
BEFORE_END_S = 0.2  # of a turn, at which the utterance that it is part of goes on


class Stopwatch:
    """An event observer that times labels against the media clock."""

    def __init__(self, progress: Progress | None = None, seconds: float = 0.0) -> None:
        self._origin = float("inf")  # on the machine's clock, of media time 0
        self._progress, self._seconds = progress, seconds
        self.taken: list[tuple[float, Emotion]] = []
        """(seconds from the end of speech to the label, label)."""
        self.stable: dict[int, float] = {}
        """Seconds from the start of speech to the first words that will not change, by utterance."""

    def event(self, event: Event) -> None:
        if isinstance(event, Emotion) and event.trigger == "speech_ended":
            self.taken.append((time.monotonic() - self._origin - event.audio_end, event))
        elif isinstance(event, UtterancePartial) and event.stable:
            onset = event.audio_start + Endpointing.pre_roll
            self.stable.setdefault(event.utterance, time.monotonic() - self._origin - onset)

    def position(self, seconds: float) -> None:
        self._origin = min(self._origin, time.monotonic() - seconds)
        if self._progress is not None:
            self._progress.step("minutes", round(seconds / 60), round(self._seconds / 60))


def bench_latency(recording: Path, words: Sequence[Words], progress: Progress, checkpoint: str = "meld") -> Rows:
    """Rows by source of words and by speculation: milliseconds at the median, 95 % and 99 %.

    Two clocks: with computation, as for a subscriber, in all and over the end silence that has to pass before an
    utterance ends; without computation (`silence`), from the end of speech to the block that contains the end of that
    silence. The block's length is included in all of them. `stable words`: from the start of speech (by the VAD) to the
    first words that will not change. Then the medians of the stages. Raises MediaError.
    """
    kinds = [(source, speculate) for source in words for speculate in (False, True)]
    rows: Rows = []
    with private_server() as redis, ray_cluster(None):
        for n, (source, speculate) in enumerate(kinds):
            progress.step("replays", n, len(kinds))
            wishes = SessionSettings(
                asr=source.asr, asr_model=source.model, enrolled=False, speculate=speculate, checkpoint=checkpoint,
                transcript=recording.with_suffix(".stm") if source.given else None,
                session=f"latency-{secrets.token_hex(3)}",
            )  # fmt: skip
            row = _row(_played(recording, wishes, redis))
            rows.append({"words": source.name, "ahead": "yes" if speculate else "no", **row})
    return rows


def bench_one_microphone(clips: Path, words: Sequence[Words], progress: Progress, checkpoint: str = "meld") -> Rows:
    """Rows by source of words and detector of speech, of one microphone: milliseconds at the median and 95 %.

    The conversation is put together from clips SPEAKER-*.flac, so that the ends of its turns are known. `in all` and
    `over` count from the end of an utterance, as its detector sees it; `turn` from the true end of a turn to the label
    of the utterance that it is part of, which ends later where the detector hears no end. Raises MediaError.
    """
    made = converse(voices_of(clips), PEOPLE, OVERLAP, SECONDS, SEED)
    kinds = list(product(words, DETECTORS))
    rows: Rows = []
    with tempfile.TemporaryDirectory() as folder, private_server() as redis, ray_cluster(None):
        recording = Path(folder) / "conversation.wav"
        write_wav(recording, made.samples[None])
        for n, (source, vad) in enumerate(kinds):
            progress.step("replays", n, len(kinds))
            wishes = SessionSettings(
                asr=source.asr, asr_model=source.model, enrolled=False, vad=vad, speakers="cluster",
                checkpoint=checkpoint, session=f"latency-{secrets.token_hex(3)}",
            )  # fmt: skip
            watch = _played(recording, wishes, redis)
            row = _row(watch)
            kept = ("in all p50", "in all p95", "over p50", "over p95", "asr", "encode")
            labels = {"words": source.name, "vad": vad, "utterances": row["n"]}
            rows.append(labels | {name: row[name] for name in kept} | turns_row(watch, made.turns))
    return rows


def turns_row(watch: Stopwatch, turns: Sequence[Turn]) -> dict[str, float]:
    """Turns in all, those that are part of an utterance, and milliseconds from their true end to its label."""
    after = []
    for turn in turns:
        end = turn.end
        labels = [
            (abs(event.audio_end - end), event.audio_end + seconds - end)
            for seconds, event in watch.taken
            if event.audio_start <= end - BEFORE_END_S < event.audio_end
        ]
        after += [1000 * min(labels)[1]] if labels else []
    row: dict[str, float] = {"turns": len(turns), "turns heard": len(after)}
    return row | {f"turn p{percent}": round(float(np.percentile(after, percent))) for percent in (50, 95) if after}


def _played(recording: Path, wishes: SessionSettings, redis: str) -> Stopwatch:
    """The stopwatch of a replay in real time. Raises MediaError."""
    media, watch = FileSource(recording), Stopwatch()
    planned = plan_session(wishes, media)
    run_loaded(planned.plan, planned.needs, media, 1.0, redis, [watch])
    return watch


def _row(watch: Stopwatch) -> dict[str, float]:
    taken = 1000 * np.array([seconds for seconds, _ in watch.taken])
    silence = 1000 * np.array([event.latency.vad if event.latency else 0.0 for _, event in watch.taken])
    ends = np.array([event.audio_end for _, event in watch.taken])
    ends_known = 1000 * (np.ceil((ends + silence / 1000) * RATE / BLOCK_SAMPLES - 1e-6) * BLOCK_SAMPLES / RATE - ends)
    row: dict[str, float] = {"n": len(taken)}
    for name, values in (("in all", taken), ("over", taken - silence), ("silence", ends_known)):
        for percent in (50, 95, 99) if name != "silence" else (50,):
            row[f"{name} p{percent}"] = round(float(np.percentile(values, percent)))
    if watch.stable:
        early = 1000 * np.array(list(watch.stable.values()))
        row |= {f"stable words p{percent}": round(float(np.percentile(early, percent))) for percent in (50, 95)}
    for stage in STAGES:
        seconds = [getattr(event.latency, stage) for _, event in watch.taken if event.latency]
        row[stage] = round(1000 * float(np.median(seconds)), 1)
    return row


def bench_lag(recording: Path, minutes: float, progress: Progress) -> tuple[Rows, Rows]:
    """A row of the whole with the slope of the time to label, and rows of its course; with given words, in real time.

    The recording is repeated. The slope is that of a least squares line through all labels, with its 95 % interval.
    Raises MediaError and AnnotationError.
    """
    from scipy.stats import linregress, t

    source = LoopedSource(recording, 60 * minutes)
    wishes = SessionSettings(
        asr="none", transcript=recording.with_suffix(".stm"), enrolled=False, session=f"lag-{secrets.token_hex(3)}"
    )
    watch = Stopwatch(progress, 60 * minutes)
    planned = plan_session(wishes, source)
    assert planned.plan.transcript is not None
    spoken = LoopedTranscript(planned.plan.transcript.cues, source.period)
    with private_server() as redis, ray_cluster(None):
        run_loaded(replace(planned.plan, transcript=spoken), planned.needs, source, 1.0, redis, [watch])
    ends = np.array([event.audio_end / 60 for _, event in watch.taken])
    seconds = np.array([taken for taken, _ in watch.taken])
    line = linregress(ends, seconds)
    margin = float(line.stderr * t.ppf(0.975, len(ends) - 2))
    whole = {
        "minutes": round(minutes, 1),
        "labels": len(ends),
        "s of lag a minute": f"{line.slope:.5f} ({line.slope - margin:.5f} … {line.slope + margin:.5f})",
        "flat": "yes" if abs(line.slope) <= margin else "NO",
    }
    course: Rows = []
    for part, minute in zip(np.array_split(seconds, 6), np.array_split(ends, 6), strict=True):
        p50, p95 = 1000 * np.percentile(part, [50, 95])
        course.append({"until minute": round(float(minute[-1]), 1), "in all p50": round(p50), "in all p95": round(p95)})
    return [whole], course
