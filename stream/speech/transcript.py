"""The transcript beside a recording (STM, VTT, SRT, CSV), read out to utterances by time overlap."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.speech.turns import AnnotationError, Turn, pick, read_fields

BEFORE, AFTER = 0.5, 0.25  # seconds by which a word may lie outside of the utterance that the VAD found


@dataclass(frozen=True)
class Cue:
    """A timed line. Times in seconds on the media clock; channel counts from 0."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    channel: int | None = None


@dataclass
class _Word:
    number: int
    cue: Cue
    middle: float
    text: str


class Transcript:
    """Cues whose words are each given out once."""

    def __init__(self, cues: list[Cue]) -> None:
        self.cues = sorted(cues, key=lambda cue: (cue.start, cue.end))
        self.speakers = {cue.speaker for cue in self.cues if cue.speaker is not None}
        self._left: list[_Word] = []
        for cue in self.cues:
            words = cue.text.split()
            step = (cue.end - cue.start) / max(1, len(words))
            for i, word in enumerate(words):
                self._left.append(_Word(len(self._left), cue, cue.start + (i + 0.5) * step, word))
        self.words = len(self._left)
        """How many there are in all."""
        self._given = -1  # the last word that was given out

    @property
    def unspoken(self) -> int:
        """Words not given out yet."""
        return len(self._left)

    def given(self) -> tuple[int, list[int]]:
        """Which words have been given out: those before this number, but for these."""
        return self._given + 1, [word.number for word in self._left if word.number <= self._given]

    def give_again(self, before: int, but: list[int]) -> None:
        """Count as given out what `given` said; before anything is taken."""
        self._given, kept = before - 1, set(but)
        self._left = [word for word in self._left if word.number >= before or word.number in kept]

    def turns(self) -> list[Turn]:
        """The cues as turns; empty unless every cue names its speaker."""
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

    def take(
        self,
        start: float,
        end: float,
        channel: int | None = None,
        speaker: str | None = None,
        exact: bool = False,
        keep: bool = False,
    ) -> str:
        """The words between `start` and `end` that nobody has taken, "" if there are none.

        Words times are spread evenly over a cue. Where both sides know the channel, or else the speaker, they must
        agree. `exact`: the times are the transcript's own, so words just outside belong to somebody else. `keep`: only
        look; the words can be taken again.
        """
        before, after = (0.0, 0.0) if exact else (BEFORE, AFTER)
        taken: list[_Word] = []
        left: list[_Word] = []
        for word in self._left:
            cue = word.cue
            if channel is not None and cue.channel is not None:
                mine = channel == cue.channel
            else:
                mine = speaker is None or cue.speaker is None or speaker == cue.speaker
            inside = mine and start - before <= word.middle < end + after
            (taken if inside else left).append(word)
        if not keep:
            self._left = left
            self._given = max([self._given] + [word.number for word in taken])
        return " ".join(word.text for word in taken)


def read_transcript(path: Path, recording: str) -> Transcript:
    """Read a transcript by its ending. `recording` names the media file in an STM. Raises AnnotationError."""
    readers = {".stm": _stm, ".vtt": _captions, ".srt": _captions, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise AnnotationError(f"{path}: a transcript must be one of {', '.join(readers)}")
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file")
    cues = reader(path, recording)
    if not cues:
        raise AnnotationError(f"{path}: holds no timed line")
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
        raise AnnotationError(f"{path}:{number}: a line must run from start to end, not {cue.start} to {cue.end}")
    return cue
