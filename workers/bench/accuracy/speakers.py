"""`undertone bench speakers`: live diarization against the truth, and verification error of speaker embeddings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.encoders.prosody import Array
from model.encoders.speaker import SpeakerEncoder
from model.encoders.speaker_activity import SpeakerActivityNet
from model.progress import Progress
from model.training.voice_train import filtered, noise, room_response
from stream.block import RATE, Samples, Utterance
from stream.sources.file import read_audio
from stream.speech.endpointing import Endpointing
from stream.speech.overlap_segmenter import LATENCY_S, OverlapSegmenter
from stream.speech.segmenter import Segmenter, TurnSegmenter
from stream.speech.turns import MOST_PEOPLE, Turn
from workers.bench.accuracy.constructed import LEVEL, converse, voices_of
from workers.bench.accuracy.data import comparison_net, with_turns
from workers.bench.accuracy.vad import segmenter_of
from workers.console.tables import Rows
from workers.session.diarization import Diarization, SpeakerSegment, speaker_segments

LATENCIES_S = 0.5, 1.0, 2.0, 5.0
PEOPLE, OVERLAPS = (1, 2, 3, 4, 6), (0.0, 0.1, 0.2)
SECONDS = 60.0  # of a constructed conversation
CHOSEN, JUDGED = (0, 2), (1, 3)  # seeds of the conversations by which thresholds were chosen, and of the others


@dataclass(frozen=True)
class Case:
    """A conversation and the truth about it."""

    group: str
    samples: Samples
    """[n] float32 at 16 kHz."""
    turns: list[Turn]

    @property
    def people(self) -> int:
        """Number of people who talk."""
        return len({turn.speaker for turn in self.turns})


def recorded(folder: Path) -> list[Case]:
    """The recordings with RTTM below a folder, grouped by theirs. Raises AnnotationError, MediaError."""
    return [Case(each.group, read_audio(each.path)[0], each.turns) for each in with_turns(folder)]


def constructed(clips: Path, seeds: tuple[int, ...]) -> Iterator[Case]:
    """Conversations of `PEOPLE` with `OVERLAPS`, put together from clips SPEAKER-*.flac. Raises MediaError."""
    voices = voices_of(clips)
    for people in PEOPLE:
        for overlap in OVERLAPS if people > 1 else OVERLAPS[:1]:
            for seed in seeds:
                made = converse(voices, people, overlap, SECONDS, 1000 * people + 10 * round(100 * overlap) + seed)
                yield Case(f"{people} constructed", made.samples, made.turns)


def far(cases: Sequence[Case]) -> list[Case]:
    """Conversations as a microphone across a room hears them: 0.4 s of reverberation, noise 10 dB below speech."""
    heard = []
    for case in cases:
        chance = np.random.default_rng(len(case.turns))
        sound = filtered(case.samples, room_response(chance, 0.4))
        sound += np.float32(LEVEL * 10**-0.5) * noise(chance, len(sound), ())
        heard.append(Case(f"{case.group}, far", sound.astype(np.float32), case.turns))
    return heard


def bench_speakers(folder: Path, clips: Path | None, progress: Progress) -> Rows:
    """A row for each way and group of conversations: diarization error rate (DER) and its parts, Jaccard error rate
    (JER), purity of the speakers found, all in percent, without a collar, overlap scored; and the share of
    conversations with at most one speaker too many or too few.

    folder: recordings with RTTM; clips: speech of single speakers, from which conversations are put together; None =
    none. "given turns" takes the segmentation from the truth, which isolates the clustering. Raises AnnotationError,
    MediaError.
    """
    network, encoder = SpeakerActivityNet(), SpeakerEncoder()

    def overlapping(latency: float) -> Callable[[Case], Segmenter]:
        return lambda case: OverlapSegmenter(network, latency=latency)

    def frames(name: str) -> Callable[[Case], Segmenter]:
        return lambda case: segmenter_of(name)

    cases = recorded(folder)
    ways = [(f"pyannote, {latency:g} s", overlapping(latency), False, cases) for latency in LATENCIES_S]
    ways += [("webrtc", frames("webrtc 2"), False, cases), ("silero", frames("silero"), False, cases)]
    ways.append(("given turns", _given_turns, False, cases))
    if clips is not None:
        judged, chosen = list(constructed(clips, JUDGED)), list(constructed(clips, CHOSEN))
        for latency in (LATENCY_S, 1.0):
            ways.append((f"pyannote, {latency:g} s", overlapping(latency), False, judged))
        two_and_four = [case for case in judged if case.people in (2, 4)]
        ways.append((f"pyannote, {LATENCY_S:g} s", overlapping(LATENCY_S), False, far(two_and_four)))
        ways.append((f"pyannote, {LATENCY_S:g} s, --people", overlapping(LATENCY_S), True, [*cases, *judged]))
        ways.append((f"pyannote, {LATENCY_S:g} s (thresholds chosen here)", overlapping(LATENCY_S), False, chosen))
    rows: Rows = []
    for way, make, known, those in ways:
        for group, members in groupby(those, key=lambda case: case.group):
            progress.tell(f"{way}: {group}")
            rows.append(_row(way, group, list(members), make, encoder, known))
    return rows


def _given_turns(case: Case) -> Segmenter:
    return TurnSegmenter([replace(turn, speaker="") for turn in case.turns], Endpointing())


def _row(
    way: str, group: str, cases: list[Case], make: Callable[[Case], Segmenter], encoder: SpeakerEncoder, known: bool
) -> dict[str, object]:
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate, DiarizationPurity, JaccardErrorRate

    errors, jaccard, purity = DiarizationErrorRate(), JaccardErrorRate(), DiarizationPurity()
    seconds = taken = 0.0
    off = []
    for case in cases:
        started = time.perf_counter()
        found = asyncio.run(diarize(case.samples, make(case), encoder, (case.people,) * 2 if known else None))
        taken += time.perf_counter() - started
        length = len(case.samples) / RATE
        seconds += length
        reference, hypothesis = Annotation(), Annotation()
        for annotation, turns in ((reference, case.turns), (hypothesis, found)):
            for n, turn in enumerate(turns):
                annotation[Segment(turn.start, turn.end), n] = turn.speaker
        for metric in (errors, jaccard, purity):
            metric(reference, hypothesis, uem=Timeline([Segment(0, length)]))
        off.append(abs(len({turn.speaker for turn in found}) - case.people))
    parts = errors.accumulated_
    return {
        "way": way,
        "conversations": group,
        "count": len(cases),
        "DER": round(100 * abs(errors), 1),
        "missed": round(100 * parts["missed detection"] / parts["total"], 1),
        "false_alarm": round(100 * parts["false alarm"] / parts["total"], 1),
        "confusion": round(100 * parts["confusion"] / parts["total"], 1),
        "JER": round(100 * abs(jaccard), 1),
        "purity": round(100 * abs(purity), 1),
        "speakers_within_1": round(100 * sum(each <= 1 for each in off) / len(off)),
        "times_real_time": round(seconds / taken),
    }


async def diarize(
    samples: Samples, segmenter: Segmenter, encoder: SpeakerEncoder, people: tuple[int, int] | None = None
) -> list[Turn]:
    """The turns that a session would find, with merges of speakers applied to what was before them.

    samples: [n] float32 at 16 kHz; people: fewest and most speakers.
    """

    async def parts(utterance: Utterance) -> list[SpeakerSegment]:
        return speaker_segments(encoder, utterance.samples, utterance.alone)

    diarization = Diarization({}, parts, people or (1, MOST_PEOPLE))
    utterances = [u for first in range(0, len(samples), RATE) for u in segmenter.push(samples[first : first + RATE])]
    turns: list[Turn] = []
    for utterance in (*utterances, *segmenter.flush()):
        spoken, merges = await diarization.tell_apart(replace(utterance, speaker=None))
        turns += [Turn(u.start if u.onset is None else u.onset, u.end, speaker) for u, speaker in spoken]
        for merged, into in merges:
            turns = [replace(turn, speaker=into) if turn.speaker == merged else turn for turn in turns]
    return turns


def bench_voices(folder: Path) -> Rows:
    """Equal error rate of each embedding between pieces of clips SPEAKER-*.flac, in percent, by the pieces' length."""
    clips = [(path.stem.split("-")[0], read_audio(path)[0]) for path in sorted(folder.glob("*-*.flac"))]
    encoders = {"WeSpeaker (shipped)": SpeakerEncoder()}
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
