"""Errors of this package. Each class says how a command exits and what a gateway answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

MAX_MESSAGE_CHARACTERS = 400  # what is longer repeats the input instead of saying what is wrong with it


def one_line(message: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """A message that repeats input, for people: control characters (line breaks, a terminal's escapes, half surrogates)
    written out, and shortened in the middle to about `limit` characters."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-limit // 3 :]}"


def readable(argument: str) -> str:
    """An argument or a file's name as events can have it: Python keeps bytes that are not in the locale's encoding as
    half surrogates, and these are UTF-8 after all, or replaced."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# In quotes, or after a space, a bracket or at the start: then up to the last slash before a sign that ends a clause.
QUOTED_FOLDERS = re.compile(r"""(?<=(['"]))~?/(?:(?!\1).)*/""")
FOLDERS = re.compile(r"""(?<![^\s(\[=])~?/(?![\s/])(?:(?![:;,]\s|[)\]"]).)*/""")


def without_folders(message: str, known: Iterable[Path] = ()) -> str:
    """A message for other machines: of absolute paths the last part alone, since folders tell of this one.

    known: folders, whose names may be so odd that they cannot be told from text.
    """
    for folder in sorted(known, key=lambda folder: len(str(folder)), reverse=True):
        for prefix in (folder, folder.parent):
            if prefix.name:
                message = message.replace(f"{prefix}/", "")
    return FOLDERS.sub("", QUOTED_FOLDERS.sub("", message))


class StreamError(Exception):
    """Base of this package's errors. The message is one line for the user, whatever the input holds."""

    exit_code = 1
    """Exit code of a command that fails with this error: 2 for what the user asked, 1 for what happened."""
    http_status = 503
    """Status of the gateway's answer."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class InputError(StreamError):
    """Input that cannot be used."""

    exit_code, http_status = 2, 422


class MediaError(InputError):
    """A source that cannot be read."""
