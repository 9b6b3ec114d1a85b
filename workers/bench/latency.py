"""`undertone bench latency`: time to label in real time, with and without speculative endpointing."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.progress import Progress
from stream.events import Emotion, Event
from stream.media import FileSource
from stream.redis_server import private_server
from workers.actors import ray_cluster, start_pools
from workers.planning import Wishes, plan_session
from workers.run import run
from workers.tables import Rows

SOURCES = ("transcript", "pocketsphinx", "whisper")
STAGES = ("queue", "asr", "encode", "graph", "publish")


class Stopwatch:
    """A display that times labels against the media clock, as a subscriber sees them."""

    def __init__(self) -> None:
        self._origin = float("inf")  # on the machine's clock, of media time 0
        self.taken: list[tuple[float, Emotion]] = []
        """Seconds from the end of speech to the label, and the label."""

    def event(self, event: Event) -> None:
        if isinstance(event, Emotion) and event.trigger == "speech_ended":
            self.taken.append((time.monotonic() - self._origin - event.audio_end, event))

    def position(self, seconds: float) -> None:
        self._origin = min(self._origin, time.monotonic() - seconds)


def bench_latency(recording: Path, words: Sequence[str], progress: Progress) -> Rows:
    """Rows by source of words and by speculation: milliseconds at the median, 95 % and 99 %.

    In all, and over the end-silence that has to pass before an end is one. The blocks' length (100 ms), at whose end
    what they hold is heard, is in both. Then the medians of the stages. Raises MediaError.
    """
    kinds = [(source, speculate) for source in words for speculate in (False, True)]
    rows: Rows = []
    with private_server() as redis, ray_cluster(None):
        for n, (source, speculate) in enumerate(kinds):
            progress.step("replays", n, len(kinds))
            transcript = recording.with_suffix(".stm") if source == "transcript" else None
            asr = "auto" if source == "transcript" else source
            session = f"latency-{secrets.token_hex(3)}"
            wishes = Wishes(asr=asr, transcript=transcript, session=session, enrolled=False, speculate=speculate)
            media, watch = FileSource(recording), Stopwatch()
            planned = plan_session(wishes, media)
            pools = start_pools(planned.plan, planned.needs)
            asyncio.run(run(planned.plan, media, 1.0, redis, "bench", pools, [watch]))
            rows.append({"words": source, "ahead": "yes" if speculate else "no", **_row(watch)})
    return rows


def _row(watch: Stopwatch) -> dict[str, float]:
    taken = 1000 * np.array([seconds for seconds, _ in watch.taken])
    silence = 1000 * np.array([event.latency.vad if event.latency else 0.0 for _, event in watch.taken])
    row: dict[str, float] = {"n": len(taken)}
    for name, values in (("in all", taken), ("over", taken - silence)):
        for percent in (50, 95, 99):
            row[f"{name} p{percent}"] = round(float(np.percentile(values, percent)))
    for stage in STAGES:
        seconds = [getattr(event.latency, stage) for _, event in watch.taken if event.latency]
        row[stage] = round(1000 * float(np.median(seconds)), 1)
    return row
