"""`undertone bench speakers`: live diarization against the truth, and verification error of speaker embeddings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.encoders.prosody import Array
from model.encoders.speaker import SpeakerEncoder
from model.encoders.speaker_activity import SpeakerActivityNet
from model.progress import Progress
from stream.block import RATE, Block, Samples, Utterance
from stream.sources.file import read_audio
from stream.speech.endpointing import Endpointing
from stream.speech.overlap_segmenter import LATENCY_S, OverlapSegmenter
from stream.speech.segmenter import Segmenter, TurnSegmenter
from stream.speech.speakers import SpeakerClusters
from stream.speech.turns import MOST_PEOPLE, Turn
from workers.bench.accuracy.conditions import far, more_people, whispered, worsened
from workers.bench.accuracy.constructed import Conversation, converse, voices_of
from workers.bench.accuracy.data import comparison_net, with_turns
from workers.bench.accuracy.speech import wordless
from workers.bench.accuracy.vad import segmenter_of
from workers.console.tables import Rows
from workers.session.diarization import Diarization, SpeakerSegment, speaker_segments
from workers.session.whole_recording import find_turns

if TYPE_CHECKING:
    from pyannote.metrics.base import BaseMetric

LATENCIES_S = 0.5, 1.0, 2.0, 5.0
PEOPLE, OVERLAPS = (1, 2, 3, 4, 6), (0.0, 0.1, 0.2)
SECONDS = 60.0  # of a constructed conversation
FRAME_VADS = "webrtc 2", "silero"
WHOLE = "first pass (--speed max)"
CHOSEN, JUDGED = (0, 2), (1, 3)  # seeds of the conversations by which thresholds were chosen, and of the others


Diarize = Callable[["Case", tuple[int, int]], list[Turn]]
"""The turns that are found in a conversation of fewest … most people."""


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


def bench_speakers(folder: Path, clips: Path | None, progress: Progress) -> Rows:
    """A row for each way and group of conversations: diarization error rate (DER) and its parts, Jaccard error rate
    (JER), purity of the speakers found, all in percent, without a collar, overlap scored; and the share of
    conversations with at most one speaker too many or too few.

    folder: recordings with RTTM; clips: speech of single speakers, from which conversations are put together; None =
    none. "given turns" takes the segmentation from the truth, which isolates the clustering. Raises AnnotationError,
    MediaError.
    """
    network, encoder = SpeakerActivityNet(), SpeakerEncoder()

    def causal(make: Callable[[Case], Segmenter]) -> Diarize:
        def find(case: Case, people: tuple[int, int]) -> list[Turn]:
            return asyncio.run(diarize(case.samples, make(case), encoder, people))

        return find

    def live(latency: float) -> Diarize:
        return causal(lambda case: OverlapSegmenter(network, latency=latency))

    cases = recorded(folder)
    used = f"pyannote, {LATENCY_S:g} s"
    ways = [(f"pyannote, {latency:g} s", live(latency), False, cases) for latency in LATENCIES_S]
    ways.append((WHOLE, _in_a_first_pass, False, cases))
    ways += [(name, causal(partial(_with_vad, name)), False, cases) for name in FRAME_VADS]
    ways.append(("given turns", causal(_given_turns), False, cases))
    if clips is not None:
        judged, chosen = list(constructed(clips, JUDGED)), list(constructed(clips, CHOSEN))
        distant = [
            Case(f"{case.group}, far", far(Conversation(case.samples, case.turns)).samples, case.turns)
            for case in judged
            if case.people in (2, 4)
        ]
        ways += [(f"pyannote, {latency:g} s", live(latency), False, judged) for latency in LATENCIES_S]
        ways.append((WHOLE, _in_a_first_pass, False, judged))
        ways.append((used, live(LATENCY_S), False, distant))
        ways.append((f"{used}, --people", live(LATENCY_S), True, [*cases, *judged]))
        ways.append((f"{used} (thresholds chosen here)", live(LATENCY_S), False, chosen))
    rows: Rows = []
    for way, find, known, those in ways:
        for group, members in groupby(those, key=lambda case: case.group):
            progress.tell(f"{way}: {group}")
            rows.append(_row(way, group, list(members), find, known))
    return rows


def bench_conditions(data: Path, progress: Progress) -> Rows:
    """A row for each condition: diarization as a session does it, of conversations of four that are made harder, of
    ten people, and of two who whisper; and how many utterances are heard where nobody speaks.

    data: folder with `librispeech`. Raises MediaError.
    """
    network, encoder, voices = SpeakerActivityNet(), SpeakerEncoder(), voices_of(data / "librispeech")

    def find(case: Case, people: tuple[int, int]) -> list[Turn]:
        return asyncio.run(diarize(case.samples, OverlapSegmenter(network), encoder, people))

    cases: dict[str, list[Case]] = {}
    for seed in JUDGED:
        for name, made in worsened(converse(voices, 4, 0.1, SECONDS, 4100 + seed)):
            cases.setdefault(f"four people, {name}", []).append(Case("", made.samples, made.turns))
        made = converse(more_people(voices), 10, 0.1, 2 * SECONDS, 9100 + seed)
        cases.setdefault("ten people (six readers, and four of them at another pitch)", []).append(
            Case("", made.samples, made.turns)
        )
        if (whispers := whispered(SECONDS, seed)) is not None:
            cases.setdefault("two who whisper (espeak-ng)", []).append(Case("", whispers.samples, whispers.turns))
    if not any("whisper" in name for name in cases):
        progress.tell("whispers left out: espeak-ng is not installed (apt-get install espeak-ng)")
    rows: Rows = []
    for name, those in cases.items():
        progress.tell(name)
        row = _row("", name, those, find, known=False)
        wanted = ("conversations", "DER", "missed", "false_alarm", "confusion", "JER", "speakers")
        rows.append({key: row[key] for key in wanted} | {"people": those[0].people})
    return rows


def bench_nobody(data: Path, progress: Progress) -> Rows:
    """A row for each sound without words, and for an hour of silence: utterances that are heard in it, and their
    seconds. data: folder with `librispeech`."""
    network, rows = SpeakerActivityNet(), []
    silence = np.random.default_rng(0).normal(0, 1e-4, 3600 * RATE).astype(np.float32)
    for name, sound in (("silence for an hour", silence), *wordless(data)):
        progress.tell(name)
        segmenter = OverlapSegmenter(network)
        found = [u for first in range(0, len(sound), RATE) for u in segmenter.push(sound[first : first + RATE])]
        found += segmenter.flush()
        seconds = sum(utterance.spoken for utterance in found)
        rows.append({"sound": name, "minutes": len(sound) // RATE // 60, "utterances": len(found), "s": round(seconds)})
    return rows


def _given_turns(case: Case) -> Segmenter:
    return TurnSegmenter([replace(turn, speaker="") for turn in case.turns], Endpointing())


def _with_vad(name: str, case: Case) -> Segmenter:
    return segmenter_of(name)


def _in_a_first_pass(case: Case, people: tuple[int, int]) -> list[Turn]:
    turns = find_turns([Block(0, 0.0, case.samples[None])], people=people)
    return [replace(turn, start=turn.start if turn.onset is None else turn.onset) for turn in turns]


def _row(way: str, group: str, cases: list[Case], find: Diarize, known: bool) -> dict[str, object]:
    from pyannote.metrics.diarization import DiarizationErrorRate, DiarizationPurity, JaccardErrorRate

    errors, jaccard, purity = DiarizationErrorRate(), JaccardErrorRate(), DiarizationPurity()
    seconds = taken = 0.0
    off: list[int] = []
    counts: list[int] = []
    for case in cases:
        started = time.perf_counter()
        found = find(case, (case.people, case.people) if known else (1, MOST_PEOPLE))
        taken += time.perf_counter() - started
        seconds += len(case.samples) / RATE
        for metric in (errors, jaccard, purity):
            score(metric, case, found)
        counts.append(len({turn.speaker for turn in found}))
        off.append(abs(counts[-1] - case.people))
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
        "speakers": round(float(np.mean(counts)), 1),
        "speakers_within_1": round(100 * sum(each <= 1 for each in off) / len(off)),
        "times_real_time": round(seconds / taken),
    }


def score(metric: BaseMetric, case: Case, found: Sequence[Turn]) -> None:
    """Add a conversation, in which these turns were found, to a metric of pyannote.metrics."""
    from pyannote.core import Annotation, Segment, Timeline

    reference, hypothesis = Annotation(), Annotation()
    for annotation, turns in ((reference, case.turns), (hypothesis, found)):
        for n, turn in enumerate(turns):
            annotation[Segment(turn.start, turn.end), n] = turn.speaker
    metric(reference, hypothesis, uem=Timeline([Segment(0, len(case.samples) / RATE)]))


async def diarize(
    samples: Samples, segmenter: Segmenter, encoder: SpeakerEncoder, people: tuple[int, int]
) -> list[Turn]:
    """The turns that a session would find. samples: [n] float32 at 16 kHz; people: fewest and most speakers."""

    async def parts(utterance: Utterance) -> list[SpeakerSegment]:
        return speaker_segments(encoder, utterance.samples, utterance.alone)

    return await named(heard(samples, segmenter), Diarization(SpeakerClusters(people=people), parts))


def heard(samples: Samples, segmenter: Segmenter) -> list[Utterance]:
    """All utterances of a recording [n] float32 at 16 kHz, second by second."""
    found = [u for first in range(0, len(samples), RATE) for u in segmenter.push(samples[first : first + RATE])]
    return [*found, *segmenter.flush()]


async def named(utterances: Sequence[Utterance], diarization: Diarization) -> list[Turn]:
    """The turns of utterances, with merges of speakers applied to what was before them."""
    turns: list[Turn] = []
    for utterance in utterances:
        spoken, merges = await diarization.tell_apart(replace(utterance, speaker=None))
        turns = merged([*turns, *turns_of(spoken)], merges)
    return turns


def turns_of(spoken: Sequence[tuple[Utterance, str]]) -> list[Turn]:
    """Utterances and their speakers as turns, from onset to end."""
    return [Turn(u.start if u.onset is None else u.onset, u.end, speaker) for u, speaker in spoken]


def merged(turns: Sequence[Turn], merges: Sequence[tuple[str, str]]) -> list[Turn]:
    """The turns after merges of speakers: (speaker, into), in order."""
    for speaker, into in merges:
        turns = [replace(turn, speaker=into) if turn.speaker == speaker else turn for turn in turns]
    return list(turns)


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
