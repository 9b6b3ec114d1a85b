"""Downloadable models, listed in manifest.toml, and the search for local copies of them."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).parent / "manifest.toml"


@dataclass(frozen=True)
class ModelFile:
    """One file of a model."""

    name: str
    sha256: str
    size: int
    """Bytes."""
    url: str
    parts: tuple[str, ...] = ()
    """Files in Python packages, as DISTRIBUTION/PATH, whose concatenation in this order is the file."""
    member: str | None = None
    """The concatenation is a zip archive, and the file is this member of it."""

    @property
    def packages(self) -> list[str]:
        """Names of the Python packages that have it."""
        return list(dict.fromkeys(part.partition("/")[0] for part in self.parts))


@dataclass(frozen=True)
class Model:
    """A model of the manifest."""

    name: str
    use: str
    licence: str
    origin: str
    files: tuple[ModelFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def manifest(path: Path = MANIFEST) -> dict[str, Model]:
    """All models by name."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: Model(name, e["use"], e["licence"], e["origin"], tuple(_file(**file) for file in e["files"]))
        for name, e in entries.items()
    }


def _file(parts: Sequence[str] = (), **fields: Any) -> ModelFile:
    return ModelFile(**fields, parts=tuple(parts))


def folders() -> list[Path]:
    """Folders that are searched for models: those of $UNDERTONE_MODELS (separated as in $PATH), then the user's own."""
    from platformdirs import user_data_path  # the network alone does without

    given = os.environ.get("UNDERTONE_MODELS", "").split(os.pathsep)
    return [*(Path(folder) for folder in given if folder), user_data_path("undertone") / "models"]


def find(model: Model) -> Path | None:
    """The first folder that has all files of a model with their sizes; `wrong` compares the content, too."""
    return next((here for folder in folders() if complete(model, here := folder / model.name)), None)


def complete(model: Model, folder: Path) -> bool:
    """True when a folder has all files of a model with their sizes."""
    return all((folder / f.name).is_file() and (folder / f.name).stat().st_size == f.size for f in model.files)


def fault_of(model: Model, folder: Path) -> str | None:
    """Difference of a folder's files from the manifest's, by content; None: there is none. 0.3 s for 145 MB."""
    return next((f"{f.name}: {fault}" for f in model.files if (fault := wrong(f, folder / f.name))), None)


def wrong(file: ModelFile, path: Path) -> str | None:
    """Difference of the file at `path` from the manifest's, by existence, size and SHA-256; None: there is none."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size != file.size:
        return f"{path.stat().st_size} bytes instead of {file.size}"
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return None if digest == file.sha256 else f"another file (SHA-256 {digest[:12]}… instead of {file.sha256[:12]}…)"
