"""Speech to words: what a recognizer gives, where its model is, and when it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.encoders.manifest import complete, folders, manifest
from model.encoders.packaged import PackagedError, unpacked
from model.encoders.transcription import RATE, Asr, Samples, Transcription, believable
from model.errors import InputError

LEAST_SPEECH = 0.15  # seconds without which an utterance has no words
OWN = "your folder"  # origin of a model that the user has named by its folder
PREFIX = "faster-whisper-"  # of the folders that hold a model
DEFAULTS = ("base", "small", "base.en", "small.en", "tiny.en", "tiny")  # those that keep up without a GPU, best first
SIZES = {
    "tiny.en": 78, "tiny": 78, "base.en": 148, "base": 148, "small.en": 486, "small": 486, "medium.en": 1530,
    "medium": 1530, "turbo": 1620, "large-v3": 3090,
}  # fmt: skip

"""Megabytes of faster-whisper's models by their names; those that end in .en know English alone."""


class AsrError(InputError):
    """A recognizer that is not available; the message says what to do."""


class Guarded:
    """A recognizer that is asked only where there is speech, and not believed when it stammers."""

    def __init__(self, asr: Asr) -> None:
        from faster_whisper.vad import get_vad_model

        self._asr, self._vad = asr, get_vad_model()

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Transcription]:
        heard = [self.seconds_of_speech(samples) for samples in utterances]
        spoken = [n for n, seconds in enumerate(heard) if seconds >= LEAST_SPEECH]
        recognized = [Transcription()] * len(utterances)
        if spoken:
            for n, result in zip(spoken, self._asr([utterances[n] for n in spoken], language), strict=True):
                recognized[n] = result if believable(result.text, heard[n]) else Transcription()
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


@dataclass(frozen=True)
class AsrModel:
    """A faster-whisper model that is here."""

    name: str
    """Its size ("base"), its id on the Hugging Face hub, or the name of its folder."""
    folder: str
    origin: str
    """Source of the files, for the user to read."""
    multilingual: bool

    @property
    def reference(self) -> str:
        """The model as `locate` takes it on every node: one has it where another has not."""
        return self.folder if self.origin == OWN else self.name

    def __str__(self) -> str:
        return f"faster-whisper {self.name}"


def locate(name: str | None = None) -> AsrModel | None:
    """A faster-whisper model that is here, by its folder, size or id on the Hugging Face hub; None: the best at hand.

    Looks into $UNDERTONE_MODELS and the user's folder for faster-whisper-SIZE, then Hugging Face's cache, then Python
    packages that carry the model. Without a name, each of these is asked for the sizes of `DEFAULTS` in that order.
    Returns None when there is none. Raises AsrError when one is here and broken, or a folder is none.
    """
    if name is not None and (Path(name) / "model.bin").is_file():
        return _found(Path(name).resolve().name.removeprefix(PREFIX), Path(name).resolve(), OWN)
    for place in (_in_folders, _in_hub_cache, _in_packages):
        for size in DEFAULTS if name is None else (name,):
            if (found := place(size)) is not None:
                return found
    if name is not None and Path(name).is_dir():
        raise AsrError(f"{name}: holds no faster-whisper model (no model.bin)")
    return None


def _in_folders(size: str) -> AsrModel | None:
    model = manifest().get(PREFIX + size)
    for folder in folders():
        here = folder / (PREFIX + size)
        if complete(model, here) if model is not None else (here / "model.bin").is_file():
            return _found(size, here, str(here))
    return None


def _in_hub_cache(name: str) -> AsrModel | None:
    from faster_whisper.utils import download_model

    try:
        folder = Path(download_model(name, local_files_only=True))
    except Exception:  # not in the cache: the hub's client has a dozen ways to say so
        return None
    return _found(name, folder, "Hugging Face's cache") if (folder / "model.bin").is_file() else None


def _in_packages(size: str) -> AsrModel | None:
    model = manifest().get(PREFIX + size)
    try:
        folder = None if model is None else unpacked(model)
    except PackagedError as error:
        raise AsrError(str(error)) from None
    return None if folder is None else _found(size, folder, "Python packages")


def _found(name: str, folder: Path, origin: str) -> AsrModel:
    from model.encoders.whisper import is_multilingual

    try:
        return AsrModel(name, str(folder), origin, is_multilingual(folder))
    except (OSError, ValueError) as error:
        raise AsrError(f"{folder}: no faster-whisper model ({error})") from None


def transcribe_together(asr: Asr, utterances: list[tuple[Samples, str | None]]) -> list[Transcription]:
    """Utterances with their languages; those in the same language go through the recognizer as one batch."""
    results = [Transcription()] * len(utterances)
    for language in {language for _, language in utterances}:
        places = [n for n, (_, other) in enumerate(utterances) if other == language]
        for n, result in zip(places, asr([utterances[n][0] for n in places], language), strict=True):
            results[n] = result
    return results


def load(name: str) -> Guarded:
    """The recognizer of a model as `locate` takes it. Raises AsrError when it is not here."""
    from model.encoders.whisper import Whisper

    found = locate(name)
    if found is None:
        raise AsrError(f"no faster-whisper model {name!r} on this machine: undertone models pull {name}")
    return Guarded(Whisper(found.folder))
