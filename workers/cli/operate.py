"""Commands about this machine and others: what is here, what is needed, what shall end. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.console.errors import RUNTIME, one_line_errors
from workers.console.options import Checkpoint, Json, RayAddress, Redis, comma_separated
from workers.console.terminal import Terminal, print_json


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


def down(ray_address: RayAddress = "auto") -> None:
    """Stop the Redis of your own, whose data stay, and every actor of ours in the Ray cluster of this machine, if it
    has one."""
    with one_line_errors():
        from stream.bus.own_server import stop
        from workers.cluster.actors import own_cluster, ray_cluster, stop_all
        from workers.console.display import tell

        stopped = []
        is_there = ray_address != "auto" or own_cluster() is not None
        if is_there:
            with ray_cluster(ray_address):
                stopped = stop_all()
        if redis := stop():
            tell("stopped the Redis of your own; its data stay")
        if is_there:
            tell(f"stopped {len(stopped)} actors" + (f": {', '.join(stopped)}" if stopped else ""))
        elif not redis:
            tell("nothing of ours is running")


def plan(
    sessions: Annotated[int, typer.Option(min=1, help="Real-time sessions at once, at the busiest.")],
    asr: Annotated[str, typer.Option(help="A recognizer of speech that was measured, or none.")] = "none",
    modalities: Annotated[str, typer.Option(help="Of text, audio, visual; comma-separated.")] = "text,audio",
    one_microphone: Annotated[
        bool, typer.Option("--one-microphone", help="Speakers are told apart by voice; else each has a channel.")
    ] = False,
    utterances_per_minute: Annotated[
        float | None, typer.Option(min=0.1, help="Of a session. [default: as measured]")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.1, max=24, help="A day at this load.")] = 24.0,
    cores_per_node: Annotated[int, typer.Option(min=1, help="Cores of a node.")] = 16,
    memory_per_node: Annotated[float, typer.Option(min=1, help="GB of a node, and of a Redis shard.")] = 64.0,
    utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="Share of all that is planned to be used.")] = 0.6,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of a node, with --gpu-steps-per-second.")] = 1,
    gpu_steps_per_second: Annotated[
        float | None,
        typer.Option(min=1, help="Steps of the graph on one GPU, which was not measured by us. [default: no GPU]"),
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="Results of `undertone bench all`, of your machine. [default: ours]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Nodes, memory, Redis and network that so many sessions need, from what one was measured to cost."""
    with one_line_errors():
        import json
        from dataclasses import asdict

        from workers.bench.report.capacity_plan import Demand, Machines, plan_capacity
        from workers.bench.report.costs import SHIPPED, read_costs

        wanted = tuple(dict.fromkeys(comma_separated(modalities)))
        demand = Demand(sessions, None if asr == "none" else asr, wanted, one_microphone, utterances_per_minute, hours)
        machines = Machines(cores_per_node, memory_per_node, utilisation, gpus, gpu_steps_per_second)
        planned = plan_capacity(demand, machines, read_costs(measured or SHIPPED))
        if as_json:
            print_json(
                json.dumps({**asdict(planned), "demand": asdict(demand), "machines": asdict(machines)}, indent=2)
            )
            return

        from workers.bench.report.capacity_plan import rows_of
        from workers.console.tables import rows_table

        console = Terminal()
        for title, rows in rows_of(planned, machines).items():
            console.print(rows_table(title, rows))
        console.print("Assumed", style="bold")
        for line in planned.assumptions:
            console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
