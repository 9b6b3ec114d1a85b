"""`python -m tests.chaos kills`: the campaigns, with a table and a file of figures."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from rich.console import Console
from rich.table import Table

from tests.chaos.kills import KINDS, WAYS, Plan, Tally, campaign
from tests.chaos.service import Service
from tests.chaos.truth import Verdict
from tests.support.redis_servers import private_server, server
from workers.cluster.actors import ray_cluster

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Seed = Annotated[int, typer.Option(help="Of the random moments and victims.")]
Out = Annotated[Path | None, typer.Option(help="Write the figures there, as JSON.")]


@app.callback()
def main() -> None:
    """Faults on purpose. Each campaign ends with 1 if a consumer would have seen something wrong."""


@app.command()
def kills(
    number: Annotated[int, typer.Option(min=1, help="How many processes.")] = 200,
    seed: Seed = 7,
    shortest: Annotated[float, typer.Option(help="Seconds between two, at least.")] = 1.0,
    longest: Annotated[float, typer.Option(help="Seconds between two, at most.")] = 4.0,
    way: Annotated[list[str] | None, typer.Option(help=f"Ways in: {', '.join(WAYS)}. [default: all]")] = None,
    out: Out = None,
) -> None:
    """`kill -9` of sessions that came in on every way, midway, and of encoders, recognizers, transcribers, gateways."""
    ways = tuple(way or WAYS)
    if not set(ways) <= set(WAYS):
        raise typer.BadParameter(f"--way: one of {', '.join(WAYS)}")
    begun, say = _clock()
    with tempfile.TemporaryDirectory() as folder, private_server() as redis, ray_cluster(None):
        service = Service(Path(folder), redis, ray.get_runtime_context().gcs_address)
        plan = Plan(seed, (shortest, longest), number, lanes=ways, midway=True)
        try:
            tallies, verdicts = asyncio.run(campaign(service, plan, say))
        finally:
            service.close()
    _close(seed, begun, tallies, verdicts, out)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=1, help="Of wall clock.")] = 60.0,
    sessions: Annotated[int, typer.Option(min=3, help="In real time, at once.")] = 8,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two faults, on average.")] = 30.0,
    seed: Seed = 7,
    out: Out = None,
) -> None:
    """Sessions in real time, with a fault of any kind now and then: processes, Redis killed or paused."""
    begun, say = _clock()
    lanes = tuple(("given", "live", "given", "heard")[n % 4] for n in range(sessions))
    plan = Plan(
        seed, (0.5 * every, 1.5 * every), seconds=60 * minutes, lanes=lanes,
        kinds=(*KINDS, "redis", "redis paused"), speed=1.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name, ray_cluster(None):
        folder = Path(name)
        (folder / "redis").mkdir()
        with server(folder / "redis", "--appendonly", "yes") as redis:
            service = Service(folder, redis.url, ray.get_runtime_context().gcs_address, server=redis)
            try:
                tallies, verdicts = asyncio.run(campaign(service, plan, say))
            finally:
                service.close()
    _close(seed, begun, tallies, verdicts, out)


@app.command("nodes")
def nodes_command(
    number: Annotated[int, typer.Option(min=1, help="How many kills.")] = 12,
    control: Annotated[bool, typer.Option(help="Ray's control store, kept in Redis, instead of nodes.")] = False,
    seed: Seed = 7,
    out: Out = None,
) -> None:
    """Kill whole nodes of a cluster of a head and two workers."""
    from tests.chaos import nodes

    begun, say = _clock()
    with (
        tempfile.TemporaryDirectory() as folder,
        private_server() as redis,
        private_server() as books,
        nodes.cluster(books if control else None) as made,
    ):
        lose = nodes.lose_control if control else nodes.lose_node
        tally, verdicts = asyncio.run(nodes.campaign(made, lose, redis, Path(folder), number, seed, say))
    _close(seed, begun, {"control store" if control else "node": tally}, verdicts, out)


@app.command("network")
def network_command(
    cut: Annotated[float, typer.Option(help="Seconds for which nothing gets through.")] = 60.0,
    seed: Seed = 7,
    out: Out = None,
) -> None:
    """A late, lossy, cut network between gateway, sessions and Redis, and between a sender and the gateway."""
    from tests.chaos import network

    begun, say = _clock()

    async def work(folder: Path, redis: str) -> dict[str, Verdict]:
        away = network.Relay(int(redis.rpartition(":")[2].partition("/")[0]), seed)
        await away.start()
        through = f"redis://127.0.0.1:{away.port}/0"
        address = ray.get_runtime_context().gcs_address
        service = await asyncio.to_thread(Service, folder, redis, address, 1, through)
        front = network.Relay(service.gateways[0].port, seed + 1)
        await front.start()
        try:
            return await network.campaign(service, away, front, cut, say)
        finally:
            service.close()
            await away.aclose()
            await front.aclose()

    with tempfile.TemporaryDirectory() as folder, private_server() as redis, ray_cluster(None):
        verdicts = asyncio.run(work(Path(folder), redis))
    _close(seed, begun, {}, verdicts, out)


def _clock() -> tuple[float, Callable[[str], None]]:
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {line}", file=sys.stderr, flush=True)

    return begun, say


def _close(seed: int, begun: float, tallies: dict[str, Tally], verdicts: dict[str, Verdict], out: Path | None) -> None:
    """Show and keep the figures; exit with what they say."""
    figures: dict[str, Any] = {
        "seed": seed,
        "seconds": round(time.monotonic() - begun),
        "kills": {kind: tally.row() for kind, tally in sorted(tallies.items())},
        "sessions": {kind: asdict(verdict) for kind, verdict in verdicts.items()},
    }
    if tallies:
        _show(figures["kills"], "killed")
    _show({kind: row | {"notes": len(row["notes"])} for kind, row in figures["sessions"].items()}, "sessions")
    for row in figures["sessions"].values():
        for note in row["notes"]:
            print(note, file=sys.stderr)
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(0 if all(verdict.clean for verdict in verdicts.values()) else 1)


def _show(rows: dict[str, dict[str, object]], title: str) -> None:
    table = Table(title, *next(iter(rows.values()), {}), box=None, header_style="bold")
    for name, row in rows.items():
        table.add_row(name, *(str(value) for value in row.values()))
    Console(width=200).print(table)


if __name__ == "__main__":
    app()
