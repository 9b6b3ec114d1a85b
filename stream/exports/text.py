"""Words and names from outside, made fit for a line of text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stream.events import Emotion

# Controls, lone surrogates and noncharacters: XML 1.0 forbids them, and no other format is better for them.
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(text: str) -> str:
    """One line without control characters; every run of blanks and line breaks becomes a blank."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def distinct(names: Sequence[str]) -> list[str]:
    """The names with a number added wherever one came before; an empty one is "unknown"."""
    found: dict[str, None] = {}
    for name in names:
        candidate, number = name or "unknown", 1
        while candidate in found:
            number += 1
            candidate = f"{name or 'unknown'}-{number}"
        found[candidate] = None
    return list(found)


def tag(label: Emotion) -> str:
    """The emotion, with a question mark when it is uncertain."""
    return plain(label.emotion) + ("?" if label.uncertain else "")
