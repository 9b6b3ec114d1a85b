"""Errors about input that cannot be used."""

from __future__ import annotations

MAX_MESSAGE_CHARACTERS = 400  # a longer message repeats the input instead of naming the fault


def one_line(message: str) -> str:
    """A message as one short, printable line: control characters that it repeats from input (line breaks, a terminal's
    escapes, half surrogates) are written out."""
    limit = MAX_MESSAGE_CHARACTERS
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-limit // 3 :]}"


class InputError(Exception):
    """Input from outside cannot be used. The message is one line for the user, whatever the input holds."""

    exit_code, http_status = 2, 422

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))
