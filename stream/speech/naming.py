"""Speakers that captions name before their words, and the repetitions of captions that roll."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stream.speech.turns import Cue

NAME = re.compile(
    r"(?:[\[(](?P<marked>[^\]\[():]{1,40})[\])]\s*[:：]"  # [Anna Lee]: words
    r"|\[(?P<numbered>(?:SPEAKER|Speaker)[_ ]?\d{1,3}|UNKNOWN)\](?=\s)"
    r"|(?P<plain>[^\W\d_][^:：\[\]()<>?!;\"/\\]{0,39}(?:\([^()]{1,40}\))?)\s*[:：](?=\s|$))\s*(?P<words>.*)"
)
NUMBERED = re.compile(r"speaker[_ ]?\d{1,3}|unknown", re.IGNORECASE)
SMALL_WORDS = {"de", "del", "della", "der", "den", "di", "da", "du", "la", "le", "van", "von", "zu", "bin", "ibn", "al",
               "el", "of", "the", "and", "und", "et", "y"}  # fmt: skip
"""Words of a name that need no capital."""
NO_NAMES = {
    "note", "notes", "warning", "caution", "attention", "hint", "tip", "tips", "example", "examples", "remember",
    "update", "translation", "translator", "source", "subject", "ps", "p.s", "p.s.", "fyi", "todo", "edit", "music",
    "sound", "chapter", "part", "step", "title", "time", "date", "important", "reminder", "question", "answer",
    "result", "results", "summary", "conclusion", "disclaimer", "subtitles", "captions", "anyway", "however", "so",
    "and", "but", "well", "first", "second", "third", "finally", "next", "then", "also", "again", "yes", "no", "ok",
    "okay", "look", "listen", "wait", "achtung", "hinweis", "anmerkung", "beispiel", "frage", "antwort",
}  # fmt: skip
"""Words before a colon that are nobody's name."""
EVERYBODY = 0.5  # share of cues that name somebody, from which names are a habit of the file
SOMETIMES = 0.3  # share from which names that recur are taken for names
TOUCHING_S = 0.5  # between two cues of which one may repeat the other
FLASH_S = 0.1  # a cue that is shown no longer than this repeats the one before
ROLLING = 0.4  # share of touching cues that begin with the words before, from which captions roll
MIN_REPEATED_WORDS, MAX_REPEATED_WORDS = 2, 200


@dataclass
class CaptionCue:
    """A cue of a file: its times in seconds, and its stretches by one voice each."""

    start: float
    end: float
    parts: list[Cue]

    @property
    def words(self) -> list[str]:
        """All words that are shown."""
        return [word for part in self.parts for word in part.text.split()]

    def cues(self) -> Iterator[Cue]:
        """A cue for each run of one speaker, with times by its share of the words."""
        runs: list[Cue] = []
        speaker = next((part.speaker for part in self.parts if part.speaker is not None), None)
        for part in self.parts:
            speaker = part.speaker or speaker  # words outside the voices belong to the one before, or to the first
            if runs and runs[-1].speaker == speaker:
                runs[-1] = replace(runs[-1], text=f"{runs[-1].text} {part.text}".strip())
            else:
                runs.append(replace(part, speaker=speaker))
        total, done = max(1, sum(len(run.text.split()) for run in runs)), 0
        for run in runs:
            first, done = done, done + len(run.text.split())
            length = (self.end - self.start) / total
            end = self.end if done == total else self.start + done * length
            if run.text:
                yield replace(run, start=self.start + first * length, end=end)


def name_speakers(cues: Sequence[CaptionCue]) -> None:
    """Take names that stand before words (`Anna Lee: Hello`, `[SPEAKER_00]: Hello`) for the speakers of these.

    A word before a colon may be none ("Note: …"). The file has to show that it names speakers: about every cue begins
    with a name, and names recur; or some names recur; or names are marked by brackets or a number.
    """
    found = [(each, n, match) for each in cues for n, part in enumerate(each.parts) if (match := _named(part.text))]
    marked = {_name(match) for _, _, match in found if match["plain"] is None or NUMBERED.fullmatch(match["plain"])}
    counts = Counter(_name(match) for _, _, match in found)
    named = len({id(each) for each, _, _ in found})
    share = named / max(1, sum(bool(each.words) for each in cues))
    habit = share >= EVERYBODY and len(found) >= 2 and len(counts) <= 2 + len(found) / 2
    recurring = {name for name, count in counts.items() if count >= 2}
    capital = {name for name in counts if not any(word[0].islower() for word in _main(name))}
    names = marked
    if habit:
        names = names | recurring | capital
    elif share >= SOMETIMES:
        names = names | (recurring & capital)
    for each, n, match in found:
        if _name(match) in names:
            each.parts[n] = replace(each.parts[n], text=match["words"], speaker=_name(match))
    if habit:  # a cue without a name goes on
        last = None
        for each in cues:
            if each.parts and each.parts[0].speaker is None:
                each.parts[0] = replace(each.parts[0], speaker=last)
            last = next((part.speaker for part in reversed(each.parts) if part.speaker is not None), last)


def _name(match: re.Match[str]) -> str:
    return " ".join((match["marked"] or match["numbered"] or match["plain"]).split())


def _named(text: str) -> re.Match[str] | None:
    """The match of a line that begins with what may be a name."""
    match = NAME.match(text)
    if match is None or _name(match).casefold() in NO_NAMES or len(_main(_name(match))) > 5:
        return None
    return match


def _main(name: str) -> list[str]:
    """The words of a name that have a capital, in a script that has capitals."""
    return [word for word in name.split() if word.lower() not in SMALL_WORDS and word[0].isalpha()]


def without_repetition(cues: Sequence[CaptionCue]) -> list[CaptionCue]:
    """The cues without the words that rolling captions, as YouTube's, show again from the cue before.

    Somebody may say the same twice. So most cues have to begin as the one before ends, and then go on.
    """
    pairs = [
        (_repeated(before.words, each.words), each)
        for before, each in itertools.pairwise(cues)
        if before.words and each.words and each.start - before.end <= TOUCHING_S
    ]
    again = sum(k >= MIN_REPEATED_WORDS and (k < len(each.words) or _flashes(each)) for k, each in pairs)
    if not again or again < ROLLING * len(pairs):
        return list(cues)
    shortened: list[CaptionCue] = []
    shown: list[str] = []
    end = -TOUCHING_S
    for each in cues:
        words, touching = each.words, each.start - end <= TOUCHING_S
        repeated = _repeated(shown, words) if touching else 0
        shortened.append(replace(each, parts=_without(each.parts, repeated)))
        shown, end = words, each.end
    return [each for each in shortened if each.words]


def _flashes(cue: CaptionCue) -> bool:
    return cue.end - cue.start <= FLASH_S


def _repeated(before: Sequence[str], words: Sequence[str]) -> int:
    """Number of words at the start of `words` that are the last ones of `before`."""
    longest = min(len(before), len(words), MAX_REPEATED_WORDS)
    return next((k for k in range(longest, 0, -1) if before[-k:] == words[:k]), 0)


def _without(parts: Sequence[Cue], count: int) -> list[Cue]:
    """The parts without their first `count` words."""
    left = []
    for part in parts:
        words = part.text.split()
        left.append(replace(part, text=" ".join(words[count:])))
        count = max(0, count - len(words))
    return left
