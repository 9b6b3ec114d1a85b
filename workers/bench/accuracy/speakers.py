"""`undertone bench speakers`: live diarization against RTTM, and verification error of speaker embeddings."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.encoders.prosody import Array
from model.encoders.speaker import SpeakerEncoder
from stream.block import RATE, Samples, Utterance
from stream.sources.file import FileSource, read_audio
from stream.speech.segmenter import Endpointing, TurnSegmenter, VadSegmenter
from workers.bench.accuracy.data import Recording, comparison_net, with_turns
from workers.bench.accuracy.vad import detector
from workers.console.tables import Rows
from workers.session.diarization import Diarization, SpeakerSegment, speaker_segments


def bench_speakers(folder: Path) -> Rows:
    """Rows of diarization error rate (DER) and its parts, in percent, by VAD and folder of recordings.

    "given turns" takes the segmentation from the RTTM, which isolates the clustering. Raises AnnotationError,
    MediaError.
    """
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    encoder, rows = SpeakerEncoder(), []
    recordings = with_turns(folder)
    for vad in ("webrtc", "silero", "given turns"):
        for group in sorted({recording.group for recording in recordings}, reverse=True):
            rate = DiarizationErrorRate()
            seconds = taken = 0.0
            for recording in (one for one in recordings if one.group == group):
                started = time.perf_counter()
                spoken, length = asyncio.run(_diarize(recording, vad, encoder))
                taken += time.perf_counter() - started
                seconds += length
                reference, hypothesis = Annotation(), Annotation()
                for n, turn in enumerate(recording.turns):
                    reference[Segment(turn.start, turn.end), n] = turn.speaker
                for n, (utterance, speaker) in enumerate(spoken):
                    hypothesis[Segment(utterance.start, utterance.end), n] = speaker
                rate(reference, hypothesis, uem=Timeline([Segment(0, length)]))
            parts = rate.accumulated_
            total = parts["total"]
            rows.append(
                {
                    "vad": vad,
                    "recordings": group,
                    "DER": round(100 * abs(rate), 1),
                    "missed": round(100 * parts["missed detection"] / total, 1),
                    "false_alarm": round(100 * parts["false alarm"] / total, 1),
                    "confusion": round(100 * parts["confusion"] / total, 1),
                    "times_real_time": round(seconds / taken),
                }
            )
    return rows


async def _diarize(
    recording: Recording, vad: str, encoder: SpeakerEncoder
) -> tuple[list[tuple[Utterance, str]], float]:
    """Utterances with the speakers that a session would name, and the recording's length in seconds."""

    async def parts(utterance: Utterance) -> list[SpeakerSegment]:
        return speaker_segments(encoder, utterance.samples)

    if vad == "given turns":
        turns = [type(turn)(turn.start, turn.end, "") for turn in recording.turns]
        segmenter: TurnSegmenter | VadSegmenter = TurnSegmenter(turns, Endpointing())
    else:
        segmenter = VadSegmenter(detector("webrtc 2" if vad == "webrtc" else vad), Endpointing())
    diarization, spoken, length = Diarization({}, parts), [], 0.0
    merged: dict[str, str] = {}
    utterances: list[Utterance] = []
    for block in FileSource(recording.path, "mix"):
        length = block.start + block.samples.shape[1] / RATE
        utterances += segmenter.push(block.samples[0])
    for utterance in (*utterances, *segmenter.flush()):
        labelled, merges = await diarization.tell_apart(replace(utterance, speaker=None))
        spoken += labelled
        merged |= dict(merges)
    return [(utterance, merged.get(speaker, speaker)) for utterance, speaker in spoken], length


def bench_voices(folder: Path) -> Rows:
    """Equal error rate of each embedding between pieces of clips SPEAKER-*.flac, in percent, by the pieces' length."""
    clips = [(path.stem.split("-")[0], read_audio(path)[0]) for path in sorted(folder.glob("*-*.flac"))]
    encoders = {"GE2E (shipped)": SpeakerEncoder()}
    path = comparison_net("dvector", "dvector.onnx")
    if path is not None:
        encoders["d-vector (ONNX)"] = DVector(path)  # type: ignore[assignment]
    rows: Rows = []
    for seconds in (1.0, 2.0, 3.0):
        size = round(seconds * RATE)
        pieces = [
            (speaker, clip[start : start + size])
            for speaker, clip in clips
            for start in range(0, len(clip) - size + 1, size)
        ]
        for name, encode in encoders.items():
            started = time.perf_counter()
            embeddings = np.stack([encode(piece) for _, piece in pieces])
            cost = (time.perf_counter() - started) / len(pieces)
            rate = equal_error_rate(embeddings, [speaker for speaker, _ in pieces])
            rows.append(
                {
                    "embedding": name,
                    "pieces_s": seconds,
                    "pieces": len(pieces),
                    "EER": round(100 * rate, 1),
                    "ms_each": round(1000 * cost, 1),
                }
            )
    return rows


def equal_error_rate(embeddings: Array, speakers: list[str]) -> float:
    """Equal error rate, 0 … 1, of speaker verification by dot product: false rejections equal false acceptances.

    embeddings: [n, D] float32; speakers: their n names.
    """
    from sklearn.metrics import roc_curve

    first, second = np.triu_indices(len(embeddings), 1)
    same = np.array(speakers)[first] == np.array(speakers)[second]
    false, true, _ = roc_curve(same, (embeddings @ embeddings.T)[first, second])
    return float((false + 1 - true)[np.argmin(np.abs(false - (1 - true)))] / 2)


class DVector:
    """A d-vector encoder for comparison: 40 MFCC in librosa's definition, windows of 100 frames.

    Source: https://github.com/wq2012/SpeakerRecognitionFromScratch (Apache-2.0), converted to ONNX.
    """

    def __init__(self, path: Path) -> None:
        from transformers.audio_utils import mel_filter_bank

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._network = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._filters = mel_filter_bank(1025, 128, 0.0, 8000.0, RATE, norm="slaney", mel_scale="slaney")

    def __call__(self, samples: Samples) -> Array:
        """[D] float32 unit vector of an utterance [n] float32 at 16 kHz."""
        from scipy.fft import dct
        from transformers.audio_utils import spectrogram, window_function

        decibels = spectrogram(
            samples, window_function(2048, "hann"), 2048, 512, power=2.0, pad_mode="constant",
            mel_filters=self._filters, log_mel="dB", db_range=80.0,
        )  # fmt: skip
        mfcc: NDArray[np.float32] = dct(decibels, axis=0, norm="ortho")[:40].T.astype(np.float32)
        if len(mfcc) < 100:
            mfcc = np.tile(mfcc, (-(-100 // len(mfcc)), 1))[:100]
        windows = np.stack([mfcc[start : start + 100] for start in range(0, len(mfcc) - 99, 50)])
        mean: Array = self._network.run(None, {"mfcc": windows})[0].mean(0)
        return mean / np.linalg.norm(mean)
