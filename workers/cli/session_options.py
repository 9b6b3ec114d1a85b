"""The settings of a session as options of a command, made from the fields of `SessionSettings`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from stream.errors import readable
from workers.console import options
from workers.console.errors import one_line_errors, plain
from workers.errors import UsageError
from workers.session.settings import Help, SessionSettings

Command = Callable[..., None]
BY_HAND = {"recorded", "kept", "agreement"}
"""Fields that commands set from options of another kind (--record FOLDER, --keep HOURS), or that they do not have."""
PARSERS: dict[str, Callable[[str | None], Any]] = {
    "modalities": options.comma_separated,
    "names": lambda text: dict(enumerate(options.comma_separated(text))),
}
"""Fields of a type that no option has: the option is a text."""


def session_options(without: Collection[str] = (), **defaults: Any) -> Callable[[Command], Command]:
    """Decorate a command that takes `settings`: instead, it gets an option for each field of `SessionSettings`.

    without: fields that this command does not offer; defaults: where they are not the fields' own.
    """
    offered = {
        name: field for name, field in SessionSettings.model_fields.items() if name not in BY_HAND | set(without)
    }

    def decorate(command: Command) -> Command:
        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in offered}
            values = {name: readable(value) if isinstance(value, str) else value for name, value in values.items()}
            values |= {name: PARSERS[name](values[name]) for name in PARSERS.keys() & values}
            with one_line_errors():
                settings = _settings(values)
            command(settings=settings, **given)

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name == "settings":
                parameters += [_parameter(name, field, defaults) for name, field in offered.items()]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        functools.update_wrapper(run, command)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def given_options(context: typer.Context) -> set[str]:
    """Names of the parameters that stand on the command line."""
    return {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}


def _settings(values: dict[str, Any]) -> SessionSettings:
    """Raises UsageError."""
    try:
        return SessionSettings(**values)
    except ValidationError as error:
        option = str(error.errors()[0]["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option}: {plain(error)}") from None


def _parameter(name: str, field: FieldInfo, defaults: dict[str, Any]) -> inspect.Parameter:
    """The parameter of a command that Typer makes the field's option of."""
    default = defaults.get(name, field.default)
    kind: Any = field.annotation
    if name in PARSERS:
        kind, default = str | None, ",".join(default) or None
    annotation = options.Session if name == "session" else Annotated[kind, _option(name, field, default)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(name: str, field: FieldInfo, default: Any) -> Any:
    """Typer's option for a field. A switch that is off by default has no --no-…"""
    flags = [f"--{name.replace('_', '-')}"] if default is False else []
    text = next(part.text for part in field.metadata if isinstance(part, Help))
    if default is not None:
        text = text.partition(" [default:")[0]  # Typer shows it
    bounds = {
        bound: getattr(part, kind)
        for bound, kind in (("min", "ge"), ("max", "le"))
        for part in field.metadata
        if hasattr(part, kind)
    }
    return typer.Option(*flags, help=text, **bounds)
