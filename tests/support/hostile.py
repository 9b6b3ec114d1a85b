"""Text that tries to steer a terminal, and what is left of it in an output."""

from __future__ import annotations

import re

CHANNELS = (
    "\x1b[8;47m",  # hidden text
    "\x1b[3J\x1b[7;7H",  # a clean screen
    "\x9b8;47m",  # the same in one character (C1)
    "\x1b]0;pwned\x07",  # the title
    "\x1b]8;;http://evil\x1b\\",  # a link
    "\x1b]52;c;ZXZpbA==\x07",  # the clipboard
    "\x9d0;pwned\x9c",
    "\x1bP1$r0;pwned\x1b\\",
    "\x07",
    "\x08",
    "\x7f",
    "\x84",
    "\u202e",  # right to left
    "\u2066",
    "\u200f",
    "\ud83d",  # half of a pair
    "\x00",
)
HOSTILE = "Hello " + "".join(channel for channel in CHANNELS if channel != "\ud83d") + "Evil"
"""All of them that an event can hold, with words at both ends."""
_OWN = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\]22;[a-z-]*\x07")  # rich's and Textual's
_STEERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def steering(output: str) -> list[str]:
    """Sequences of HOSTILE in an output, and controls that are not those of a display."""
    sequences = [part for part in CHANNELS if len(part) > 1 and part in output]
    return sequences + [repr(control) for control in _STEERS.findall(_OWN.sub("", output))]
