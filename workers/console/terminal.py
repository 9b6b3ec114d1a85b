"""The one door to the terminal: whatever a command prints goes through it, and nothing in it can steer the terminal.

Words, names, labels, file names and messages of servers come from outside. `guard` puts a `Door` before stdout and
stderr, which leaves control sequences out; the only sequences that pass are those of a `Terminal`, made by rich.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar, cast

import platformdirs
from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from stream.private import NotPrivate, private_folder

STDERR = 2  # file descriptor
MAX_LOG_BYTES = 1 << 20  # of Ray's lines; then one older file is kept
Model = TypeVar("Model", bound=BaseModel)
SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,4096}[ -/]{0,64}[@-~]"  # CSI: colours, the cursor
    # OSC, DCS, SOS, PM, APC: titles, links, the clipboard; up to BEL or ST
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x00-\x1f\x7f-\x9f]{0,4096}(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]{0,64}[0-~]"
)
"""A whole control sequence of ECMA-48: without this, its parameters would stay as text."""
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tabulator and line break, DEL, C1
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # bidi, invisible
    "\ud800-\udfff]"  # half of a surrogate pair
)
"""A character that moves the cursor, changes the order of what is shown, or cannot be written."""
BREAKS = re.compile("[\t\n\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]+")
"""Tabulators and line breaks: what stands at both sides of them are two words."""
MAX_WIDTH = 100_000
"""Characters of a table's line in a pipe."""
READABLE = {
    "–": "-",
    "—": "-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "█": "#",
    "·": ".",
    "●": "*",
    "○": "o",
    "±": "+-",
}
"""ASCII that stands for what Unicode does not decompose."""


def harmless(text: str) -> str:
    """The text without what would steer a terminal; tabulators and line breaks stay."""
    return CONTROL.sub("", SEQUENCE.sub("", text))


def printable(text: str) -> str:
    """The text in one line, without what would steer a terminal."""
    return CONTROL.sub("", BREAKS.sub(" ", SEQUENCE.sub("", text)))


def printable_event(event: Model) -> Model:
    """A copy of an event in which every text is printable."""
    return event.model_copy(update={name: _printable(getattr(event, name)) for name in type(event).model_fields})


def _printable(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case BaseModel():
            return printable_event(value)
        case Mapping():
            return {_printable(key): _printable(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(_printable(each) for each in value)
        case _:
            return value


def print_json(document: str) -> None:
    """Print JSON on stdout, as UTF-8 in any locale, with what could steer a terminal as JSON escapes."""
    line = CONTROL.sub(_escaped, document) + "\n"
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # a test's or a notebook's
        sys.stdout.write(line)
    else:
        sys.stdout.flush()
        buffer.write(line.encode("utf-8"))
    sys.stdout.flush()


def _escaped(found: re.Match[str]) -> str:
    """A character as JSON escapes it: by its UTF-16 code units."""
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


class Door(io.TextIOBase):
    """A text stream that passes on what is harmless to a terminal.

    Libraries, warnings and tracebacks write to it without knowing; `raw` is the stream behind it.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        self.raw.write(harmless(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.raw.flush()

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def writable(self) -> bool:
        return True

    @property
    def buffer(self) -> Any:
        return self.raw.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.raw.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.raw.errors


class Terminal(Console):
    """rich's console behind the door: its own colours and cursor pass, text and links from outside do not steer."""

    @property
    def file(self) -> IO[str]:
        """The stream behind the door, behind rich's own proxy while a live display is on."""
        return behind_door(super().file)

    @file.setter
    def file(self, stream: IO[str]) -> None:
        self._file = stream

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, but tables whole: cells are folded on a terminal; elsewhere lines are of any length."""
        width = self.width
        for table in (each for each in objects if isinstance(each, Table)):
            for column in table.columns:
                column.no_wrap, column.overflow = False, "fold"
            if not self.file.isatty():
                self.width = max(self.width, self.measure(table, options=self.options.update(width=MAX_WIDTH)).maximum)
        try:
            super().print(*objects, **options)
        finally:
            self.width = width

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                style = segment.style
                style = style.update_link(None) if style is not None and style.link else style
                yield Segment(harmless(segment.text), style)


def behind_door(stream: IO[str]) -> TextIO:
    """The stream to write sequences of our own to."""
    return stream.raw if isinstance(stream, Door) else cast(TextIO, stream)


def libraries_log() -> Path:
    """File for what libraries write to the terminal past Python: Ray's C++ does, and its processes do."""
    return platformdirs.user_state_path("undertone") / "ray.log"


def set_libraries_aside() -> None:
    """Have what libraries and processes of ours write to file descriptor 2 kept in `libraries_log`, until this process
    ends; what Python writes to stderr goes on to the terminal. Nothing happens where stderr is not behind the door."""
    door = sys.stderr
    if not isinstance(door, Door) or door.raw.fileno() != STDERR:
        return
    path = libraries_log()
    try:
        private_folder(path.parent)
        with suppress(FileNotFoundError):
            if path.lstat().st_size > MAX_LOG_BYTES:
                path.replace(path.with_suffix(".old.log"))
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (OSError, NotPrivate):  # better on the terminal than nowhere
        return
    door.flush()
    raw = os.fdopen(os.dup(STDERR), "wb", buffering=0)
    terminal = io.TextIOWrapper(raw, encoding=door.raw.encoding, errors=door.raw.errors, write_through=True)
    os.dup2(log, STDERR)
    os.close(log)
    door.raw = terminal


def guard() -> None:
    """Put the door before stdout and stderr, and have characters shown that the terminal's encoding does not have."""
    import typer.rich_utils

    codecs.register_error("readable", _readable)
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="readable")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, cast(TextIO, Door(stream)))
    typer.rich_utils.Console = Terminal  # type: ignore[attr-defined]


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Error handler of codecs: a likeness of characters that an encoding does not have, "?" where there is none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    alike = (unicodedata.normalize("NFKD", READABLE.get(c, c)).encode("ascii", "ignore").decode() for c in missing)
    return "".join(text or "?" for text in alike), error.end
