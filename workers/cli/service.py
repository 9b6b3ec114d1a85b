"""Commands of the live service: serve, token, schema, export."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from workers.console.errors import RUNTIME, fail, one_line_errors
from workers.console.options import AsrModel, Keep, Prefix, RayAddress, Redis
from workers.console.terminal import harmless, print_json
from workers.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(token)
    app.command()(export)
    app.command()(schema)
    app.command()(spool)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback want --tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8765,
    tokens: Annotated[
        Path | None,
        typer.Option(help="TOML file of who is let in (`undertone token`). [default: who has the printed address]"),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let in every user and program of this machine, as administrator.")
    ] = False,
    record: Annotated[Path | None, typer.Option(help="Let sessions be recorded, in this folder.")] = None,
    keep: Keep = 24.0,
    media: Annotated[Path | None, typer.Option(help="Let sessions play the files of this folder.")] = None,
    pull_from: Annotated[
        list[str] | None,
        typer.Option(help="Let sessions fetch streams from this host; from internal ones, name their network, too."),
    ] = None,
    cors: Annotated[list[str] | None, typer.Option(help="Let this other web origin talk to us.")] = None,
    asr_model: AsrModel = None,
    upload: Annotated[int, typer.Option(min=1, help="Megabytes of a recording that is sent whole.")] = 256,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that senders have to move when we end.")] = 30.0,
    trace: Annotated[
        bool, typer.Option("--trace", help="OpenTelemetry traces to $OTEL_EXPORTER_OTLP_ENDPOINT.")
    ] = False,
    redis: Redis = None,
    redis_operator: Annotated[
        str | None,
        typer.Option(
            envvar="UNDERTONE_REDIS_OPERATOR",
            help="The same Redis as a user who may delete, to forget sessions. [default: as --redis]",
        ),
    ] = None,
    prefix: Prefix = "undertone",
    ray_address: RayAddress = None,
) -> None:
    """Serve sessions over HTTP and WebSockets, with a dashboard, until SIGTERM or Ctrl-C."""
    with one_line_errors():
        for folder in (record, media):
            if folder is not None and not folder.is_dir():
                raise UsageError(f"{folder}: no such folder")
        if trace and not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            raise UsageError("--trace: set OTEL_EXPORTER_OTLP_ENDPOINT to where traces are sent")

        import asyncio

        from stream.bus.connection import BusError, check, check_publishing
        from stream.bus.forget import check_erasing
        from stream.bus.keys import Keys
        from stream.bus.own_server import redis_address
        from stream.sources.reach import Reach
        from workers.console.display import tell
        from workers.gateway.access import read_tokens
        from workers.gateway.middleware import LOCAL

        try:
            Reach(pull_from or ())
        except ValueError as error:
            raise UsageError(f"--pull-from: {error}") from None
        known = read_tokens(tokens) if tokens is not None else None
        if known is None and host not in LOCAL:
            raise UsageError(f"--host {host}: other machines need --tokens FILE (`undertone token NAME`)")
        if known is not None and no_token:
            raise UsageError("--no-token and --tokens contradict each other")
        if no_token:
            tell("warning: with --no-token every user and program of this machine is this gateway's administrator")
        url = redis_address(redis)
        asyncio.run(check(url))
        asyncio.run(check_publishing(url, Keys("any", prefix)))
        if redis_operator is not None:
            try:
                asyncio.run(check(redis_operator))
                asyncio.run(check_erasing(redis_operator, prefix))
            except BusError as error:
                raise BusError(f"--redis-operator: {error}") from None

        from workers.cluster.actors import ray_cluster  # takes seconds, after whatever there was to be refused
        from workers.gateway.serve import serve as run
        from workers.gateway.state import Settings
        from workers.research.downloads import fetch_recognizer

        with ray_cluster(ray_address, trace):
            fetch_recognizer(False, asr_model)
            settings = Settings(
                redis=url, prefix=prefix, record=record and record.resolve(), media=media and media.resolve(),
                pull_from=frozenset(pull_from or ()), origins=frozenset(cors or ()), upload=upload,
                asr_model=asr_model, kept=round(3600 * keep), operator=redis_operator, private_ray=ray_address is None,
                local=known is None,
            )  # fmt: skip
            run(settings, known, host, port, drain, open_to_all=no_token)


def token(
    name: Annotated[
        str | None, typer.Argument(help="Who will use it. [default: print the token of your own running gateway]")
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="ingest, read or admin; several times for several.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of your own running gateway.")] = 8765,
) -> None:
    """Make a bearer token: printed once on stderr; on stdout the lines for serve's --tokens file."""
    with one_line_errors():
        from workers.console.display import tell
        from workers.gateway.access import new_token
        from workers.gateway.local_token import read_token

        if name is None:
            print(read_token(port))
            return
        if not scope:
            raise UsageError(f"token {name}: give --scope ingest, --scope read or --scope admin")
        secret, entry = new_token(name, scope)
        tell(f"token (kept nowhere, note it now): {secret}")
        print(entry)


def export(
    source: Annotated[str, typer.Argument(help="A session id, an events .jsonl file or a recorded folder.")],
    format: Annotated[
        str,
        typer.Option("--format", "-f", help="jsonl, csv, parquet, vtt, srt, rttm, elan, textgrid, emotionml or html."),
    ] = "jsonl",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [default: stdout]")] = None,
    redis: Redis = None,
    prefix: Prefix = "undertone",
) -> None:
    """Write a session as a table, subtitles, tiers for annotators, EmotionML or a report."""
    with one_line_errors():
        import asyncio

        from stream.bus.connection import check
        from stream.bus.keys import Keys
        from stream.bus.own_server import redis_address
        from stream.bus.subscriber import history
        from stream.exports import FORMATS
        from stream.exports import export as write
        from stream.sources.recording import read_events

        if Path(source).exists() or source.endswith(".jsonl"):
            events = read_events(Path(source))
        else:
            url, keys = redis_address(redis), Keys(source, prefix)
            asyncio.run(check(url))
            events = asyncio.run(history(url, keys.session, prefix))
            if not events:
                raise UsageError(f"no session {source!r} in this Redis, and no such file")
        content = write(events, format)
        if out is not None:
            if not out.exists():
                out.touch(mode=0o600)  # words: for others to read only if its user lets them
            out.write_bytes(content)
        elif sys.stdout.isatty() and "text" not in FORMATS[format].media_type and format != "jsonl":
            raise UsageError(f"--format {format} is not for a terminal: give --out FILE")
        elif sys.stdout.isatty() and format == "jsonl":
            print_json(content.decode().rstrip("\n"))
        elif sys.stdout.isatty():
            print(harmless(content.decode()), end="")
        else:
            sys.stdout.buffer.write(content)


def schema(
    interface: Annotated[
        Literal["openapi", "asyncapi"], typer.Argument(help="openapi (the gateway) or asyncapi (the events).")
    ],
) -> None:
    """Print the interface as OpenAPI or AsyncAPI, generated from the code."""
    with one_line_errors():
        from workers.gateway.schema import asyncapi, openapi

        print(openapi() if interface == "openapi" else asyncapi(), end="")


def spool(
    send: Annotated[bool, typer.Option("--send", help="Publish them.")] = False,
    redis: Redis = None,
) -> None:
    """Show the events that wait on this disk because Redis was away when their session ended."""
    with one_line_errors():
        import asyncio
        import sqlite3

        from stream.bus.connection import check
        from stream.bus.keys import Keys
        from stream.bus.own_server import redis_address
        from stream.bus.publisher import Bus
        from stream.bus.spool import Spool, waiting_spools
        from workers.console.display import tell

        url, left = redis_address(redis) if send else "", 0

        async def publish(spool: Spool, keys: Keys) -> bool:
            return await Bus(url, keys, spool=spool).aclose()

        if send:
            asyncio.run(check(url))
        for session, prefix, path in waiting_spools():
            try:
                found = Spool(path)
            except sqlite3.OperationalError:
                tell(f"{session}: in use by a session that goes on")
                continue
            count = len(found)
            if send and asyncio.run(publish(found, Keys(session, prefix))):
                tell(f"{session}: {count} published")
                continue
            found.close()
            left += count
            print(f"{session}  {count} wait in {path}")
        if send and left:
            raise fail("Redis did not take all of them", RUNTIME)
