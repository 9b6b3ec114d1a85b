"""Whisper (Radford et al. 2023, arXiv 2212.04356) on mel windows as long as the utterance, run by CTranslate2.

Whisper was trained on windows of 30 s, and faster-whisper pads every call to that. CTranslate2's encoder takes shorter
ones: the words stay the same, and the encoder's time goes with the length. On a window that is too short the decoder at
times misses the end and repeats itself; such an utterance is heard a second time, on the full window.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.encoders.transcription import RATE, Samples, Transcription, Word, believable

Mel = NDArray[np.float32]

HOP = RATE // 100  # samples of a mel frame
FULL = 3000  # mel frames: the window that Whisper was trained on
SMALLEST = 1000  # frames; measured in `undertone bench windows`
SHORTEST = 4  # frames; words cannot be timed in fewer
STEP = 250  # frames by which windows differ, so that utterances of like length share a batch
BATCH = 8  # utterances
LONGEST = FULL * HOP  # samples heard at once; a longer utterance is heard in pieces
TOKENS = 15  # a second of speech, at most, before the full window is tried; English speech has 3 to 6
REPETITIVE, DOUBTFUL = 2.4, -1.0  # compression ratio, mean log-probability: the thresholds of Whisper's own decoding
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # punctuation that belongs to the word after or before it
LIKELY = 1e-3  # probability of a language below which it is not told
ENGLISH_VOCABULARY = 51_864  # tokens of the models that know English alone; the others have one more, or two


@dataclass(frozen=True)
class _Hypothesis:
    """The decoder's result for one utterance."""

    recognized: Transcription
    log_probability: float
    """Mean over the tokens."""
    compression: float
    cut: bool
    """The decoder was stopped before it found an end."""

    def repeats_itself(self, seconds: float) -> bool:
        """True for a decoder gone astray: no transcription of so many seconds of speech."""
        return self.cut or self.compression > REPETITIVE or not believable(self.recognized.text, seconds)

    def accepted(self) -> Transcription:
        """The words; none where the decoder doubts them (noise, many who talk at once) or repeats itself."""
        if self.log_probability < DOUBTFUL or self.compression > REPETITIVE:
            return replace(self.recognized, text="", words=())
        return self.recognized


class Whisper:
    """Greedy decoding of utterances in batches of like length: int8 on a CPU, float16 on a GPU. Thread-safe."""

    def __init__(self, folder: str, threads: int = 1, smallest: int = SMALLEST) -> None:
        """folder: of a faster-whisper model; threads: on a CPU, where a second one gains nothing on a short window;
        smallest: window in mel frames.

        Raises RuntimeError when the folder holds no model that CTranslate2 reads.
        """
        import ctranslate2
        from faster_whisper import WhisperModel

        gpu = ctranslate2.get_cuda_device_count() > 0
        self.compute_type = "float16" if gpu else "int8"
        device = "cuda" if gpu else "cpu"
        self._model = WhisperModel(folder, device, compute_type=self.compute_type, cpu_threads=threads)
        self._smallest = smallest
        self._codes = set(self._model.supported_languages)

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Transcription]:
        """Words of utterances [n] float32 at 16 kHz; language: a code such as "en", None to detect it for each.

        Raises ValueError for a language that the model does not know.
        """
        if language is not None and language not in self._codes:
            known = ", ".join(sorted(self._codes))
            raise ValueError(f"this Whisper model does not know the language {language!r}; it knows {known}")
        if not self._model.model.is_multilingual:
            language = "en"
        pieces = [
            (n, samples[first : first + LONGEST])
            for n, samples in enumerate(utterances)
            for first in range(0, max(1, len(samples)), LONGEST)
        ]
        results: list[list[Transcription]] = [[] for _ in utterances]
        for (n, _), result in zip(pieces, self._transcribe([samples for _, samples in pieces], language), strict=True):
            results[n].append(result)
        return [_joined(parts) for parts in results]

    def _transcribe(self, utterances: list[Samples], language: str | None) -> list[Transcription]:
        windows = [window_of(len(samples), self._smallest) for samples in utterances]
        found = self._decode(utterances, windows, language)
        astray = [
            n
            for n, samples in enumerate(utterances)
            if windows[n] < FULL and found[n].repeats_itself(len(samples) / RATE)
        ]
        again = self._decode([utterances[n] for n in astray], [FULL] * len(astray), language)
        for n, hypothesis in zip(astray, again, strict=True):
            found[n] = hypothesis
        return [hypothesis.accepted() for hypothesis in found]

    def _decode(self, utterances: list[Samples], windows: list[int], language: str | None) -> list[_Hypothesis]:
        """A hypothesis for each utterance on its window; those on windows alike share batches."""
        found: dict[int, _Hypothesis] = {}
        for window, places in _batches(windows, BATCH if language else 1):
            mel = np.stack([self._mel(utterances[n], window) for n in places])
            frames = [max(SHORTEST, len(utterances[n]) // HOP) for n in places]
            found |= zip(places, self._decode_batch(mel, frames, language), strict=True)
        return [found[n] for n in range(len(utterances))]

    def _mel(self, samples: Samples, window: int) -> Mel:
        """[bands, window]. The sound is padded, not its spectrogram: silence lies at the spectrogram's floor."""
        silence = max(0, window * HOP - len(samples))
        mel: Mel = self._model.feature_extractor(np.pad(samples, (0, silence)), padding=0)[:, :window]
        return mel

    def _decode_batch(self, mel: Mel, frames: list[int], language: str | None) -> list[_Hypothesis]:
        """mel: [B, bands, window]; frames: of each, without padding. Where the language is to be detected, B is 1."""
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_compression_ratio

        whisper = self._model.model
        encoded = self._model.encode(mel)
        language_scores: list[dict[str, float] | None] = [None] * len(mel)
        if whisper.is_multilingual:
            language_scores = [
                {token.strip("<|>"): float(p) for token, p in row if p >= LIKELY}
                for row in whisper.detect_language(encoded)
            ]
        spoken = language or (
            max(language_scores[0], key=language_scores[0].__getitem__) if language_scores[0] else "en"
        )
        tokenizer = Tokenizer(self._model.hf_tokenizer, whisper.is_multilingual, "transcribe", spoken)
        prompt = self._model.get_prompt(tokenizer, [], without_timestamps=True)
        room = self._model.max_length - len(prompt)
        if mel.shape[2] < FULL:
            room = min(room, 16 + TOKENS * max(frames) // 100)
        results = whisper.generate(
            encoded,
            [prompt] * len(mel),
            beam_size=1,
            max_length=len(prompt) + room,
            return_scores=True,
        )
        tokens = [[token for token in result.sequences_ids[0] if token < tokenizer.eot] for result in results]
        timed = self._model.find_alignment(tokenizer, tokens, encoded, frames)
        hypotheses = []
        for result, token_ids, alignment, languages in zip(results, tokens, timed, language_scores, strict=True):
            text, count = tokenizer.decode(token_ids).strip(), len(result.sequences_ids[0])
            recognized = Transcription(text, _words(alignment), spoken, languages)
            log_probability = float(result.scores[0]) * count / (count + 1)
            compression = get_compression_ratio(text) if text else 0.0
            hypotheses.append(_Hypothesis(recognized, log_probability, compression, count >= room))
        return hypotheses


def _words(alignment: list[dict[str, Any]]) -> tuple[Word, ...]:
    """Words with their punctuation, out of faster-whisper's alignment by cross-attention."""
    from faster_whisper.transcribe import merge_punctuations

    merge_punctuations(alignment, PREPENDED, APPENDED)
    return tuple(
        Word(part["word"].strip(), float(part["start"]), float(part["end"]), float(part["probability"]))
        for part in alignment
        if part["word"].strip()
    )


def _batches(windows: Sequence[int], batch_size: int) -> Iterator[tuple[int, list[int]]]:
    """(window, places of at most so many utterances on it)."""
    places = defaultdict(list)
    for n, window in enumerate(windows):
        places[window].append(n)
    for window, members in places.items():
        for first in range(0, len(members), batch_size):
            yield window, members[first : first + batch_size]


def _joined(parts: list[Transcription]) -> Transcription:
    """One transcription out of those of an utterance's pieces, each `LONGEST` samples but the last."""
    if len(parts) == 1:
        return parts[0]
    words = tuple(
        replace(word, start=word.start + n * LONGEST / RATE, end=word.end + n * LONGEST / RATE)
        for n, part in enumerate(parts)
        for word in part.words
    )
    return replace(parts[0], text=" ".join(part.text for part in parts if part.text), words=words)


def window_of(samples: int, smallest: int) -> int:
    """The window, in mel frames, of an utterance of so many samples."""
    return min(FULL, max(smallest, -(-samples // (STEP * HOP)) * STEP))


def is_multilingual(folder: str | Path) -> bool:
    """True for the folder of a Whisper for many languages, by the size of its vocabulary. Raises OSError."""
    lines = Path(folder) / "vocabulary.txt"
    size = len(lines.read_bytes().splitlines()) if lines.exists() else 0
    return (size or len(json.loads((Path(folder) / "vocabulary.json").read_bytes()))) > ENGLISH_VOCABULARY
