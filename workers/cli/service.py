"""Commands of the live service: serve, token, schema, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from workers.console.errors import RUNTIME, fail, one_line_errors
from workers.console.options import AsrModel, Ephemeral, Json, Keep, OnDevice, Prefix, RayAddress, Redis
from workers.console.terminal import harmless, print_json
from workers.errors import UsageError

if TYPE_CHECKING:
    from workers.gateway.access import Token


Host = Annotated[str, typer.Option(help="Address to listen on; for other machines to reach it, --tokens is needed.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")]
Tokens = Annotated[
    Path | None,
    typer.Option(help="TOML file of access tokens (`undertone token`). [default: one token, in the printed address]"),
]
NoToken = Annotated[
    bool,
    typer.Option("--no-token", help="Ask for no token: every user and program of this machine is administrator."),
]
RecordInto = Annotated[Path | None, typer.Option(help="Allow sessions to be recorded, into this folder.")]
Media = Annotated[Path | None, typer.Option(help="Allow sessions to play files of this folder.")]
PullFrom = Annotated[
    list[str] | None,
    typer.Option(help="Allow sessions to fetch streams from this host; of an internal host, name its network, too."),
]
Cors = Annotated[
    list[str] | None,
    typer.Option(help="Allow pages of this other web origin to use the API, such as https://example.org."),
]
Upload = Annotated[int, typer.Option(min=1, help="Largest recording that may be uploaded, in megabytes.")]
Drain = Annotated[float, typer.Option(min=0, help="Seconds that clients have to finish sending when the server stops.")]
Preload = Annotated[
    bool | None,
    typer.Option(
        "--preload/--no-preload",
        help="Be ready when every node has the models of sessions. [default: unless Ray is a cluster's]",
    ),
]
Trace = Annotated[bool, typer.Option("--trace", help="Send OpenTelemetry traces to $OTEL_EXPORTER_OTLP_ENDPOINT.")]
RedisOperator = Annotated[
    str | None,
    typer.Option(
        envvar="UNDERTONE_REDIS_OPERATOR",
        help="URL of the same Redis with a user who may delete, to forget sessions. [default: as --redis]",
    ),
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8765,
    tokens: Tokens = None,
    no_token: NoToken = False,
    record: RecordInto = None,
    keep: Keep = 24.0,
    media: Media = None,
    pull_from: PullFrom = None,
    cors: Cors = None,
    asr_model: AsrModel = None,
    device: OnDevice = "auto",
    upload: Upload = 256,
    drain: Drain = 30.0,
    preload: Preload = None,
    trace: Trace = False,
    redis: Redis = None,
    ephemeral: Ephemeral = False,
    redis_operator: RedisOperator = None,
    prefix: Prefix = "undertone",
    ray_address: RayAddress = None,
) -> None:
    """Serve the page and the API (HTTP and WebSockets) until Ctrl-C or SIGTERM."""
    with one_line_errors():
        _check_places(record, media, pull_from or (), trace)

        from model.device import choose
        from model.encoders.asr import check_name
        from stream.bus.own_server import session_redis
        from stream.private import make_parents
        from workers.gateway.serve import listen_on

        known = _access(host, tokens, no_token)
        if ray_address is None:
            choose(device)
        check_name(asr_model)
        listeners = listen_on(host, port)
        if record is not None and not record.exists():
            make_parents(record)
            record.mkdir(mode=0o700)
        with session_redis(redis, ephemeral) as url:
            _check_servers(url, redis_operator, prefix)

            from workers.cluster.actors import ray_cluster  # takes seconds, after whatever there was to be refused
            from workers.gateway.serve import serve as run
            from workers.gateway.state import Settings
            from workers.research.downloads import fetch_recognizer, fetch_text_encoder

            settings = Settings(
                redis=url, prefix=prefix, record=record and record.resolve(), media=media and media.resolve(),
                pull_from=frozenset(pull_from or ()), origins=frozenset(cors or ()), upload=upload,
                asr_model=asr_model, device=device, kept=round(3600 * keep), operator=redis_operator,
                private_ray=ray_address is None,
                local=known is None, preload=ray_address is None if preload is None else preload,
            )  # fmt: skip
            with ray_cluster(ray_address, trace):
                fetch_text_encoder()
                fetch_recognizer(False, asr_model)
                run(settings, known, host, listeners, drain, open_to_all=no_token)


def _check_places(record: Path | None, media: Path | None, pull_from: Collection[str], trace: bool) -> None:
    """Raises UsageError for folders, hosts and an endpoint of traces that cannot be used."""
    if media is not None and not media.is_dir():
        raise UsageError(f"{media}: no such folder")
    if record is not None and record.exists() and not record.is_dir():
        raise UsageError(f"--record {record}: this is no folder")
    if trace and not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        raise UsageError("--trace: set OTEL_EXPORTER_OTLP_ENDPOINT to where traces are sent")

    from stream.sources.reach import Reach

    try:
        Reach(pull_from)
    except ValueError as error:
        raise UsageError(f"--pull-from: {error}") from None


def _access(host: str, tokens: Path | None, no_token: bool) -> list[Token] | None:
    """Tokens that may come in; None: the one of this machine's user. Raises UsageError."""
    from workers.console.display import tell
    from workers.gateway.access import read_tokens
    from workers.gateway.middleware import LOCAL

    known = read_tokens(tokens) if tokens is not None else None
    if known is None and host not in LOCAL:
        raise UsageError(f"--host {host}: other machines need --tokens FILE (`undertone token NAME`)")
    if known is not None and no_token:
        raise UsageError("--no-token and --tokens contradict each other")
    if no_token:
        tell("warning: with --no-token every user and program of this machine is this gateway's administrator")
    return known


def _check_servers(url: str, redis_operator: str | None, prefix: str) -> None:
    """Raises BusError for a Redis that is not there, or in which too little is allowed."""
    import asyncio

    from stream.bus.connection import BusError, check, check_publishing
    from stream.bus.forget import check_erasing
    from stream.bus.keys import Keys

    asyncio.run(check(url))
    asyncio.run(check_publishing(url, Keys("any", prefix)))
    if redis_operator is None:
        return
    try:
        asyncio.run(check(redis_operator))
        asyncio.run(check_erasing(redis_operator, prefix))
    except BusError as error:
        raise BusError(f"--redis-operator: {error}") from None


def token(
    name: Annotated[
        str | None, typer.Argument(help="Name of who will use it. [default: print the token of your running gateway]")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="Right of the token: ingest (start sessions), read, edit (titles, notes) or admin; repeat for several."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of your running gateway, if no NAME is given.")
    ] = 8765,
) -> None:
    """Make an access token for `undertone serve --tokens FILE`.

    The token is printed on stderr, and kept nowhere; the lines for FILE are printed on stdout.
    """
    with one_line_errors():
        from workers.console.display import tell
        from workers.gateway.access import new_token
        from workers.gateway.local_token import read_token

        if name is None:
            print(read_token(port))
            return
        if not scope:
            raise UsageError(f"token {name}: give --scope ingest, --scope read, --scope edit or --scope admin")
        secret, entry = new_token(name, scope)
        tell(f"token (kept nowhere, note it now): {secret}")
        print(entry)


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="Id of a session (`undertone sessions`), a .jsonl file of events, or the folder of a recording."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; its ending says the format. [default: stdout]")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="Format: jsonl, csv, parquet, vtt, srt, rttm, elan, textgrid, emotionml or html. "
            "[default: as --out ends, else jsonl]",
        ),
    ] = None,
    redis: Redis = None,
    prefix: Prefix = "undertone",
) -> None:
    """Write a session to a file: a table, subtitles, tiers for annotators, EmotionML or a report."""
    with one_line_errors():
        import asyncio

        from stream.bus.connection import check
        from stream.bus.directory import no_session
        from stream.bus.keys import Keys
        from stream.bus.own_server import redis_address
        from stream.bus.subscriber import history
        from stream.events import UtteranceFailed, UtteranceHeard
        from stream.exports import export as write
        from stream.exports import removed
        from stream.sources.recording import read_events
        from workers.console.display import tell

        format = _format(format, out)
        if Path(source).exists() or source.endswith(".jsonl"):
            events = read_events(Path(source))
        else:
            url, keys = redis_address(redis), Keys(source, prefix)
            asyncio.run(check(url))
            events = asyncio.run(history(url, keys.session, prefix))
            if not events:
                raise UsageError(f"{asyncio.run(no_session(url, keys.session, prefix))}; nor is there such a file")
        content = write(events, format)
        if gap := removed(events):
            tell(f"{source} is not whole: {gap}")
        if out is None:
            _print_export(content, format)
            return
        if not out.exists():
            out.touch(mode=0o600)  # words: for others to read only if its user lets them
        out.write_bytes(content)
        utterances = {event.utterance for event in events if isinstance(event, UtteranceHeard | UtteranceFailed)}
        tell(f"{out}: {len(utterances)} utterances, {len(content):,} bytes")


def _print_export(content: bytes, format: str) -> None:
    """Write an export to stdout. Raises UsageError for one that is no text, on a terminal."""
    from stream.exports import FORMATS

    if not sys.stdout.isatty():
        sys.stdout.buffer.write(content)
    elif format == "jsonl":
        print_json(content.decode().rstrip("\n"))
    elif "text" in FORMATS[format].media_type:
        print(harmless(content.decode()), end="")
    else:
        raise UsageError(f"--format {format} is not for a terminal: give --out FILE")


def _format(wanted: str | None, out: Path | None) -> str:
    """Name of the format that a file's suffix says, or that is wanted. Raises UsageError where the two disagree."""
    from stream.exports import FORMATS

    if wanted is not None and wanted not in FORMATS:
        raise UsageError(f"unknown format {wanted!r}: one of {', '.join(FORMATS)}")
    if out is None:
        return wanted or "jsonl"
    by_suffix = next((name for name, format in FORMATS.items() if format.suffix.lower() == out.suffix.lower()), None)
    if wanted is None and by_suffix is None:
        endings = ", ".join(f"{name} ({format.suffix})" for name, format in FORMATS.items())
        raise UsageError(f"--out: the ending of {out.name} is no export format; there are {endings}")
    if wanted is not None and by_suffix not in (None, wanted):
        raise UsageError(f"--format {wanted} writes {FORMATS[wanted].suffix}, and --out {out} ends as {by_suffix} does")
    return wanted or str(by_suffix)


def schema(
    interface: Annotated[
        Literal["openapi", "asyncapi"], typer.Argument(help="openapi: the HTTP interface; asyncapi: the events.")
    ],
) -> None:
    """Print the description of the HTTP interface (OpenAPI) or of the events (AsyncAPI)."""
    with one_line_errors():
        from workers.gateway.schema import asyncapi, openapi

        print(openapi() if interface == "openapi" else asyncapi(), end="")


def spool(
    send: Annotated[bool, typer.Option("--send", help="Send them to Redis.")] = False,
    redis: Redis = None,
    as_json: Json = False,
) -> None:
    """List events that wait on this disk because Redis was away when their session ended.

    With `--json` a list of `{session, prefix, events, sent, file}`; events: their number.
    """
    with one_line_errors():
        import asyncio
        import json
        import sqlite3

        from stream.bus.connection import check
        from stream.bus.keys import Keys
        from stream.bus.own_server import redis_address
        from stream.bus.publisher import Bus
        from stream.bus.spool import Spool, waiting_spools
        from workers.console.display import tell

        url, left, listed = redis_address(redis) if send else "", 0, []

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
            sent = send and asyncio.run(publish(found, Keys(session, prefix)))
            listed.append({"session": session, "prefix": prefix, "events": count, "sent": sent, "file": str(path)})
            if sent:
                tell(f"{session}: {count} published")
                continue
            found.close()
            left += count
            if not as_json:
                print(f"{session}  {count} wait in {path}")
        if as_json:
            print_json(json.dumps(listed, indent=2))
        if send and left:
            raise fail("Redis did not take all of them", RUNTIME)
