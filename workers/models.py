"""`undertone models`: fetch what the manifest names, with checksum, and go on where a download broke off."""

from __future__ import annotations

import os
import time
from pathlib import Path

import requests

from model.manifest import Model, ModelFile, folders, wrong
from model.progress import Progress

MIRROR = "UNDERTONE_MODELS_URL"
TRIES = 5
PATIENCE = 1.0  # seconds before the second try; doubled for each one after
CHUNK = 1 << 16


class DownloadError(Exception):
    """A model that cannot be fetched; the message is one line for the user."""


def pull(model: Model, progress: Progress, into: Path | None = None) -> Path:
    """Fetch the files of a model that are not there yet; returns its folder. Raises DownloadError.

    A file that broke off lies beside its place as NAME.part; the next call goes on from there.
    """
    folder = (into or folders()[0]) / model.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{folder}: {error.strerror}") from None
    for file in model.files:
        if wrong(file, folder / file.name) is not None:
            _fetch(_address(model, file), file, folder / file.name, progress)
    return folder


def pull_whisper(name: str, into: Path | None = None) -> Path:
    """Fetch faster-whisper-SIZE from Hugging Face, whose client resumes and verifies. Raises DownloadError."""
    from faster_whisper.utils import download_model

    folder = (into or folders()[0]) / name
    try:
        download_model(name.removeprefix("faster-whisper-"), output_dir=str(folder))
    except Exception as error:  # the hub's client has a dozen ways to fail
        lines = str(error).splitlines() or [type(error).__name__]
        raise DownloadError(f"{name} cannot be fetched from Hugging Face ({lines[0]})") from None
    return folder


def _address(model: Model, file: ModelFile) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{model.name}/{file.name}" if mirror else file.url


def _fetch(url: str, file: ModelFile, path: Path, progress: Progress) -> None:
    part = path.with_name(path.name + ".part")
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PATIENCE * 2 ** (attempt - 1))
        try:
            if _receive(url, file, part, progress):
                break
            reason = f"the connection broke off at {part.stat().st_size} of {file.size} bytes"
        except requests.HTTPError as error:
            raise DownloadError(str(error)) from None
        except (requests.RequestException, OSError) as error:
            reason = str(error).splitlines()[0]
    else:
        raise DownloadError(f"{url}: {reason}; run the command again to go on")
    fault = wrong(file, part)
    if fault is not None:
        part.unlink()
        raise DownloadError(f"{url} serves {fault}; nothing was kept")
    part.replace(path)


def _receive(url: str, file: ModelFile, part: Path, progress: Progress) -> bool:
    """Append to `part` what it lacks; whether the file is complete now."""
    have = part.stat().st_size if part.exists() else 0
    if have < file.size:
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=20) as response:
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            with part.open("ab" if resumed else "wb") as out:
                have = have if resumed else 0
                for chunk in response.iter_content(CHUNK):
                    out.write(chunk)
                    have += len(chunk)
                    progress.step(f"{file.name}, kB", have // 1000, file.size // 1000)
                    if have > file.size:  # a server that lies about the size shall not fill the disk
                        break
    return have >= file.size
