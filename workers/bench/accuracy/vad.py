"""`undertone bench vad`: detection errors of each VAD against RTTM, in the live segmenter."""

from __future__ import annotations

import time
from pathlib import Path

from model.encoders.silero import SileroVad
from model.encoders.speaker_activity import SpeakerActivityNet
from stream.block import RATE
from stream.sources.file import FileSource
from stream.speech.endpointing import Endpointing
from stream.speech.overlap_segmenter import OverlapSegmenter
from stream.speech.segmenter import Segmenter, VadSegmenter
from stream.speech.vad import WebRtcVad
from workers.bench.accuracy.data import with_turns
from workers.console.tables import Rows

DETECTORS = ("webrtc 0", "webrtc 1", "webrtc 2", "webrtc 3", "silero", "pyannote")


def segmenter_of(name: str) -> Segmenter:
    """A new segmenter with a detector by the name of its row."""
    if name == "pyannote":
        return OverlapSegmenter(SpeakerActivityNet())
    return VadSegmenter(SileroVad() if name == "silero" else WebRtcVad(int(name[-1])), Endpointing())


def bench_vad(folder: Path) -> Rows:
    """A row for each detector and folder: detection error rate and its parts, in percent of annotated speech.

    Raises AnnotationError, MediaError.
    """
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.detection import DetectionErrorRate

    rows: Rows = []
    recordings = with_turns(folder)
    for name in DETECTORS:
        for group in sorted({recording.group for recording in recordings}, reverse=True):
            rate, speech, false, missed, seconds, taken = DetectionErrorRate(), 0.0, 0.0, 0.0, 0.0, 0.0
            for recording in recordings:
                if recording.group != group:
                    continue
                segmenter = segmenter_of(name)
                started, utterances, length = time.perf_counter(), [], 0.0
                for block in FileSource(recording.path, "mix"):
                    utterances += segmenter.push(block.samples[0])
                    length = block.start + block.samples.shape[1] / RATE
                utterances += segmenter.flush()
                taken += time.perf_counter() - started
                reference, hypothesis = Annotation(), Annotation()
                for n, turn in enumerate(recording.turns):
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
