"""Speech to words: faster-whisper when a model is found, else pocketsphinx."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SIZES = ("large-v3", "turbo", "medium", "small.en", "small", "base.en", "base", "tiny.en", "tiny")


class AsrError(Exception):
    """A recognizer that cannot be had; the message says what to do."""


class Asr(Protocol):
    """Words of one utterance, [n] float32 at 16 kHz; "" when there are none."""

    def __call__(self, samples: NDArray[np.float32]) -> str: ...


class PocketSphinx:
    """CMU Sphinx with the US English model in its package. Fast and offline; expect every third word to be wrong."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=16_000, loglevel="FATAL")

    def __call__(self, samples: NDArray[np.float32]) -> str:
        decoder = self._decoder
        decoder.reinit_feat()  # else what it adapted to colours the next utterance, of whichever session
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


class Whisper:
    """faster-whisper (CTranslate2), int8 on a CPU, greedy, each utterance on its own."""

    def __init__(self, model: str) -> None:
        from faster_whisper import WhisperModel

        self._model = WhisperModel(model, compute_type="int8", cpu_threads=2)

    def __call__(self, samples: NDArray[np.float32]) -> str:
        segments, _ = self._model.transcribe(samples, beam_size=1, condition_on_previous_text=False)
        return " ".join(segment.text.strip() for segment in segments if segment.no_speech_prob < 0.8).strip()


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


def load(asr: str, folder: str | None) -> Asr:
    """The recognizer that `choose` named."""
    return Whisper(folder) if asr == "whisper" and folder is not None else PocketSphinx()
