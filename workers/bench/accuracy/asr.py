"""`undertone bench asr` and `undertone bench windows`: word error rates, CPU time, and false words."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from model.encoders.asr import SIZES, AsrError, AsrModel, Guarded, locate
from model.encoders.silero import SileroVad
from model.encoders.transcription import Samples, Transcription
from model.encoders.whisper import FULL_WINDOW_FRAMES, MIN_WINDOW_FRAMES, Whisper
from model.metrics import plain_words, word_error_rate
from model.progress import Progress
from stream.block import RATE
from stream.speech.vad import FrameVad, WebRtcVad
from workers.bench.accuracy.speech import spoken, utterances, wordless
from workers.console.tables import Rows

P = ParamSpec("P")
T = TypeVar("T")
VADS: dict[str, Callable[[], FrameVad]] = {"webrtc": WebRtcVad, "silero": SileroVad}
WINDOW_FRAMES = (FULL_WINDOW_FRAMES, 1500, 1250, 1000, 800, 600)  # mel frames of 10 ms
SHORT_UTTERANCE_S = 3.0  # length of the utterance whose cost is measured
RUNS = 15  # of that measurement


def one_thread(bench: Callable[P, T]) -> Callable[P, T]:
    """Decorator that limits NumPy to one thread: its idle threads spin, and would count as CPU time."""

    @functools.wraps(bench)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return bench(*args, **kwargs)

    return limited


def here() -> list[AsrModel]:
    """The local faster-whisper models, the smallest first."""
    found = []
    for size in SIZES:
        try:
            found.append(locate(size))
        except AsrError:
            continue
    return [model for model in found if model is not None]


def _chosen(models: Sequence[str]) -> list[AsrModel]:
    found = [locate(name) for name in models] if models else here()
    if None in found or not found:
        raise AsrError("no faster-whisper model here: undertone models pull base")
    return [model for model in found if model is not None]


@one_thread
def bench_asr(data: Path, models: Sequence[str], progress: Progress) -> Rows:
    """A row for each recognizer, VAD and set of transcribed recordings, and for each sound without words.

    WER over each set as a whole, in percent, through the live segmenter and the guard. Raises AsrError.
    """
    sets = list(spoken(data))
    cut = {
        (s.title, vad): [(utterances(a, make()), words) for a, words in s.recordings]
        for s in sets
        for vad, make in VADS.items()
    }
    silent = [(title, vad, utterances(sound, make())) for title, sound in wordless(data) for vad, make in VADS.items()]
    rows: Rows = []
    for model in _chosen(models):
        bare = Whisper(model.folder)
        guarded = Guarded(bare)
        for title, vad in cut:
            progress.tell(f"{model}: {title}, {vad}")
            pairs = cut[title, vad]
            started = time.process_time()
            recognized = [" ".join(_text(guarded, samples) for samples in segments) for segments, _ in pairs]
            spent = time.process_time() - started
            seconds = sum(len(u) for segments, _ in pairs for u in segments) / RATE
            rows.append(
                {
                    "asr": model.name, "recordings": title, "vad": vad,
                    "words": sum(len(plain_words(words).split()) for _, words in pairs),
                    "WER": _percent([words for _, words in pairs], recognized),
                    "CPU s/s": round(spent / max(seconds, 1e-9), 3),
                }
            )  # fmt: skip
        for title, vad, parts in silent:
            progress.tell(f"{model}: {title}, {vad}")
            rows.append(
                {
                    "asr": model.name, "recordings": f"{title}, five minutes", "vad": vad, "words": 0,
                    "utterances": len(parts),
                    "heard without guard": sum(len(_text(bare, part).split()) for part in parts),
                    "heard": sum(len(_text(guarded, part).split()) for part in parts),
                }
            )  # fmt: skip
    return rows


@one_thread
def bench_windows(data: Path, models: Sequence[str], progress: Progress) -> tuple[Rows, Rows]:
    """WER and CPU seconds by minimum window, and by faster-whisper's own methods; and the cost of a short utterance.

    One thread, utterances of the live segmenter (WebRTC), one at a time, language English. Raises AsrError.
    """
    sets = [
        (s.title, [(utterances(samples, WebRtcVad()), words) for samples, words in s.recordings])
        for s in spoken(data)
        if not s.worsened
    ]
    short = next(
        u for _, pairs in sets for segments, _ in pairs for u in segments if len(u) >= SHORT_UTTERANCE_S * RATE
    )
    short = short[: round(SHORT_UTTERANCE_S * RATE)]
    rows: Rows = []
    costs: Rows = []
    for model in _chosen(models):
        full: dict[str, float] = {}
        for name, recognize in _ways(model.folder):
            row: dict[str, Any] = {"asr": model.name, "window": name}
            progress.tell(f"{model}: {name}")
            for title, pairs in sets:
                started = time.process_time()
                recognized = [" ".join(_text(recognize, samples) for samples in segments) for segments, _ in pairs]
                spent, wer = time.process_time() - started, _percent([words for _, words in pairs], recognized)
                key = title.partition(",")[0]
                row |= {f"{key} WER": wer, f"{key} CPU s": round(spent, 1)}
            rows.append(row)
            times = []
            for _ in range(RUNS):
                started = time.process_time()
                recognize([short], "en")
                times.append(time.process_time() - started)
            seconds = float(np.median(times))
            full.setdefault(model.name, seconds)
            costs.append(
                {
                    "asr": model.name, "window": name, "CPU s": round(seconds, 3),
                    "times less": round(full[model.name] / seconds, 1),
                }
            )  # fmt: skip
    return rows, costs


def _ways(folder: str) -> Iterator[tuple[str, Any]]:
    """(name, recognizer): ours by minimum window, the full one first, then faster-whisper's own methods."""
    for smallest in WINDOW_FRAMES:
        mark = ", ours" if smallest == MIN_WINDOW_FRAMES else ""
        yield (
            f"{smallest} frames{mark}" if smallest < FULL_WINDOW_FRAMES else "3000 frames (30 s)",
            Whisper(folder, smallest=smallest),
        )
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(folder, "cpu", compute_type="int8", cpu_threads=1)
    batched = BatchedInferencePipeline(model)
    options: dict[str, Any] = {"language": "en", "beam_size": 1, "word_timestamps": True, "temperature": 0.0}
    yield "faster-whisper", _upstream(lambda samples: model.transcribe(samples, **options))
    yield "faster-whisper, chunk_length=10", _upstream(lambda s: model.transcribe(s, chunk_length=10, **options))
    yield (
        "faster-whisper, batched pipeline",
        _upstream(lambda s: batched.transcribe(s, clip_timestamps=[{"start": 0, "end": len(s) / RATE}], **options)),
    )


def _upstream(transcribe: Callable[[Samples], Any]) -> Callable[[Sequence[Samples], str], list[Transcription]]:
    def recognize(utterances_: Sequence[Samples], language: str) -> list[Transcription]:
        """Words of utterances [n] float32 at 16 kHz."""
        return [
            Transcription(" ".join(part.text.strip() for part in transcribe(segment)[0])) for segment in utterances_
        ]

    return recognize


def _text(recognize: Any, samples: Samples) -> str:
    return str(recognize([samples], "en")[0].text)


def _percent(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    return round(100 * word_error_rate(references, hypotheses), 1)
