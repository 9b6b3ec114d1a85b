"""Test recordings (folders of audio with RTTM, or of RAVDESS clips), and networks for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.encoders.manifest import folders
from model.labels import RAVDESS
from model.training.voice_train import Clip
from stream.errors import MediaError
from stream.sources.file import read_audio
from stream.speech.turns import AnnotationError, Turn, read_lines, read_rttm, rttm_fields

AUDIO = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4"}


@dataclass(frozen=True)
class Recording:
    """An audio file with its speaker turns."""

    path: Path
    turns: list[Turn]

    @property
    def group(self) -> str:
        """Name of the folder, by which results are grouped."""
        return self.path.parent.name


def with_turns(folder: Path) -> list[Recording]:
    """The audio files below a folder that have an RTTM file of the same name, or are named in one below the folder.

    Raises AnnotationError when there is none.
    """
    named: dict[str, Path] = {}
    for rttm in sorted(folder.rglob("*.rttm"), reverse=True):
        named |= {fields[1]: rttm for _, line in read_lines(rttm) if len(fields := rttm_fields(line)) > 1}
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO):
        own = path.with_suffix(".rttm")
        source = own if own.is_file() else named.get(path.stem)
        if source is not None:
            found.append(Recording(path, read_rttm(source, path.stem)))
    if not found:
        raise AnnotationError(f"{folder}: no audio file in it that an RTTM file names")
    return found


def ravdess(folder: Path) -> list[Clip]:
    """The speech clips 03-01-EE-II-SS-RR-AA.* below a folder. Raises MediaError when there are none."""
    clips = list(_clips(folder))
    if not clips:
        raise MediaError(f"{folder}: no clip named as RAVDESS names them (03-01-EE-II-SS-RR-AA)")
    return clips


def _clips(folder: Path) -> Iterator[Clip]:
    for path in sorted(p for p in folder.rglob("03-01-*") if p.suffix.lower() in AUDIO):
        parts = path.stem.split("-")
        if len(parts) == 7 and all(part.isdigit() for part in parts) and 1 <= int(parts[2]) <= len(RAVDESS):
            yield Clip(read_audio(path)[0], int(parts[2]) - 1, int(parts[6]), path.stem)


def comparison_net(name: str, file: str) -> Path | None:
    """Path of NAME/FILE in the folders of models ($UNDERTONE_MODELS first); None when it is missing."""
    return next((path for folder in folders() if (path := folder / name / file).is_file()), None)
