"""Whisper (Radford et al. 2023, arXiv 2212.04356) on mel windows as long as the utterance, run by CTranslate2.

Whisper was trained on windows of 30 s, and faster-whisper pads every call to that. CTranslate2's encoder accepts
shorter ones: the words stay the same, and the encoder's time is proportional to the length. On a window that is too
short the decoder sometimes misses the end and repeats itself; such an utterance is decoded again, on the full window.
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

from model.device import Device
from model.encoders.transcription import RATE, Samples, Transcription, Word, believable

Mel = NDArray[np.float32]

HOP_SAMPLES = RATE // 100  # of a mel frame
FULL_WINDOW_FRAMES = 3000  # the window that Whisper was trained on
MIN_WINDOW_FRAMES = 1000  # measured by `undertone bench windows`
MIN_ALIGNED_FRAMES = 4  # the alignment that times words needs as many
WINDOW_STEP_FRAMES = 250  # windows are multiples, so that utterances of similar length share a batch
MAX_BATCH = 8  # utterances
MAX_PIECE_SAMPLES = FULL_WINDOW_FRAMES * HOP_SAMPLES  # a longer utterance is decoded in pieces
MAX_TOKENS_PER_S = 15  # with more, the full window is tried; English speech has 3 to 6
MAX_COMPRESSION_RATIO, MIN_LOG_PROBABILITY = 2.4, -1.0  # the thresholds of Whisper's own decoding
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # punctuation that belongs to the word after or before it
MIN_LANGUAGE_PROBABILITY = 1e-3  # less likely languages are not reported
ENGLISH_VOCABULARY_TOKENS = 51_864  # of the models that know only English; the others have one or two more


@dataclass(frozen=True)
class _Hypothesis:
    """The decoder's result for one utterance."""

    recognized: Transcription
    log_probability: float
    """Mean over the tokens, natural logarithm."""
    compression: float
    cut: bool
    """The decoder reached its limit of tokens before the end of the text."""

    def repeats_itself(self, seconds: float) -> bool:
        """True when the result cannot be the words of so many seconds of speech: the decoder has failed."""
        return self.cut or self.compression > MAX_COMPRESSION_RATIO or not believable(self.recognized.text, seconds)

    def accepted(self) -> Transcription:
        """The words; none where the decoder is uncertain (noise, several speakers at once) or repeats itself."""
        if self.log_probability < MIN_LOG_PROBABILITY or self.compression > MAX_COMPRESSION_RATIO:
            return replace(self.recognized, text="", words=())
        return self.recognized


class Whisper:
    """Greedy decoding of utterances in batches of like length: int8 on a CPU, float16 on a GPU. Thread-safe."""

    def __init__(
        self,
        folder: str,
        threads: int = 1,
        smallest: int = MIN_WINDOW_FRAMES,
        device: Device = "cpu",
        states: bool = False,
    ) -> None:
        """folder: of a faster-whisper model; threads: on a CPU, where a second one gains nothing on a short window;
        smallest: the shortest window, in mel frames; states: results have the encoder's states, on a CPU.

        Raises RuntimeError or ValueError when the folder has no model that CTranslate2 reads, or the device cannot be
        used.
        """
        from faster_whisper import WhisperModel

        compute_type = "int8" if device == "cpu" else "float16"
        self._model = WhisperModel(folder, device, compute_type=compute_type, cpu_threads=threads)
        self._smallest = smallest
        self._states = states and device == "cpu"
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
            (n, samples[first : first + MAX_PIECE_SAMPLES])
            for n, samples in enumerate(utterances)
            for first in range(0, max(1, len(samples)), MAX_PIECE_SAMPLES)
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
            if windows[n] < FULL_WINDOW_FRAMES and found[n].repeats_itself(len(samples) / RATE)
        ]
        again = self._decode([utterances[n] for n in astray], [FULL_WINDOW_FRAMES] * len(astray), language)
        for n, hypothesis in zip(astray, again, strict=True):
            found[n] = hypothesis
        return [hypothesis.accepted() for hypothesis in found]

    def _decode(self, utterances: list[Samples], windows: list[int], language: str | None) -> list[_Hypothesis]:
        """A hypothesis for each utterance on its window; utterances with equal windows share batches."""
        found: dict[int, _Hypothesis] = {}
        for window, places in _batches(windows, MAX_BATCH if language else 1):
            mel = np.stack([self._mel(utterances[n], window) for n in places])
            frames = [max(MIN_ALIGNED_FRAMES, len(utterances[n]) // HOP_SAMPLES) for n in places]
            found |= zip(places, self._decode_batch(mel, frames, language), strict=True)
        return [found[n] for n in range(len(utterances))]

    def _mel(self, samples: Samples, window: int) -> Mel:
        """[bands, window] float32. The samples are padded, not the spectrogram: silence is the floor of its range."""
        silence = max(0, window * HOP_SAMPLES - len(samples))
        mel: Mel = self._model.feature_extractor(np.pad(samples, (0, silence)), padding=0)[:, :window]
        return mel

    def states(self, samples: Samples) -> Mel:
        """[1024] float32 of the encoder, as results have them. samples: [n] float32 at 16 kHz, 30 s at most."""
        mel = self._mel(samples, window_of(len(samples), self._smallest))[None]
        frames = max(MIN_ALIGNED_FRAMES, len(samples) // HOP_SAMPLES)
        return _pooled_states(self._model.encode(mel), [frames])[0]

    def _decode_batch(self, mel: Mel, frames: list[int], language: str | None) -> list[_Hypothesis]:
        """Decode mel [B, bands, window] float32; frames: of each, without padding. B is 1 if the language is
        detected."""
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_compression_ratio

        whisper = self._model.model
        encoded = self._model.encode(mel)
        language_scores: list[dict[str, float] | None] = [None] * len(mel)
        if whisper.is_multilingual:
            language_scores = [
                {token.strip("<|>"): float(p) for token, p in row if p >= MIN_LANGUAGE_PROBABILITY}
                for row in whisper.detect_language(encoded)
            ]
        spoken = language or (
            max(language_scores[0], key=language_scores[0].__getitem__) if language_scores[0] else "en"
        )
        tokenizer = Tokenizer(self._model.hf_tokenizer, whisper.is_multilingual, "transcribe", spoken)
        prompt = self._model.get_prompt(tokenizer, [], without_timestamps=True)
        room = self._model.max_length - len(prompt)
        if mel.shape[2] < FULL_WINDOW_FRAMES:
            room = min(room, 16 + MAX_TOKENS_PER_S * max(frames) // 100)
        results = whisper.generate(
            encoded,
            [prompt] * len(mel),
            beam_size=1,
            max_length=len(prompt) + room,
            return_scores=True,
        )
        states = _pooled_states(encoded, frames) if self._states else [None] * len(frames)
        tokens = [[token for token in result.sequences_ids[0] if token < tokenizer.eot] for result in results]
        timed = self._model.find_alignment(tokenizer, tokens, encoded, frames)
        hypotheses = []
        for result, token_ids, alignment, languages, state in zip(
            results, tokens, timed, language_scores, states, strict=True
        ):
            text, count = tokenizer.decode(token_ids).strip(), len(result.sequences_ids[0])
            recognized = Transcription(text, _words(alignment), spoken, languages, state)
            log_probability = float(result.scores[0]) * count / (count + 1)
            compression = get_compression_ratio(text) if text else 0.0
            hypotheses.append(_Hypothesis(recognized, log_probability, compression, count >= room))
        return hypotheses


def _pooled_states(encoded: Any, frames: list[int]) -> list[Mel]:
    """[2 · d] float32 for each utterance: mean over time, then standard deviation, of the encoder's states
    [B, positions, d]. frames: mel frames of each utterance, of which the encoder makes half as many."""
    spoken = [states[: n // 2] for states, n in zip(np.array(encoded, np.float32), frames, strict=True)]
    return [np.concatenate([states.mean(0), states.std(0)]) for states in spoken]


def _words(alignment: list[dict[str, Any]]) -> tuple[Word, ...]:
    """Words with their punctuation, from faster-whisper's alignment by cross-attention."""
    from faster_whisper.transcribe import merge_punctuations

    merge_punctuations(alignment, PREPENDED, APPENDED)
    return tuple(
        Word(part["word"].strip(), float(part["start"]), float(part["end"]), float(part["probability"]))
        for part in alignment
        if part["word"].strip()
    )


def _batches(windows: Sequence[int], batch_size: int) -> Iterator[tuple[int, list[int]]]:
    """(window, positions of at most `batch_size` utterances on it)."""
    places = defaultdict(list)
    for n, window in enumerate(windows):
        places[window].append(n)
    for window, members in places.items():
        for first in range(0, len(members), batch_size):
            yield window, members[first : first + batch_size]


def _joined(parts: list[Transcription]) -> Transcription:
    """One transcription from those of an utterance's pieces, each of `MAX_PIECE_SAMPLES` but the last."""
    if len(parts) == 1:
        return parts[0]
    words = tuple(
        replace(word, start=word.start + n * MAX_PIECE_SAMPLES / RATE, end=word.end + n * MAX_PIECE_SAMPLES / RATE)
        for n, part in enumerate(parts)
        for word in part.words
    )
    return replace(parts[0], text=" ".join(part.text for part in parts if part.text), words=words)


def window_of(samples: int, smallest: int) -> int:
    """Window, in mel frames, for an utterance of `samples` samples at 16 kHz."""
    steps = -(-samples // (WINDOW_STEP_FRAMES * HOP_SAMPLES))
    return min(FULL_WINDOW_FRAMES, max(smallest, steps * WINDOW_STEP_FRAMES))


def is_multilingual(folder: str | Path) -> bool:
    """True for the folder of a multilingual Whisper model, by the size of its vocabulary. Raises OSError,
    ValueError."""
    lines = Path(folder) / "vocabulary.txt"
    size = len(lines.read_bytes().splitlines()) if lines.exists() else 0
    return (size or len(json.loads((Path(folder) / "vocabulary.json").read_bytes()))) > ENGLISH_VOCABULARY_TOKENS
