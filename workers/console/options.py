"""Options that several commands share, each declared once with its validation."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

RAY = re.compile(r"auto|\w+://.+|.+:\d{1,5}")


def _matching(pattern: re.Pattern[str], wanted: str) -> Callable[[Any], Any]:
    """A callback for an option or argument that has one text, several, or none."""

    def check(given: Any) -> Any:
        for text in [given] if isinstance(given, str) else given or ():
            if not pattern.fullmatch(text):
                raise typer.BadParameter(f"{text!r}: {wanted}")
        return given

    return check


def _name(of_prefix: bool) -> Callable[[Any], Any]:
    """A callback for a session's id, or for a prefix: braces would put sessions elsewhere in a Redis Cluster."""

    def check(given: Any) -> Any:
        from stream.bus.keys import PREFIXES, SESSION_ID

        pattern, colon = (PREFIXES, ", ':'") if of_prefix else (SESSION_ID, "")
        return _matching(pattern, f"letters, digits, '.', '_'{colon} and '-', at most 64")(given)

    return check


def _redis(given: str | None) -> str | None:
    """A callback for an address of Redis, which may have a password."""
    from stream.bus.connection import public, unclear

    if given and (fault := unclear(given)):
        raise typer.BadParameter(f"{public(given)}: {fault}")
    return given


Redis = Annotated[
    str | None,
    typer.Option(callback=_redis, help="Redis URL. [default: $UNDERTONE_REDIS, else one of your own]"),
]
Ephemeral = Annotated[
    bool,
    typer.Option(
        "--ephemeral", help="A Redis of this command's own, without data on disk, that no other finds and ends with it."
    ),
]
Prefix = Annotated[str, typer.Option(callback=_name(of_prefix=True), help="Prefix of all keys in Redis.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        callback=_matching(RAY, "HOST:PORT, ray://HOST:PORT or auto"),
        help="Join this Ray cluster instead of starting one here.",
    ),
]
Session = Annotated[
    str | None,
    typer.Option(callback=_name(of_prefix=False), help="Id of the session. [default: made from the source's name]"),
]
Sessions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SESSION",
        callback=_name(of_prefix=False),
        help="Ids, as the command that runs a session prints them.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, everything else on stderr.")]
Checkpoint = Annotated[str, typer.Option(help="A shipped checkpoint's name or a folder.")]
AsrModel = Annotated[
    str | None,
    typer.Option(help="faster-whisper: a size, Hugging Face id or folder. [default: base, or what is here]"),
]
Keep = Annotated[
    float, typer.Option(min=0.01, max=87_600, help="Hours that Redis keeps the events after a session's last.")
]
Clips = Annotated[Path | None, typer.Option(help="Folder of RAVDESS-named clips. [default: $UNDERTONE_DATA/ravdess]")]
Faces = Annotated[
    Path | None, typer.Option(help="Folder of pictures named by expression. [default: $UNDERTONE_DATA/faces]")
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]


def comma_separated(text: str | None) -> list[str]:
    """The parts of an option's text."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
