"""`undertone bench vad`: detection errors of each VAD against RTTM, on the live segmenter."""

from __future__ import annotations

import time
from pathlib import Path

from rich.table import Table

from model.silero import SileroVad
from stream import RATE
from stream.media import FileSource
from stream.segmenter import Endpointing, VadSegmenter
from stream.turns import Turn, read_rttm
from stream.vad import FrameVad, WebRtcVad

DETECTORS = ("webrtc 0", "webrtc 1", "webrtc 2", "webrtc 3", "silero")


def detector(name: str) -> FrameVad:
    """A fresh detector by its row's name."""
    return SileroVad() if name == "silero" else WebRtcVad(int(name[-1]))


def recordings(data: Path) -> list[tuple[Path, list[Turn]]]:
    """The telephone call and the AMI excerpts of $UNDERTONE_DATA/conversations that have turns."""
    folder = data / "conversations"
    found = [(folder / "telephone" / "sample.wav", read_rttm(folder / "telephone" / "sample.rttm", "sample"))]
    for rttm, names in (("debug.development.rttm", "dev0*.flac"), ("debug.train.rttm", "trn0*.flac")):
        paths = sorted((folder / "ami").glob(names))
        found += [(path, read_rttm(folder / "ami" / rttm, path.stem)) for path in paths]
    return found


def bench_vad(data: Path) -> list[dict[str, float | str]]:
    """One row a detector and group of recordings: detection error rate and its parts, in percent of true speech."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.detection import DetectionErrorRate

    rows: list[dict[str, float | str]] = []
    for name in DETECTORS:
        for group in ("telephone", "ami"):
            rate, speech, false, missed, seconds, taken = DetectionErrorRate(), 0.0, 0.0, 0.0, 0.0, 0.0
            for path, turns in recordings(data):
                if path.parent.name != group:
                    continue
                segmenter = VadSegmenter(detector(name), Endpointing())
                started, utterances, length = time.perf_counter(), [], 0.0
                for block in FileSource(path, "mix"):
                    utterances += segmenter.push(block.samples[0])
                    length = block.start + block.samples.shape[1] / RATE
                utterances += segmenter.flush()
                taken += time.perf_counter() - started
                reference, hypothesis = Annotation(), Annotation()
                for n, turn in enumerate(turns):
                    reference[Segment(turn.start, turn.end), n] = "speech"
                for n, utterance in enumerate(utterances):
                    hypothesis[Segment(utterance.start, utterance.end), n] = "speech"
                parts = rate(reference, hypothesis, uem=Timeline([Segment(0, length)]), detailed=True)
                speech += parts["total"]
                false += parts["false alarm"]
                missed += parts["miss"]
                seconds += length
            rows.append(
                {
                    "vad": name,
                    "recordings": group,
                    "detection_error_rate": round(100 * (false + missed) / speech, 1),
                    "false_speech": round(100 * false / speech, 1),
                    "missed_speech": round(100 * missed / speech, 1),
                    "times_real_time": round(seconds / taken),
                }
            )
    return rows


def vad_table(rows: list[dict[str, float | str]]) -> Table:
    """The rows of `bench_vad`, for a person."""
    table = Table(title="Speech detection against RTTM, % of true speech (no collar, pre-roll included)")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="right" if column not in ("vad", "recordings") else "left")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table
