"""Commands of the live service: serve, token, schema, export."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from workers.console.errors import RUNTIME, USAGE, fail, one_line_errors
from workers.console.options import Prefix


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
    tokens: Annotated[Path | None, typer.Option(help="TOML file of who is let in (`undertone token`).")] = None,
    record: Annotated[Path | None, typer.Option(help="Let sessions be recorded, in this folder.")] = None,
    keep: Annotated[
        float, typer.Option(min=0.01, max=87_600, help="Hours that Redis keeps events after a session's last.")
    ] = 24.0,
    media: Annotated[Path | None, typer.Option(help="Let sessions play the files of this folder.")] = None,
    pull_from: Annotated[
        list[str] | None,
        typer.Option(help="Let sessions fetch streams from this host; from internal ones, name their network, too."),
    ] = None,
    cors: Annotated[list[str] | None, typer.Option(help="Let this other web origin talk to us.")] = None,
    asr_model: Annotated[
        str | None,
        typer.Option(help="faster-whisper: a size, Hugging Face id or folder. [default: base, or what is here]"),
    ] = None,
    upload: Annotated[int, typer.Option(min=1, help="Megabytes of a recording that is sent whole.")] = 256,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that senders have to move when we end.")] = 30.0,
    trace: Annotated[
        bool, typer.Option("--trace", help="OpenTelemetry traces to $OTEL_EXPORTER_OTLP_ENDPOINT.")
    ] = False,
    redis: Annotated[
        str | None, typer.Option(help="Redis URL. [default: $UNDERTONE_REDIS, localhost, or a private one]")
    ] = None,
    redis_operator: Annotated[
        str | None,
        typer.Option(
            envvar="UNDERTONE_REDIS_OPERATOR",
            help="The same Redis as a user who may delete, to forget sessions. [default: as --redis]",
        ),
    ] = None,
    prefix: Prefix = "undertone",
    ray_address: Annotated[str | None, typer.Option(help="Join this Ray cluster instead of starting one here.")] = None,
) -> None:
    """Serve sessions over HTTP and WebSockets, with a dashboard, until SIGTERM or Ctrl-C."""
    with one_line_errors():
        for folder in (record, media):
            if folder is not None and not folder.is_dir():
                raise fail(f"{folder}: no such folder", USAGE)
        if trace and not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            raise fail("--trace: set OTEL_EXPORTER_OTLP_ENDPOINT to where traces are sent", USAGE)

        from stream.bus.connection import public
        from stream.bus.server import redis_url
        from stream.sources.reach import Reach
        from workers.cluster.actors import ClusterError, ray_cluster
        from workers.console.display import tell
        from workers.gateway.access import AccessError, read_tokens
        from workers.gateway.middleware import LOCAL
        from workers.gateway.serve import ServeError
        from workers.gateway.serve import serve as run
        from workers.gateway.state import Settings
        from workers.research.downloads import fetch_recognizer

        try:
            Reach(pull_from or ())
        except ValueError as error:
            raise fail(f"--pull-from: {error}", USAGE) from None
        try:
            known = read_tokens(tokens) if tokens is not None else None
            if known is None and host not in LOCAL:
                raise fail(f"--host {host} would let everybody in: give --tokens FILE (`undertone token NAME`)", USAGE)
            fetch_recognizer(False, asr_model)
            with redis_url(redis) as url, ray_cluster(ray_address, trace):
                settings = Settings(
                    redis=url, prefix=prefix, record=record and record.resolve(), media=media and media.resolve(),
                    pull_from=frozenset(pull_from or ()), origins=frozenset(cors or ()), upload=upload,
                    asr_model=asr_model, kept=round(3600 * keep), operator=redis_operator,
                )  # fmt: skip
                tell(f"http://{host}:{port}  events: {public(url)}")
                run(settings, known, host, port, drain, private_ray=ray_address is None)
        except (AccessError, ServeError) as error:
            raise fail(error, USAGE) from None
        except ClusterError as error:
            raise fail(error, RUNTIME) from None


def token(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[list[str], typer.Option(help="ingest, read or admin; several times for several.")],
) -> None:
    """Make a bearer token: printed once on stderr; on stdout the lines for serve's --tokens file."""
    with one_line_errors():
        from workers.console.display import tell
        from workers.gateway.access import AccessError, new_token

        try:
            secret, entry = new_token(name, scope)
        except AccessError as error:
            raise fail(error, USAGE) from None
        tell(f"token (kept nowhere, note it now): {secret}")
        print(entry)


def export(
    source: Annotated[str, typer.Argument(help="A session id, an events .jsonl file or a recorded folder.")],
    format: Annotated[
        str,
        typer.Option("--format", "-f", help="jsonl, csv, parquet, vtt, srt, rttm, elan, textgrid, emotionml or html."),
    ] = "jsonl",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [default: stdout]")] = None,
    redis: Annotated[str | None, typer.Option(help="Redis URL. [default: $UNDERTONE_REDIS, localhost]")] = None,
    prefix: Prefix = "undertone",
) -> None:
    """Write a session as a table, subtitles, tiers for annotators, EmotionML or a report."""
    with one_line_errors():
        import asyncio

        from stream.bus.connection import check
        from stream.bus.keys import Keys
        from stream.bus.server import DEFAULT
        from stream.bus.subscriber import history
        from stream.exports import FORMATS, ExportError
        from stream.exports import export as write
        from stream.sources.recording import read_events

        try:
            if Path(source).exists() or source.endswith(".jsonl"):
                events = read_events(Path(source))
            else:
                url = redis or os.environ.get("UNDERTONE_REDIS") or DEFAULT
                try:
                    Keys(source, prefix)
                except ValueError as error:
                    raise fail(error, USAGE) from None
                asyncio.run(check(url))
                events = asyncio.run(history(url, source, prefix))
                if not events:
                    raise fail(f"no session {source!r} in this Redis, and no such file", USAGE)
            content = write(events, format)
        except ExportError as error:
            raise fail(error, USAGE) from None
        if out is not None:
            out.write_bytes(content)
        elif sys.stdout.isatty() and "text" not in FORMATS[format].media_type and format != "jsonl":
            raise fail(f"--format {format} is not for a terminal: give --out FILE", USAGE)
        else:
            sys.stdout.buffer.write(content)


def schema(
    which: Annotated[str, typer.Argument(help="openapi (the gateway) or asyncapi (the events).")],
) -> None:
    """Print the interface as OpenAPI or AsyncAPI, generated from the code."""
    with one_line_errors():
        from workers.gateway.schema import asyncapi, openapi

        if which not in ("openapi", "asyncapi"):
            raise fail(f"openapi or asyncapi, not {which!r}", USAGE)
        print(openapi() if which == "openapi" else asyncapi(), end="")


def spool(
    send: Annotated[bool, typer.Option("--send", help="Publish them.")] = False,
    redis: Annotated[str | None, typer.Option(help="Redis URL. [default: $UNDERTONE_REDIS, or localhost]")] = None,
) -> None:
    """Show the events that wait on this disk because Redis was away when their session ended."""
    with one_line_errors():
        import asyncio
        import sqlite3

        from stream.bus.connection import check
        from stream.bus.keys import Keys
        from stream.bus.publisher import Bus
        from stream.bus.server import DEFAULT
        from stream.bus.spool import Spool, waiting_spools
        from workers.console.display import tell

        url, left = redis or os.environ.get("UNDERTONE_REDIS") or DEFAULT, 0

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
