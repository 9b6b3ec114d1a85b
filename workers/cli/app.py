"""The command line: all commands in their panels. Heavy imports happen inside them, so that --help is instant."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Annotated

import typer

from stream import __version__
from workers.cli import bench, consume, demo, keep, media, operate, research, service, session
from workers.console.options import PanelledCommand, PlainGroup
from workers.console.terminal import guard
from workers.session.settings import SessionSettings

PANELS = {
    "Listen": (session.live, session.replay, demo.demo, service.serve),
    "See": (consume.watch, consume.top, keep.sessions, service.export, keep.corrections, consume.alert),
    "Operate": (
        operate.doctor, media.enroll, service.token, keep.forget, service.spool, operate.plan, operate.down,
        media.models,
    ),
    "Research": (
        research.train, research.evaluate, research.prepare, research.study, media.train_voice, media.fit_experts,
        media.compose, service.schema, bench.bench,
    ),
}  # fmt: skip
"""Commands and groups of commands, as --help shows them."""

app = typer.Typer(
    name="undertone",
    cls=PlainGroup,
    help="Recognizes emotion in conversation while it goes on, and publishes it over Redis. "
    "Begin with `undertone demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # as "rich", it would take [[rule]] and [default: …] for markup and leave them out
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in PANELS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel, cls=PanelledCommand)(command)


def _version(wanted: bool) -> None:
    """A callback that prints the version and ends the command. Raises typer.Exit."""
    if wanted:
        checkpoint = SessionSettings.model_fields["checkpoint"].default
        print(f"undertone {__version__}, Python {platform.python_version()}, checkpoint {checkpoint}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of no command."""


def command_line() -> Callable[[], None]:
    """The console script, ready to run the command that its arguments name."""
    guard()
    command = typer.main.get_command(app)
    return lambda: command()


def main() -> None:
    """Run the command that the arguments name (`workers.cli.main` is the console script's entry point)."""
    command_line()()
