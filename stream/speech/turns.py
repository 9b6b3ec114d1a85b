"""Annotated speaker turns: RTTM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stream.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """One speaker's stretch of speech, in seconds on the media clock."""

    start: float
    end: float
    speaker: str


class AnnotationError(InputError):
    """An unusable transcript or RTTM file; the message names file and line."""


def read_rttm(path: Path, recording: str) -> list[Turn]:
    """Read the turns of `recording` (the media file's name without its suffix) from an RTTM file.

    If the file describes a single recording, its name does not matter. Raises AnnotationError.
    """
    turns: dict[str, list[Turn]] = {}
    for number, fields in read_fields(path):
        if fields[0] != "SPEAKER":
            continue
        try:
            start, end = float(fields[3]), float(fields[3]) + float(fields[4])
            if not 0 <= start < end < math.inf:
                raise ValueError("a turn needs a start of at least 0 and a positive length")
            turns.setdefault(fields[1], []).append(Turn(start, end, fields[7]))
        except (IndexError, ValueError) as error:
            raise AnnotationError(f"{path}:{number}: not an RTTM line ({error})") from None
    return pick(path, turns, recording)


def read_fields(path: Path) -> list[tuple[int, list[str]]]:
    """Numbered lines of a text file, split at blanks, without empty lines and ;; comments. Raises AnnotationError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such file") from None
    except (UnicodeDecodeError, OSError) as error:
        raise AnnotationError(f"{path}: not a UTF-8 text file ({error})") from None
    lines = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, fields) for number, fields in lines if fields and not fields[0].startswith(";;")]


def pick(path: Path, by_recording: dict[str, list[T]], recording: str) -> list[T]:
    """The entries of one recording. Raises AnnotationError if the file is empty or describes only other recordings."""
    if not by_recording:
        raise AnnotationError(f"{path}: describes no recording")
    if recording in by_recording:
        return by_recording[recording]
    if len(by_recording) == 1:
        return next(iter(by_recording.values()))
    names = ", ".join(sorted(by_recording)[:5])
    raise AnnotationError(f"{path}: does not contain {recording!r}, only {names}")
