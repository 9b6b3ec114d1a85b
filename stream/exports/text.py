"""Words and names from events, made safe for one line of text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stream.events import Emotion

# Controls, lone surrogates and noncharacters: XML 1.0 forbids them, and no other format needs them.
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(text: str) -> str:
    """The text as one line, without control characters; runs of blanks and line breaks become one blank."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def distinct(names: Sequence[str]) -> list[str]:
    """The names made unique by a number; an empty name becomes "unknown"."""
    found: dict[str, None] = {}
    for name in names:
        candidate, number = name or "unknown", 1
        while candidate in found:
            number += 1
            candidate = f"{name or 'unknown'}-{number}"
        found[candidate] = None
    return list(found)


def tag(label: Emotion) -> str:
    """The emotion, with a question mark if the label is uncertain."""
    return plain(label.emotion) + ("?" if label.uncertain else "")


def sounds(label: Emotion) -> list[str]:
    """The sounds of the voice that are no words, each kind once, in order of time."""
    return list(dict.fromkeys(each.sound for each in label.voice.sounds)) if label.voice else []
