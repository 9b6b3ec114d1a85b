"""The transcript of a recording (STM, VTT, SRT, CSV); its words are assigned to utterances by time."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.speech.turns import AnnotationError, Turn, pick, read_fields

BEFORE_S, AFTER_S = 0.5, 0.25  # seconds that a word may lie before or after the utterance found by the VAD


@dataclass(frozen=True)
class Cue:
    """A timed line of a transcript. Times in seconds on the media clock; channels count from 0."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    channel: int | None = None


@dataclass
class _Word:
    """One word of a cue, with the time of its middle in seconds."""

    number: int
    cue: Cue
    middle: float
    text: str


class Transcript:
    """The words of a transcript; each is assigned to one utterance."""

    def __init__(self, cues: list[Cue]) -> None:
        self.cues = sorted(cues, key=lambda cue: (cue.start, cue.end))
        self.speakers = {cue.speaker for cue in self.cues if cue.speaker is not None}
        self._unused: list[_Word] = []
        for cue in self.cues:
            words = cue.text.split()
            step = (cue.end - cue.start) / max(1, len(words))
            for i, word in enumerate(words):
                self._unused.append(_Word(len(self._unused), cue, cue.start + (i + 0.5) * step, word))
        self.words = len(self._unused)
        """Total number of words."""
        self._last_used = -1  # highest number of a word assigned so far

    @property
    def unused(self) -> int:
        """Number of words not assigned to an utterance yet."""
        return len(self._unused)

    def snapshot(self) -> tuple[int, list[int]]:
        """State for `restore`: all words before this number are assigned, except these."""
        return self._last_used + 1, [word.number for word in self._unused if word.number <= self._last_used]

    def restore(self, before: int, exceptions: list[int]) -> None:
        """Restore the state of `snapshot`, before any word is assigned."""
        self._last_used, unassigned = before - 1, set(exceptions)
        self._unused = [word for word in self._unused if word.number >= before or word.number in unassigned]

    def turns(self) -> list[Turn]:
        """The cues as turns; [] unless every cue names its speaker."""
        if any(cue.speaker is None for cue in self.cues):
            return []
        return [Turn(cue.start, cue.end, str(cue.speaker)) for cue in self.cues if cue.end > cue.start]

    def channel_names(self) -> dict[int, str]:
        """The speaker of each channel, where the cues of a channel all name the same one."""
        names: dict[int, set[str]] = {}
        for cue in self.cues:
            if cue.channel is not None and cue.speaker is not None:
                names.setdefault(cue.channel, set()).add(cue.speaker)
        return {channel: next(iter(found)) for channel, found in names.items() if len(found) == 1}

    def consume(
        self,
        start: float,
        end: float,
        channel: int | None = None,
        speaker: str | None = None,
        exact: bool = False,
        peek: bool = False,
    ) -> str:
        """Assign the words between `start` and `end` seconds to an utterance and return them, "" if there are none.

        Words are assumed to be evenly spaced within a cue. Channel, or else speaker, must agree where both sides know
        it. exact: the times come from the transcript itself, so no word outside them belongs to the utterance. peek:
        return the words without assigning them.
        """
        before, after = (0.0, 0.0) if exact else (BEFORE_S, AFTER_S)
        selected: list[_Word] = []
        remaining: list[_Word] = []
        for word in self._unused:
            cue = word.cue
            if channel is not None and cue.channel is not None:
                mine = channel == cue.channel
            else:
                mine = speaker is None or cue.speaker is None or speaker == cue.speaker
            inside = mine and start - before <= word.middle < end + after
            (selected if inside else remaining).append(word)
        if not peek:
            self._unused = remaining
            self._last_used = max([self._last_used] + [word.number for word in selected])
        return " ".join(word.text for word in selected)


def read_transcript(path: Path, recording: str) -> Transcript:
    """Read a transcript, whose format follows from the file's suffix.

    recording: name of the media file in an STM. Raises AnnotationError.
    """
    readers = {".stm": _stm, ".vtt": _captions, ".srt": _captions, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise AnnotationError(f"{path}: a transcript must be one of {', '.join(readers)}")
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file")
    cues = reader(path, recording)
    if not cues:
        raise AnnotationError(f"{path}: contains no timed line")
    return Transcript(cues)


def _stm(path: Path, recording: str) -> list[Cue]:
    """NIST STM: recording, channel (1, 2 or A, B), speaker, start, end, optional <label>, words."""
    cues: dict[str, list[Cue]] = {}
    for number, fields in read_fields(path):
        try:
            name, channel, speaker, start, end = fields[:5]
            words = fields[6:] if len(fields) > 5 and fields[5].startswith("<") else fields[5:]
            cue = Cue(float(start), float(end), " ".join(words), speaker, _channel(channel))
        except ValueError as error:
            raise AnnotationError(f"{path}:{number}: not an STM line ({error})") from None
        cues.setdefault(name, []).append(_checked(path, number, cue))
    return pick(path, cues, recording)


def _channel(name: str) -> int | None:
    if name.isdigit():
        return int(name) - 1
    return "AB".index(name.upper()) if name.upper() in ("A", "B") else None


def _captions(path: Path, recording: str) -> list[Cue]:
    """WebVTT (speakers as <v Name>) and SubRip."""
    import webvtt

    try:
        captions = webvtt.from_srt(str(path)) if path.suffix.lower() == ".srt" else webvtt.read(str(path))
        return [
            _checked(path, i, Cue(_seconds(c.start_time), _seconds(c.end_time), c.text.replace("\n", " "), c.voice))
            for i, c in enumerate(captions, 1)
        ]
    except (webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: not a caption file ({str(error) or type(error).__name__})") from None


def _seconds(stamp: Any) -> float:
    # webvtt's own in_seconds() drops the milliseconds.
    return float(stamp.hours * 3600 + stamp.minutes * 60 + stamp.seconds + stamp.milliseconds / 1000)


def _csv(path: Path, recording: str) -> list[Cue]:
    """Columns start, end (seconds), text, and optionally speaker and channel (from 1)."""
    cues: list[Cue] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = {"start", "end", "text"} - set(reader.fieldnames or ())
            if missing:
                raise AnnotationError(f"{path}: no column {', '.join(sorted(missing))}")
            for record in reader:
                channel = record.get("channel")
                cue = Cue(
                    float(record["start"]),
                    float(record["end"]),
                    record["text"] or "",
                    record.get("speaker") or None,
                    int(channel) - 1 if channel else None,
                )
                cues.append(_checked(path, reader.line_num, cue))
        except (ValueError, TypeError, csv.Error) as error:
            raise AnnotationError(f"{path}:{reader.line_num}: not a transcript line ({error})") from None
    return cues


def _checked(path: Path, number: int, cue: Cue) -> Cue:
    if not 0 <= cue.start <= cue.end < float("inf"):
        raise AnnotationError(f"{path}:{number}: start and end must be finite and in order: {cue.start} to {cue.end}")
    return cue
