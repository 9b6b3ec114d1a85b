"""The command line as it can be typed: every command, its arguments and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from tests.support.paths import ROOT
from workers.cli.app import app

PLAIN = (str, int, float, bool)
TYPES = {int: "integer", float: "number", bool: "yes or no"}


def described() -> dict[str, Any]:
    """By the words of each command."""
    return dict(sorted(_commands(typer.main.get_command(app), "undertone")))


def _commands(command: Any, words: str) -> list[tuple[str, Any]]:
    if hasattr(command, "commands"):
        return [each for name, sub in command.commands.items() for each in _commands(sub, f"{words} {name}")]
    parameters = [_parameter(each) for each in command.params]
    arguments = [each for names, each in parameters if not names]
    options = {" ".join(names): each for names, each in parameters if names}
    return [(words, {"arguments": arguments, "options": dict(sorted(options.items()))})]


def _parameter(parameter: Any) -> tuple[list[str], dict[str, Any]]:
    """An option's names, an argument's none, and what it takes. A text of which only some are accepted may be declared
    as a choice or not: it is text. So is a path."""
    default = parameter.default
    found: dict[str, Any] = {"type": TYPES.get(parameter.type_descriptor.annotation, "text")}
    found |= {limit: value for limit in ("min", "max") if (value := getattr(parameter, limit, None)) is not None}
    if isinstance(default, Path):
        default = str(default.relative_to(ROOT) if default.is_relative_to(ROOT) else default)
    found |= {
        "default": default if isinstance(default, PLAIN) else None,
        "required": parameter.required,
        "several": bool(parameter.multiple) or parameter.nargs == -1,
    }
    if parameter.envvar:
        found["variable"] = parameter.envvar
    if parameter.param_type_name == "argument":
        return [], found
    return [*parameter.opts, *parameter.secondary_opts], found | {"flag": parameter.is_flag}
