"""Annotated speakers and times: turns and timed lines, and the files that have them (RTTM)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stream.errors import InputError

T = TypeVar("T")
RTTM_TYPES = {
    "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT", "IP", "SU", "CB",
    "A/P", "SPEAKER", "SPKR-INFO",
}  # fmt: skip
"""The types of line that NIST defines (RT-09, appendix A); turns are in those of SPEAKER alone."""
NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
MOST_PEOPLE = 20
"""Most speakers who are told apart by voice."""
NOT_GIVEN = "<NA>"  # a field of an RTTM that is empty


@dataclass(frozen=True)
class Turn:
    """One speaker's stretch of speech, in seconds on the media clock."""

    start: float
    end: float
    speaker: str
    silenced: tuple[tuple[float, float], ...] = ()
    """Stretches in which only others speak, in seconds on the media clock."""
    onset: float | None = None
    """Start of speech, where the turn has sound before it; None = `start`."""


@dataclass(frozen=True)
class Cue:
    """A timed line of a transcript. Times in seconds on the media clock; channels count from 0."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    channel: int | None = None


class AnnotationError(InputError):
    """An unusable transcript or RTTM file; the message names file and line."""


class LeftOut:
    """The lines of a file that cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path, self._first, self._error = path, "", ""
        self.count = 0

    def add(self, number: int, reason: str, detail: object) -> None:
        """Count a line, by its number from 1. reason: without words of the line, so that events may have it; detail:
        with them."""
        if not self.count:
            self._first = f"line {number}: {reason}"
            self._error = f"{self._path}:{number}: {reason} ({detail})"
        self.count += 1

    @property
    def note(self) -> str | None:
        """One line about all of them; None when there are none."""
        if not self.count:
            return None
        lines = "1 line" if self.count == 1 else f"{self.count} lines"
        return f"{self._path.name}: {lines} left out, the first is {self._first}"

    def require(self, usable: bool, otherwise: str) -> None:
        """Raises AnnotationError where nothing is usable: with the first line that is not, else with `otherwise`."""
        if not usable:
            raise AnnotationError(self._error or f"{self._path}: {otherwise}")


def read_rttm(path: Path, recording: str, left_out: LeftOut | None = None) -> list[Turn]:
    """Read the turns of `recording` (the media file's name without its suffix) from an RTTM file.

    If the file describes a single recording, its name does not matter. left_out: gets the lines that cannot be used.
    Raises AnnotationError, also when no line is usable.
    """
    left_out = left_out or LeftOut(path)
    turns: dict[str, list[Turn]] = {}
    for number, line in read_lines(path):
        fields = rttm_fields(line)
        if fields[0].upper() not in RTTM_TYPES:
            left_out.add(number, "not an RTTM line", f"type {fields[0]!r}")
        elif fields[0].upper() == "SPEAKER":
            try:
                start, end = float(fields[3]), float(fields[3]) + float(fields[4])
                if not 0 <= start < end < math.inf:
                    raise ValueError("a turn needs a start of at least 0 and a positive length")
                if fields[7] == NOT_GIVEN:
                    raise ValueError("it names no speaker")
                turns.setdefault(fields[1], []).append(Turn(start, end, fields[7]))
            except (IndexError, ValueError) as error:
                left_out.add(number, "not an RTTM line", error)
    left_out.require(bool(turns), "describes no recording")
    return pick(path, turns, recording)


def rttm_fields(line: str) -> list[str]:
    """The fields of an RTTM line, of which recording and speaker may have blanks."""
    if len(by_tab := [field.strip() for field in line.split("\t")]) >= 8:
        return by_tab
    fields = line.split()
    # The two fields between the length and the speaker are empty: what stands before them has its place from there.
    empty = next((n for n in range(5, len(fields) - 1) if fields[n] == fields[n + 1] == NOT_GIVEN), 5)
    if empty > 5 and all(NUMBER.fullmatch(field) for field in fields[empty - 2 : empty]):
        fields[1 : empty - 3] = [" ".join(fields[1 : empty - 3])]
    speaker = fields[7:]
    if len(speaker) > 2 and speaker[-1] == NOT_GIVEN:
        # A whole number may end a name: "speaker 1".
        number = NUMBER.fullmatch(speaker[-2]) and (len(speaker) == 3 or "." in speaker[-2])
        confidence = speaker[-2] == NOT_GIVEN or number
        speaker = speaker[: -2 if confidence else -1]
    elif len(speaker) == 2:
        speaker = speaker[:1] if speaker[1] == NOT_GIVEN or NUMBER.fullmatch(speaker[1]) else speaker
    elif len(speaker) == 3 and all(NUMBER.fullmatch(field) for field in speaker[1:]):
        speaker = speaker[:1]
    return [*fields[:7], " ".join(speaker)] if speaker else fields[:7]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines of a text file, without blank ones and ;; comments. Raises AnnotationError."""
    lines = enumerate(split_lines(read_text(path)), 1)
    return [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith(";;")]


def read_text(path: Path) -> str:
    """The text of a file: UTF-8, or UTF-16 with its mark. Raises AnnotationError."""
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such file") from None
    except (UnicodeDecodeError, OSError) as error:
        raise AnnotationError(f"{path}: not a UTF-8 text file ({error})") from None


def split_lines(text: str) -> list[str]:
    """Lines as editors number them: `str.splitlines` also splits at separators that may stand in a line."""
    return re.split(r"\r\n|\r|\n", text)


def pick(path: Path, by_recording: dict[str, list[T]], recording: str) -> list[T]:
    """The entries of one recording, of those in `by_recording`. Raises AnnotationError if it has only others."""
    if recording in by_recording:
        return by_recording[recording]
    if len(by_recording) == 1:
        return next(iter(by_recording.values()))
    names = ", ".join(sorted(by_recording)[:5])
    raise AnnotationError(f"{path}: does not contain {recording!r}, only {names}")
