"""Speech to words: faster-whisper when a model is found, else pocketsphinx."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
LEAST_SPEECH = 0.15  # seconds without which an utterance has no words
FASTEST = 7.0  # words a second
MOST_REPEATS = 5  # of the same words in a row, from which on it is the recognizer that stammers
SIZES = ("large-v3", "turbo", "medium", "small.en", "small", "base.en", "base", "tiny.en", "tiny")


class AsrError(Exception):
    """A recognizer that cannot be had; the message says what to do."""


Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """One word; times in seconds from the utterance's first sample."""

    text: str
    start: float
    end: float
    probability: float
    """The recognizer's own confidence, 0 … 1."""


@dataclass(frozen=True)
class Recognized:
    """The words of one utterance; none for silence, noise and music."""

    text: str = ""
    words: tuple[Word, ...] = ()


class Asr(Protocol):
    """Speech to words, several utterances (of whichever sessions) at once."""

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Recognized]:
        """utterances: [n] float32 each, 16 kHz; language: a code such as "en", None to detect it."""
        ...


class PocketSphinx:
    """CMU Sphinx with the US English model in its package. Fast and offline; expect every third word to be wrong."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        # One pass and a narrower search: half the time. Chosen on the development recordings, where as many words are
        # wrong as before (43 %); on 70 other clips of acted speech it was 42 % instead of 36.
        self._decoder = Decoder(samprate=16_000, loglevel="FATAL", fwdflat=False, maxhmmpf=5000, maxwpf=40)

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Recognized]:
        return [self._recognize(samples) for samples in utterances]

    def _recognize(self, samples: Samples) -> Recognized:
        decoder = self._decoder
        decoder.reinit_feat()  # else what it adapted to colours the next utterance, of whichever session
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        if not hypothesis:
            return Recognized()
        words = [
            Word(
                part.word.split("(")[0], part.start_frame / 100, (part.end_frame + 1) / 100, min(1.0, part.prob or 0.0)
            )
            for part in decoder.seg()
            if not part.word.startswith(("<", "["))
        ]
        return Recognized(hypothesis.hypstr, tuple(words))


class Whisper:
    """faster-whisper (CTranslate2), greedy, utterances batched: int8 on a CPU, float16 on a GPU."""

    BATCH = 8

    def __init__(self, model: str) -> None:
        import ctranslate2
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        gpu = ctranslate2.get_cuda_device_count() > 0
        self.compute_type = "float16" if gpu else "int8"
        whisper = WhisperModel(model, "cuda" if gpu else "cpu", compute_type=self.compute_type, cpu_threads=2)
        self._pipeline = BatchedInferencePipeline(whisper)

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Recognized]:
        # The pipeline batches stretches of one recording: so the utterances become one, each a stretch of it.
        ends = np.cumsum([len(samples) for samples in utterances]) / RATE
        starts = [0.0, *ends[:-1].tolist()]
        segments, _ = self._pipeline.transcribe(
            np.concatenate(utterances),
            language=language or "en",
            multilingual=language is None,  # detected utterance by utterance
            beam_size=1,
            vad_filter=False,
            clip_timestamps=[{"start": a, "end": float(b)} for a, b in zip(starts, ends, strict=True)],
            batch_size=self.BATCH,
            word_timestamps=True,
        )
        words: list[list[Word]] = [[] for _ in utterances]
        for segment in segments:
            unheard = segment.no_speech_prob > 0.6 and segment.avg_logprob < -1.0
            if unheard or segment.compression_ratio > 2.4:  # the thresholds of Whisper's own decoding (Radford et al.)
                continue
            n = int(np.searchsorted(starts, segment.seek / 100 + 0.02, "right")) - 1
            for word in segment.words or ():
                times = (max(0.0, float(word.start) - starts[n]), max(0.0, float(word.end) - starts[n]))
                words[n].append(Word(word.word.strip(), *times, float(word.probability)))
        return [Recognized(" ".join(word.text for word in each), tuple(each)) for each in words]


class Guarded:
    """A recognizer that is asked only where there is speech, and not believed when it stammers."""

    def __init__(self, asr: Asr) -> None:
        from faster_whisper.vad import get_vad_model

        self._asr, self._vad = asr, get_vad_model()

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Recognized]:
        heard = [self.seconds_of_speech(samples) for samples in utterances]
        spoken = [n for n, seconds in enumerate(heard) if seconds >= LEAST_SPEECH]
        recognized = [Recognized()] * len(utterances)
        if spoken:
            for n, result in zip(spoken, self._asr([utterances[n] for n in spoken], language), strict=True):
                recognized[n] = result if believable(result.text, heard[n]) else Recognized()
        return recognized

    def warm_up(self) -> None:
        """The first call is slow; it shall not be a speaker's."""
        self._asr([np.zeros(RATE // 2, np.float32)], "en")

    def seconds_of_speech(self, samples: Samples) -> float:
        """As Silero's VAD hears it: it knows music and noise, which an energy or WebRTC's VAD let through."""
        frame = 512
        padded = np.pad(samples, (0, -len(samples) % frame or (0 if len(samples) else frame)))
        probabilities = np.ravel(self._vad(padded.astype(np.float32)))
        return float((probabilities >= 0.5).sum()) * frame / RATE


def believable(text: str, seconds: float) -> bool:
    """Whether words can have been said in so many seconds of speech, and do not go round in a circle."""
    words = text.lower().split()
    if len(words) > 4 + FASTEST * seconds:
        return False
    for size in range(1, 7):
        run = 1
        for at in range(size, len(words) - size + 1, size):
            run = run + 1 if words[at : at + size] == words[at - size : at] else 1
            if run >= MOST_REPEATS:
                return False
    return True


def find_whisper(model: str | None) -> str | None:
    """Folder of a faster-whisper model: a local folder, a size or Hugging Face id, or (None) the best at hand.

    Looks in $UNDERTONE_MODELS/faster-whisper-SIZE and in Hugging Face's cache, and asks the hub only for a model that
    was named. Raises AsrError when a named model cannot be had.
    """
    from faster_whisper.utils import download_model

    if model is not None and (Path(model) / "model.bin").exists():
        return model
    models = os.environ.get("UNDERTONE_MODELS")
    for size in [model] if model else SIZES:
        folder = Path(models) / f"faster-whisper-{size}" if models else None
        if folder is not None and (folder / "model.bin").exists():
            return str(folder)
        try:
            return str(download_model(size, local_files_only=True))
        except Exception:  # not in the cache: the hub's client has a dozen ways to say so
            continue
    if model is None:
        return None
    if Path(model).is_dir():
        raise AsrError(f"{model}: holds no faster-whisper model (no model.bin)")
    try:
        return str(download_model(model))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AsrError(
            f"no faster-whisper model {model!r}: not a folder, not cached, not downloaded ({reason})"
        ) from None


def choose(asr: str, model: str | None) -> tuple[str | None, str | None]:
    """(recognizer, model folder) for `asr` in auto, whisper, pocketsphinx, none. Raises AsrError."""
    if asr == "none":
        return None, None
    if asr == "pocketsphinx":
        return asr, None
    folder = find_whisper(model)
    if folder is not None:
        return "whisper", folder
    if asr == "whisper":
        raise AsrError("no faster-whisper model found: name one with --asr-model (size, Hugging Face id or folder)")
    return "pocketsphinx", None


def transcribe_together(asr: Asr, utterances: list[tuple[Samples, str | None]]) -> list[Recognized]:
    """Utterances with their languages; those in the same language go through the recognizer as one batch."""
    results = [Recognized()] * len(utterances)
    for language in {language for _, language in utterances}:
        places = [n for n, (_, other) in enumerate(utterances) if other == language]
        for n, result in zip(places, asr([utterances[n][0] for n in places], language), strict=True):
            results[n] = result
    return results


def load(asr: str, folder: str | None) -> Guarded:
    """The recognizer that `choose` named."""
    return Guarded(Whisper(folder) if asr == "whisper" and folder is not None else PocketSphinx())
