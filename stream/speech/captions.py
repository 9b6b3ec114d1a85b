"""Captions with their lines' numbers: WebVTT, SubRip, and text in which lines begin with a time."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream.speech.naming import CaptionCue, name_speakers, without_repetition
from stream.speech.turns import Cue, LeftOut, read_text, split_lines

_STAMP = r"(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2})(?:[.,](\d{1,6}))?"
TIMING = re.compile(rf"\s*\[?{_STAMP}\s*-->\s*{_STAMP}(?![\d:.,])\]?(.*)")
LIKE_TIMING = re.compile(r".*-->|[\s\[]*\d+:[\d:.,]+\s*(?:-+|–|=)>\s*\d")
"""A line that means to be a timing, and may be none."""
AT = re.compile(rf"\s*[\[(]?{_STAMP}[\])]?(?:\s+|\s*-\s+)(?=\S)(.*)")
"""A line of text that begins with the time at which it begins."""
NAMED_AT = re.compile(rf"\s*(\S.{{0,60}}?)\s+[\[(]?{_STAMP}[\])]?:?\s*")
"""A line with a name and a time; what was cues then stands below it."""
TAG = re.compile(r"</?[A-Za-z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")
VOICE = re.compile(r"<(/?)v(?:\.[^\s>]*)*(?:\s+([^>]*))?>", re.IGNORECASE)
ENTITY = re.compile(r"&#?\w{1,31};")
MARKS = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")  # direction and width, no words
TURN_MARK = re.compile(r"(?:[-–—]|>>+|»)\s+")
"""Begins a line of somebody else."""
WORDS_PER_S = 2.5  # at which the last line of a text without ends is taken to be spoken


@dataclass
class _Block:
    """A timing and the lines below it."""

    start: float
    end: float
    lines: list[str]


def read_captions(path: Path, left_out: LeftOut) -> list[Cue]:
    """The cues of a VTT, SRT or TXT file, each of one speaker where it names them: by <v Name>, or as `Name: words`.

    What rolling captions repeat of the cue before is left out. Raises AnnotationError.
    """
    lines = split_lines(read_text(path))
    blocks = list(_blocks(lines, path.suffix.lower() == ".srt", left_out))
    if not blocks and path.suffix.lower() == ".txt":
        blocks = _stamped(lines)
    left_out.require(bool(blocks), "not a caption file (no line has its times: 00:01.000 --> 00:02.500)")
    blocks.sort(key=lambda block: (block.start, block.end))
    cues = [CaptionCue(b.start, b.end, [part for line in b.lines for part in _parts(line)]) for b in blocks]
    if all(part.speaker is None for each in cues for part in each.parts):
        name_speakers(cues)
    return [cue for each in without_repetition(cues) for cue in each.cues()]


def declared_language(path: Path) -> str | None:
    """The language that a VTT's header declares, as YouTube's do ("Language: en-GB" is "en"); None: it does not."""
    if path.suffix.lower() != ".vtt":
        return None
    header = read_text(path)[:2000].split("-->")[0]
    found = re.search(r"^Language:\s*([A-Za-z]{2,3})\b", header, re.MULTILINE)
    return found[1].lower() if found else None


def _blocks(lines: list[str], blank_lines: bool, left_out: LeftOut) -> Iterator[_Block]:
    """Timings with what stands below them. blank_lines: they may stand in the words."""
    block: _Block | None = None
    is_open = False
    for number, line in enumerate(lines, 1):
        timing = TIMING.match(line)
        if timing is None and not LIKE_TIMING.match(line):
            is_open = is_open and (bool(line.strip()) or blank_lines)
            if block is not None and is_open:
                block.lines.append(line)
            continue
        if block is not None:
            _drop_index(block)
            yield block
        start = end = None
        if timing is not None:
            start, end = _seconds(*timing.groups()[:4]), _seconds(*timing.groups()[4:8])
        block, is_open = None, False
        if start is None or end is None:
            left_out.add(number, "not a timing of a cue", line.strip()[:60])
        elif start > end:
            left_out.add(number, "a cue that ends before it starts", line.strip()[:60])
        else:
            # Settings follow the times in a caption file; words in what Whisper prints.
            words = timing[9] if timing is not None and line.lstrip().startswith("[") else ""
            block, is_open = _Block(start, end, [words] if words.strip() else []), True
    if block is not None:
        yield block


def _drop_index(block: _Block) -> None:
    """Remove the number of the next cue from the end, where no blank line stands between the two."""
    while block.lines and not block.lines[-1].strip():
        block.lines.pop()
    if len(block.lines) > 1 and block.lines[-1].strip().isdigit():
        block.lines.pop()


def _stamped(lines: list[str]) -> list[_Block]:
    """Lines of text that begin with a time, or with a name and a time; each lasts until the next."""
    blocks: list[_Block] = []
    for line in lines:
        if (found := AT.match(line)) and (start := _seconds(*found.groups()[:4])) is not None:
            blocks.append(_Block(start, start, [found[5]]))
        elif (found := NAMED_AT.fullmatch(line)) and (start := _seconds(*found.groups()[1:5])) is not None:
            blocks.append(_Block(start, start, [f"<v {found[1].rstrip(':')}>"]))
        elif blocks and line.strip():
            blocks[-1].lines.append(line)
    blocks.sort(key=lambda block: block.start)
    for n, block in enumerate(blocks):
        spoken = block.start + len(" ".join(block.lines).split()) / WORDS_PER_S
        block.end = blocks[n + 1].start if n + 1 < len(blocks) else spoken
    return blocks


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float | None:
    """The time of a stamp; None where minutes or seconds are more than there are."""
    if int(seconds) > 59 or (hours is not None and int(minutes) > 59):
        return None
    return round(int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}"), 6)


def _parts(line: str) -> Iterator[Cue]:
    """The stretches of a line by one voice, as cues without times; a voice without words is the next line's."""
    speaker, begins = None, 0
    for voice in VOICE.finditer(line):
        if words := _plain(line[begins : voice.start()]):
            yield Cue(0, 0, words, speaker)
        speaker = _plain(voice[2] or "") or None if not voice[1] else None
        begins = voice.end()
    if (words := _plain(line[begins:])) or speaker is not None:
        yield Cue(0, 0, words, speaker)


def _plain(text: str) -> str:
    """Words without tags, entities and marks."""
    text = ENTITY.sub(lambda entity: html.unescape(entity[0]), TAG.sub("", text))
    words = " ".join(MARKS.sub("", text).split())
    return words[mark.end() :] if (mark := TURN_MARK.match(words)) else words
