"""The command line. Heavy imports happen inside the commands, so that --help is instant."""

from __future__ import annotations

import typer

from workers.cli import bench, consume, keep, media, plan, research, service, session
from workers.console.errors import RUNTIME, one_line_errors
from workers.console.options import Checkpoint, Json, RayAddress, Redis
from workers.console.terminal import Terminal, guard, print_json

app = typer.Typer(
    name="undertone",
    help="Recognizes emotion in conversation while it goes on, and publishes it over Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # as "rich", it would take [default: …] for markup and leave it out
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (research, media, service, consume, keep, plan, bench, session):
    group.register(app)


@app.command()
def doctor(redis: Redis = None, checkpoint: Checkpoint = "meld", as_json: Json = False) -> None:
    """Say what is installed, what a session would use, and what is missing."""
    with one_line_errors():
        import json
        from dataclasses import asdict

        from workers.cli.doctor import examine, findings_table

        findings = examine(redis, checkpoint)
        if as_json:
            print_json(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            Terminal().print(findings_table(findings))
        if any(finding.state == "broken" for finding in findings):
            raise typer.Exit(RUNTIME)


@app.command()
def down(ray_address: RayAddress = "auto") -> None:
    """Stop the commands whose sessions publish to the Redis of your own, as Ctrl-C would, then that Redis, whose data
    stay, and every actor of ours in the Ray cluster of this machine, if it has one."""
    with one_line_errors():
        from stream.bus.own_server import end_commands, stop
        from workers.cluster.actors import own_cluster, ray_cluster, stop_all
        from workers.console.display import tell

        stopped = []
        if commands := end_commands():
            tell(f"ended {commands} command{'s' if commands > 1 else ''} of yours, as Ctrl-C would")
        is_there = ray_address != "auto" or own_cluster() is not None
        if is_there:
            with ray_cluster(ray_address):
                stopped = stop_all()
        if redis := stop():
            tell("stopped the Redis of your own; its data stay")
        if is_there:
            tell(f"stopped {len(stopped)} actors" + (f": {', '.join(stopped)}" if stopped else ""))
        elif not redis and not commands:
            tell("nothing of ours is running")


def main() -> None:
    """Entry point of the console script."""
    guard()
    app()
