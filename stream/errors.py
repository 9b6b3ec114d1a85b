"""What is said of input that cannot be used."""

from __future__ import annotations

SHOWN = 400  # characters: what is longer repeats the input instead of saying what is wrong with it


def one_line(message: str) -> str:
    """A message that repeats input, for people: control characters (line breaks, a terminal's escapes, half surrogates)
    written out, and short."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return line if len(line) <= SHOWN else f"{line[: SHOWN // 2]} … {line[-SHOWN // 3 :]}"


class InputError(Exception):
    """Something from outside cannot be used. The message is one line for the user, whatever the input holds."""

    exit_code, http_status = 2, 422

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class MediaError(InputError):
    """A source that cannot be read; the message is one line for the user."""
