"""`undertone bench throughput`: replay speed as a multiple of real time."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from model.progress import Progress
from stream.bus.server import private_server
from stream.events import Event, SessionEnded, SessionStarted
from stream.sources.file import FileSource
from workers.bench.speed.loaded import run_loaded
from workers.bench.speed.looped import looped_file
from workers.bench.speed.processes import Use, busiest, by_kind, spent, used
from workers.bench.speed.words import Words
from workers.cluster.actors import ray_cluster
from workers.console.tables import Rows
from workers.session.planning import plan_session
from workers.session.settings import Modality, SessionSettings


class _Span:
    """An event observer that records the resources used at the session's start and end."""

    def __init__(self) -> None:
        self.looks: list[tuple[float, dict[int, Use]]] = []
        self.ended: SessionEnded | None = None

    def event(self, event: Event) -> None:
        if isinstance(event, SessionStarted | SessionEnded):
            self.looks.append((time.monotonic(), used()))
        if isinstance(event, SessionEnded):
            self.ended = event

    def position(self, seconds: float) -> None:
        pass


def bench_throughput(
    recording: Path, words: Sequence[Words], minutes: float, modalities: Sequence[Modality], progress: Progress
) -> tuple[Rows, Rows]:
    """A row for each source of words: media time / time; and one for each kind of process: CPU seconds for a minute of
    media.

    The recording is repeated to `minutes`, and to a fifth of them where words are recognized. Starting processes and
    loading models is not counted. Raises MediaError.
    """
    rows: Rows = []
    costs: Rows = []
    with tempfile.TemporaryDirectory() as folder, private_server() as redis, ray_cluster(None):
        for n, source in enumerate(words):
            progress.step("replays", n, len(words))
            path = looped_file(recording, 60 * minutes / (1 if source.asr == "none" else 5), Path(folder))
            wishes = SessionSettings(
                asr=source.asr,
                asr_model=source.model,
                transcript=path.with_suffix(".csv") if source.given else None,
                modalities=tuple(modalities),
                session=f"throughput-{secrets.token_hex(3)}",
                enrolled=False,
                interim=0,
                speculate=False,  # both as `undertone replay --speed max`
            )
            media, span = FileSource(path), _Span()
            planned = plan_session(wishes, media)
            run_loaded(planned.plan, planned.needs, media, None, redis, [span])
            assert span.ended is not None
            (began, before), (over, after) = span.looks
            length, seconds = span.ended.duration / 60, spent(before, after)
            labels = {"words": source.name, "modalities": " + ".join(modalities)}
            row = {
                "minutes": round(length, 1),
                "utterances": span.ended.utterances,
                "failed": span.ended.failed,
                "times real time": round(60 * length / (over - began), 1),
                "s/min": round(sum(seconds.values()) / length, 2),
                "busiest": busiest(seconds, after, over - began),
            }
            rows.append(labels | row)
            for kind, cpu in sorted(by_kind(seconds, after).items()):
                costs.append({**labels, "process": kind, "s/min": round(cpu / length, 3)})
    return rows, costs
