"""Automatic speech recognition: locating a model, and the guard against words where nobody speaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.device import Device
from model.encoders.manifest import complete, fault_of, folders, manifest
from model.encoders.packaged import PackagedError, unpacked
from model.encoders.transcription import RATE, Asr, Samples, Transcription, believable
from model.errors import InputError

MIN_SPEECH_S = 0.15  # with less speech, an utterance has no words
USER_FOLDER = "your folder"  # origin of a model that the user has named by its folder
PACKAGES = "Python packages"
READ_BY_VOICE = "base"
"""Model whose encoder's states `model.encoders.voice` reads: those of another one mean something else."""
PREFIX = "faster-whisper-"  # of the names of the models' folders
DEFAULTS = ("base", "small", "base.en", "small.en", "tiny.en", "tiny")  # real time without a GPU, best first
SIZES = {
    "tiny.en": 78, "tiny": 78, "base.en": 148, "base": 148, "small.en": 486, "small": 486, "medium.en": 1530,
    "medium": 1530, "turbo": 1620, "large-v3": 3090,
}  # fmt: skip
"""Megabytes of faster-whisper's models by name; those that end in .en know only English."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class AsrError(InputError):
    """A speech recognizer that is not available; the message says what to do."""


class Guarded:
    """A speech recognizer that runs only on utterances with speech; results that are no plausible speech are
    dropped."""

    def __init__(self, asr: Asr) -> None:
        from faster_whisper.vad import get_vad_model

        self._asr, self._vad = asr, get_vad_model()

    def __call__(self, utterances: Sequence[Samples], language: str | None) -> list[Transcription]:
        """Words of utterances [n] float32 at 16 kHz, as `model.encoders.transcription.Asr`; none where nobody
        speaks."""
        speech_seconds = [self.seconds_of_speech(samples) for samples in utterances]
        with_speech = [n for n, seconds in enumerate(speech_seconds) if seconds >= MIN_SPEECH_S]
        recognized = [Transcription()] * len(utterances)
        if with_speech:
            for n, result in zip(with_speech, self._asr([utterances[n] for n in with_speech], language), strict=True):
                recognized[n] = result if believable(result.text, speech_seconds[n]) else Transcription()
        return recognized

    def warm_up(self) -> None:
        """Run the recognizer once: its first call is slow."""
        self._asr([np.zeros(RATE // 2, np.float32)], "en")

    def seconds_of_speech(self, samples: Samples) -> float:
        """Seconds of speech in an utterance [n] float32 at 16 kHz by Silero's VAD, which rejects music and noise."""
        frame = 512
        padded = np.pad(samples, (0, -len(samples) % frame or (0 if len(samples) else frame)))
        probabilities = np.ravel(self._vad(padded.astype(np.float32)))
        return float((probabilities >= 0.5).sum()) * frame / RATE


@dataclass(frozen=True)
class AsrModel:
    """A faster-whisper model on this machine."""

    name: str
    """Its size ("base"), its id on the Hugging Face hub, or the name of its folder."""
    folder: str
    origin: str
    """Source of the files, to show to the user."""
    multilingual: bool

    @property
    def reference(self) -> str:
        """Argument with which `locate` finds this model on any node, wherever that node has it."""
        return self.folder if self.origin == USER_FOLDER else self.name

    def __str__(self) -> str:
        return f"faster-whisper {self.name}"


def check_name(name: str | None) -> None:
    """Check that a model can be meant by a name: a size, a folder with a model, or an id on the Hugging Face hub.

    Raises AsrError for another one, whatever is on this machine.
    """
    if name is None or name in SIZES or (Path(name) / "model.bin").is_file():
        return
    if name and Path(name).is_dir():  # "" would be the folder that we are in
        raise AsrError(f"{name}: holds no faster-whisper model (no model.bin)")
    if HUB_ID.fullmatch(name) or any((folder / (PREFIX + name)).is_dir() for folder in folders()):
        return
    from faster_whisper import available_models

    if name not in available_models():  # it knows older sizes, too
        raise AsrError(
            f"no Whisper model {name!r}: neither a size ({', '.join(SIZES)}), nor a folder with a model, nor the "
            "OWNER/NAME of one on the Hugging Face hub"
        )


def locate(name: str | None = None) -> AsrModel | None:
    """Find a faster-whisper model on this machine.

    name: its folder, size, or id on the Hugging Face hub; None: the best that is available. Searched are
    faster-whisper-SIZE in $UNDERTONE_MODELS and the user's folder, then Hugging Face's cache, then Python packages that
    contain the model; without a name, each of them for the sizes of `DEFAULTS` in that order.

    Returns None when there is none. Raises AsrError when a model is damaged, or `name` can be none's (`check_name`).
    """
    if name is not None and (Path(name) / "model.bin").is_file():
        return _found(Path(name).resolve().name.removeprefix(PREFIX), Path(name).resolve(), USER_FOLDER)
    for place in (_in_folders, _in_hub_cache, _in_packages):
        for size in DEFAULTS if name is None else (name,):
            if (found := place(size)) is not None:
                return found
    check_name(name)
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
    except Exception:  # not in the cache; the hub's client has no common error class for that
        return None
    return _found(name, folder, "Hugging Face's cache") if (folder / "model.bin").is_file() else None


def _in_packages(size: str) -> AsrModel | None:
    model = manifest().get(PREFIX + size)
    try:
        folder = None if model is None else unpacked(model)
    except PackagedError as error:
        raise AsrError(str(error)) from None
    return None if folder is None else _found(size, folder, PACKAGES)


def _found(name: str, folder: Path, origin: str) -> AsrModel:
    from model.encoders.whisper import is_multilingual

    try:
        return AsrModel(name, str(folder), origin, is_multilingual(folder))
    except (OSError, ValueError) as error:
        raise AsrError(f"{folder}: no faster-whisper model ({error})") from None


def transcribe_together(asr: Asr, utterances: list[tuple[Samples, str | None]]) -> list[Transcription]:
    """Transcribe (samples [n] float32 at 16 kHz, language) pairs, one batch for each language; results in their
    order."""
    results = [Transcription()] * len(utterances)
    for language in {language for _, language in utterances}:
        places = [n for n, (_, other) in enumerate(utterances) if other == language]
        for n, result in zip(places, asr([utterances[n][0] for n in places], language), strict=True):
            results[n] = result
    return results


def load(name: str, device: Device = "cpu") -> Guarded:
    """Load a model by a name that `locate` takes, and check its files where the manifest knows them.

    Raises AsrError when it is not on this machine, or is another one than its publisher's, and RuntimeError or
    ValueError where the device cannot be used.
    """
    from model.encoders.whisper import Whisper

    found = locate(name)
    if found is None:
        raise AsrError(f"no faster-whisper model {name!r} on this machine: undertone models pull {name}")
    model = manifest().get(PREFIX + found.name)
    # A folder that is named by its path is the user's own, and a hub's cache is the hub's client's to check.
    if (
        model is not None
        and found.origin in (found.folder, PACKAGES)
        and (fault := fault_of(model, Path(found.folder)))
    ):
        raise AsrError(f"{found.folder}: {fault}; remove it, then: undertone models pull {found.name}")
    # A folder of the user's that is called "base" may hold any model.
    read_by_voice = found.name == READ_BY_VOICE and found.origin != USER_FOLDER
    return Guarded(Whisper(found.folder, device=device, states=read_by_voice))
