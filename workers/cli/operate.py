"""Commands about this machine and others: what is here, what is needed, what shall end. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.console.errors import RUNTIME, one_line_errors
from workers.console.options import Checkpoint, Json, Redis, RunningRay, comma_separated
from workers.console.terminal import Terminal, print_json

if TYPE_CHECKING:
    from workers.bench.report.capacity_plan import CapacityPlan, Machines


def doctor(redis: Redis = None, checkpoint: Checkpoint = "meld", as_json: Json = False) -> None:
    """Check this installation: what is here, what a session would use, what is missing and how to get it.

    Exit code 1 if something is broken. With `--json` a list of `{part, state, detail}`; state: ok, missing or broken.
    """
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


def down(ray_address: RunningRay = "auto") -> None:
    """Stop what runs in the background: commands whose sessions publish to the Redis of your own, as Ctrl-C would, then
    that Redis (its data stay), and models and sessions in Ray."""
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


def plan(
    sessions: Annotated[int, typer.Option(min=1, help="Real-time sessions at once, at the busiest.")],
    asr: Annotated[str, typer.Option(help="Speech recognizer, one that was measured, or none.")] = "none",
    modalities: Annotated[
        str, typer.Option(help="What sessions use: text, audio, visual; comma-separated.")
    ] = "text,audio",
    one_microphone: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the sessions whose speakers share a microphone and are told apart by voice; in the others "
            "each has a channel.",
        ),
    ] = 0.0,
    utterances_per_minute: Annotated[
        float | None, typer.Option(min=0.1, help="Utterances a minute in a session. [default: as measured]")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.1, max=24, help="Hours a day at this load.")] = 24.0,
    cores_per_node: Annotated[int, typer.Option(min=1, help="CPU cores of a machine.")] = 16,
    memory_per_node: Annotated[
        float, typer.Option(min=1, help="GB of memory of a machine, and of a Redis shard.")
    ] = 64.0,
    utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="Share of the machines that may be busy.")] = 0.6,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="A GPU in each machine: h100, or the file that deploy/gpu_check.py wrote on yours. [default: none]"
        ),
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="Results of `undertone bench all` on your machine. [default: ours]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate the machines, memory, Redis and network that so many sessions need, from what one was measured to cost.

    With `--json` an object `{nodes, bound_by, nodes_for, cores, memory_gb, gpus, redis, network_mbit, assumptions,
    one_microphone, demand, machines}`.
    """
    with one_line_errors():
        import json
        from dataclasses import asdict

        from workers.bench.report.capacity_plan import Demand, Machines, plan_capacity
        from workers.bench.report.costs import SHIPPED, SHIPPED_GPU, read_costs, read_gpu

        wanted = tuple(dict.fromkeys(comma_separated(modalities)))
        demand = Demand(sessions, None if asr == "none" else asr, wanted, one_microphone, utterances_per_minute, hours)
        on_gpu = None if gpu is None else read_gpu(SHIPPED_GPU if gpu == "h100" else Path(gpu))
        machines = Machines(cores_per_node, memory_per_node, utilisation, on_gpu)
        planned = plan_capacity(demand, machines, read_costs(measured or SHIPPED))
        if as_json:
            print_json(
                json.dumps({**asdict(planned), "demand": asdict(demand), "machines": asdict(machines)}, indent=2)
            )
            return

        _print_plan(planned, machines)


def _print_plan(planned: CapacityPlan, machines: Machines) -> None:
    from workers.bench.report.capacity_plan import rows_of
    from workers.console.tables import rows_table

    console = Terminal()
    for title, rows in rows_of(planned, machines).items():
        console.print(rows_table(title, rows))
    console.print("Assumed", style="bold")
    for line in planned.assumptions:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
