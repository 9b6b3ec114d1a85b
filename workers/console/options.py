"""Options that several commands share, each declared once with its validation."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from model.device import DeviceChoice
from workers.console.errors import USAGE, fail, plain

MANY_OPTIONS = 14
"""Options from which on --help shows a command's in panels."""
PANELS = {
    "Address and access": ("host", "port", "tokens", "no_token", "cors", "drain"),
    "Source": (
        "speed", "channels", "track", "seconds", "reconnect", "resume", "media", "pull_from", "upload",
    ),
    "Speakers": ("names", "speakers", "people", "enrolled", "rttm", "vad"),
    "Words": ("asr", "asr_model", "language", "transcript", "reference", "redact", "mask"),
    "Models and labels": ("checkpoint", "modalities", "device", "preload", "interim", "speculate"),
    "Output": ("session", "title", "consent", "record", "as_json", "trace"),
    "Redis and Ray": ("redis", "ephemeral", "redis_operator", "prefix", "keep", "ray_address"),
}  # fmt: skip
"""Parameters of commands by the panel of --help that they stand in."""
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}

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


_ray = _matching(RAY, "HOST:PORT, ray://HOST:PORT or auto")

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
        callback=_ray,
        help="Use this Ray cluster (HOST:PORT, ray://HOST:PORT or auto) instead of starting one here.",
    ),
]
RunningRay = Annotated[str, typer.Option(callback=_ray, help="Ray cluster; auto: the one here.")]
Session = Annotated[
    str | None,
    typer.Option(callback=_name(of_prefix=False), help="Id of the session. [default: made from the source's name]"),
]
Sessions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SESSION",
        callback=_name(of_prefix=False),
        help="Ids of sessions (`undertone sessions`).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; messages go to stderr.")]
Checkpoint = Annotated[str, typer.Option(help="Name of a shipped checkpoint, or a folder.")]
AsrModel = Annotated[
    str | None,
    typer.Option(help="Whisper model: a size, Hugging Face id or folder. [default: base, or what is here]"),
]
OnDevice = Annotated[DeviceChoice, typer.Option(help="Where models run; auto = on a GPU where there is one.")]
Keep = Annotated[
    float, typer.Option(min=0.01, max=87_600, help="Hours that Redis keeps a session after its last event.")
]
Clips = Annotated[Path | None, typer.Option(help="Folder of RAVDESS-named clips. [default: $UNDERTONE_DATA/ravdess]")]
Faces = Annotated[
    Path | None, typer.Option(help="Folder of pictures named by expression. [default: $UNDERTONE_DATA/faces]")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


def comma_separated(text: str | None) -> list[str]:
    """The parts of an option's text."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


class PlainGroup(TyperGroup):
    """The group of all commands, which tells of a bad value in one line."""

    def invoke(self, ctx: Any) -> Any:
        """Raises typer.Exit."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if error.param is None or not error.message:  # an argument that is missing: the usage says more
                raise
            from pydantic import ValidationError

            fault = plain(error.__cause__) if isinstance(error.__cause__, ValidationError) else error.message
            name = error.param.opts[0] if error.param.param_type_name == "option" else error.param.metavar
            raise fail(f"{name or str(error.param.name).upper()}: {fault}", USAGE) from None


class PanelledCommand(TyperCommand):
    """A command whose options stand in `PANELS` if there are many of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_panels = False
        options = [each for each in self.params if isinstance(each, TyperOption)]
        if len(options) < MANY_OPTIONS:
            return
        for option in options:
            option.rich_help_panel = option.rich_help_panel or PANEL_OF.get(option.name or "")
        order = {name: number for number, name in enumerate(PANEL_OF)}
        options.sort(key=lambda option: order.get(option.name or "", len(order)))
        self.params = [*(each for each in self.params if not isinstance(each, TyperOption)), *options]
        self._in_panels = True

    def get_help_option(self, ctx: Any) -> TyperOption | None:
        option = super().get_help_option(ctx)
        if option is not None and self._in_panels:
            option.rich_help_panel = "Help"  # else a panel of its own comes first, before what somebody looks for
        return option
