"""The transcript of a recording (STM, VTT, SRT, TXT, CSV); its words are assigned to utterances by time."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

from stream.speech.captions import declared_language, read_captions
from stream.speech.turns import AnnotationError, Cue, LeftOut, Turn, pick, read_lines, read_text, split_lines

BEFORE_S, AFTER_S = 0.5, 0.25  # seconds that a word may lie before or after the utterance found by the VAD
SUFFIXES = (".stm", ".vtt", ".srt", ".txt", ".csv")
NOBODY = {"inter_segment_gap", "excluded_region"}  # as NIST calls the speaker of what is not speech
ALTERNATIVES = re.compile(r"\{\s*([^{}/]*?)\s*(?:/[^{}]*)?\}")
OPTIONAL = re.compile(r"\(([^()]*)\)")
REMARK = re.compile(r"<[^<>]*>")


@dataclass
class _Word:
    """One word of a cue, with the time of its middle in seconds."""

    number: int
    cue: Cue
    middle: float
    text: str


class Transcript:
    """The words of a transcript; each is assigned to one utterance."""

    def __init__(self, cues: list[Cue], language: str | None = None) -> None:
        """language: code that the file declares, such as "en"."""
        self.language = language
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


def read_transcript(path: Path, recording: str, left_out: LeftOut | None = None) -> Transcript:
    """Read a transcript, whose format follows from the file's suffix.

    recording: name of the media file in an STM. left_out: gets the lines that cannot be used. Raises AnnotationError,
    also when no line is usable.
    """
    suffix, left_out = path.suffix.lower(), left_out or LeftOut(path)
    if suffix not in SUFFIXES:
        raise AnnotationError(f"{path}: a transcript must be one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file")
    if suffix in (".stm", ".csv"):
        return Transcript(_stm(path, recording, left_out) if suffix == ".stm" else _csv(path, left_out))
    return Transcript(read_captions(path, left_out), declared_language(path))


def _stm(path: Path, recording: str, left_out: LeftOut) -> list[Cue]:
    """NIST STM: recording, channel (from 1 or 0, or A, B), speaker, start, end, optional <label>, words."""
    cues: dict[str, list[tuple[str, Cue]]] = {}
    ignored = 0
    for number, line in read_lines(path):
        fields = line.split()
        try:
            name, channel, speaker, start, end = fields[:5]
            words = fields[6:] if len(fields) > 5 and fields[5].startswith("<") else fields[5:]
            cue = _checked(Cue(float(start), float(end), _spoken(" ".join(words)), speaker))
        except ValueError as error:
            left_out.add(number, "not an STM line", error)
            continue
        if speaker.casefold() in NOBODY or "ignore_time_segment_in_scoring" in line.casefold():
            ignored += 1
        else:
            cues.setdefault(name, []).append((channel, cue))
    left_out.require(bool(cues), "nobody speaks in it" if ignored else "describes no recording")
    chosen = pick(path, cues, recording)
    first = 0 if any(channel == "0" for channel, _ in chosen) else 1
    return [replace(cue, channel=_channel(channel, first)) for channel, cue in chosen]


def _spoken(text: str) -> str:
    """The words of an STM line: the first of {several / readings}, (what may be left out) too, no <remarks>."""
    while (plain := ALTERNATIVES.sub(lambda found: found[1], text)) != text:
        text = plain
    words = (OPTIONAL.sub(r"\1", word) for word in REMARK.sub(" ", text).split())
    return " ".join(word for word in words if word != "@" and not word.casefold().startswith("%hesitation"))


def _channel(name: str, first: int) -> int | None:
    """A channel from 0, of one that counts from `first` or is called A or B."""
    if name.isascii() and name.isdigit():
        return int(name) - first
    return "AB".index(name.upper()) if name.upper() in ("A", "B") else None


def _csv(path: Path, left_out: LeftOut) -> list[Cue]:
    """Columns start, end (seconds), text, and optionally speaker and channel (from 1, or from 0)."""
    text = read_text(path)
    header = split_lines(text)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    cues: list[tuple[str, Cue]] = []
    number = 1
    try:
        columns = [name.strip().casefold() for name in next(reader, [])]
        if missing := {"start", "end", "text"} - set(columns):
            raise AnnotationError(f"{path}: no column {', '.join(sorted(missing))}")
        for values in reader:
            number, record = reader.line_num, dict(zip(columns, values, strict=False))
            if not values:
                continue
            try:
                start, end = float(record["start"]), float(record["end"])
                cue = _checked(Cue(start, end, record.get("text") or "", record.get("speaker") or None))
                channel = record.get("channel") or ""
                if channel and _channel(channel, 0) is None:
                    raise ValueError(f"no channel {channel!r}")
                cues.append((channel, cue))
            except (ValueError, KeyError) as error:
                left_out.add(number, "not a transcript line", error)
    except csv.Error as error:
        left_out.add(number + 1, "not a transcript line", error)
    left_out.require(bool(cues), "contains no timed line")
    first = 0 if any(channel == "0" for channel, _ in cues) else 1
    return [replace(cue, channel=_channel(channel, first)) for channel, cue in cues]


def _checked(cue: Cue) -> Cue:
    """Raises ValueError."""
    if not 0 <= cue.start <= cue.end < float("inf"):
        raise ValueError(f"start and end must be finite and in order: {cue.start} to {cue.end}")
    return cue
