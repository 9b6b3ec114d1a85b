"""`undertone bench asr`: word error rates, and words heard where nobody speaks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.asr import Asr, PocketSphinx, Samples, Whisper, find_whisper, load
from model.manifest import folders
from stream import RATE
from stream.media import read_audio
from stream.segmenter import Endpointing, VadSegmenter
from stream.transcript import read_transcript
from stream.vad import WebRtcVad
from workers.tables import Rows
from workers.word_errors import plain_words, word_error_rate

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
JFK = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


def bench_asr(data: Path, models: list[str]) -> Rows:
    """A row for each recognizer and set of recordings whose words are known, and one for what has no words."""
    spoken = list(_spoken(data))
    rows: Rows = []
    for name, guarded, bare in _recognizers(models):
        row: dict[str, object]
        for title, utterances, words, digits in spoken:
            if "digits" in name and not digits:
                continue  # a model that knows ten words
            started = time.perf_counter()
            heard = " ".join(result.text for result in guarded(utterances, "en"))
            taken = time.perf_counter() - started
            seconds = sum(map(len, utterances)) / RATE
            row = {"asr": name, "recordings": title, "words": len(plain_words(words).split())}
            row |= {"WER": round(100 * word_error_rate(words, heard), 1), "times_real_time": round(seconds / taken, 1)}
            rows.append(row)
        for title, samples in _wordless():
            row = {"asr": name, "recordings": title, "words": 0}
            for key, asr in (("heard_without_guard", bare), ("heard", guarded)):
                row[key] = sum(len(result.text.split()) for result in asr([samples], "en"))
            rows.append(row)
    return rows


def _recognizers(models: list[str]) -> Iterator[tuple[str, Asr, Asr]]:
    found = models or list(map(str, known_whispers()))
    yield "pocketsphinx", load("pocketsphinx", None), PocketSphinx()
    for model in found:
        folder = find_whisper(model)
        assert folder is not None
        yield f"faster-whisper {Path(model).name}", load("whisper", folder), Whisper(folder)


def known_whispers() -> list[Path]:
    """The folders of faster-whisper models that are here."""
    return [path.parent for folder in folders() for path in sorted(folder.glob("*whisper*/model.bin"))]


def _spoken(data: Path) -> Iterator[tuple[str, list[Samples], str, bool]]:
    """(title, utterances, words, whether they are digits)."""
    digits = sorted((data / "digits").glob("?_*_?.wav"))
    if digits:
        rng, pause = np.random.default_rng(0), np.zeros(RATE // 5, np.float32)
        order = rng.permutation(len(digits))
        utterances, words = [], []
        for five in np.array_split(order, len(order) // 5):
            clips = [read_audio(digits[n])[0] for n in five]
            parts = [part for clip in clips for part in (pause, 0.5 * clip / max(float(np.abs(clip).max()), 1e-6))]
            utterances.append(np.concatenate([*parts, pause]))
            words += [DIGITS[int(digits[n].name[0])] for n in five]
        yield "spoken digits, 5 a breath", utterances, " ".join(words), True
    speech = data / "librispeech" / "jfk.flac"
    if speech.exists():
        yield "a speech (JFK)", _utterances(speech), JFK, False
    call = data / "conversations" / "telephone" / "sample.wav"
    if call.exists():
        cues = read_transcript(call.with_suffix(".stm"), "sample").cues
        yield "a telephone call", _utterances(call), " ".join(cue.text for cue in cues), False


def _utterances(path: Path) -> list[Samples]:
    segmenter = VadSegmenter(WebRtcVad(), Endpointing())
    return [u.samples for u in (*segmenter.push(read_audio(path)[0]), *segmenter.flush())]


def _wordless() -> Iterator[tuple[str, Samples]]:
    """What must give no words."""
    rng = np.random.default_rng(0)
    length = 15 * RATE
    yield "silence, 15 s", rng.normal(0, 1e-4, length).astype(np.float32)
    yield "white noise, 15 s", rng.normal(0, 0.1, length).astype(np.float32)
    time_ = np.arange(length) / RATE
    chords = [220 * 2 ** (step / 12) for step in (0, 4, 7, 5, 9, 12, 7, 11, 14)]
    music = sum(
        np.sin(2 * np.pi * chords[3 * c + k] * h * time_) / h * (np.floor(time_ / 0.5) % 3 == c)
        for c in range(3) for k in range(3) for h in range(1, 5)
    )  # fmt: skip
    beat = np.exp(-8 * (time_ % 0.5))
    yield "music, 15 s", (0.08 * music * (0.3 + beat)).astype(np.float32)
