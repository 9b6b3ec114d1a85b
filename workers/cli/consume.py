"""The commands that read what sessions publish. Heavy imports happen inside them, so that --help is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.console.errors import RUNTIME, fail, one_line_errors, run_until_interrupted
from workers.console.options import Json, Prefix, Redis, Sessions
from workers.console.terminal import Terminal, print_json, printable_event
from workers.errors import UsageError

if TYPE_CHECKING:
    from stream.bus.alert_rules import AlertMonitor
    from stream.bus.webhook import Webhook


def watch(
    sessions: Sessions = None,
    redis: Redis = None,
    prefix: Prefix = "undertone",
    as_json: Json = False,
) -> None:
    """Follow sessions, from their first label on: those named, or all.

    On a terminal this is a screen with search, in a pipe a line for each label, until the sessions end. Keys: arrows
    choose a session, / searches words, speakers and emotions, space pauses, f shows final labels only, q quits.
    """
    with one_line_errors():
        import asyncio

        from stream.bus.own_server import redis_address

        wanted = list(dict.fromkeys(sessions or []))
        url = redis_address(redis)
        asyncio.run(_require(url, wanted, prefix))
        if as_json or not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
            run_until_interrupted(_lines(url, wanted, prefix, as_json))
            return
        from workers.cli.watch import WatchApp

        screen = WatchApp(url, wanted, prefix)
        if trouble := screen.run():
            raise fail(trouble, RUNTIME)
        if screen.return_code:
            raise typer.Exit(screen.return_code)


async def _require(url: str, sessions: Sequence[str], prefix: str) -> None:
    """Raises BusError for a Redis that does not answer, UsageError for a session that has no events in it."""
    from stream.bus.connection import check, exists
    from stream.bus.directory import no_session
    from stream.bus.keys import Keys

    await check(url)
    for session in sessions:
        if not await exists(url, Keys(session, prefix)):
            raise UsageError(await no_session(url, session, prefix))


async def _lines(url: str, sessions: Sequence[str], prefix: str, as_json: bool) -> None:
    """Events in a pipe; lines of more than one session begin with its id."""
    from stream.bus.subscriber import follow
    from stream.events import SessionEnded
    from workers.console.display import JsonDisplay, LineDisplay, summary, tell

    display = JsonDisplay() if as_json else LineDisplay(with_session=len(sessions) != 1)
    async for event in follow(url, prefix, sessions or None):
        display.event(event)
        if isinstance(event, SessionEnded) and not as_json:
            tell(f"session {event.session} has ended: {summary(event, 0)}")


def top(
    redis: Redis = None,
    prefix: Prefix = "undertone",
    once: Annotated[bool, typer.Option("--once", help="Print once and exit, as it does in a pipe.")] = False,
    as_json: Json = False,
) -> None:
    """Show the load of every live session, anew each second until Ctrl-C.

    p50 and p95: the median and the 95 % quantile of the time from the end of speech to the label, over the labels of
    the last minute; the silence that ends an utterance counts, the loading of models does not. The slowest stage has
    both, too. With `--json` once: an object `{sessions, total}`.
    """
    with one_line_errors():
        import asyncio

        from stream.bus.connection import check
        from stream.bus.own_server import redis_address
        from workers.cli.top import look_once, watch_load

        url = redis_address(redis)
        asyncio.run(check(url))
        if as_json:
            print_json(asyncio.run(look_once(url, prefix)).as_json())
        elif once or not sys.stdout.isatty():
            Terminal().print(asyncio.run(look_once(url, prefix)).table())
        else:
            run_until_interrupted(watch_load(url, prefix, Terminal()))


def alert(
    rules: Annotated[Path, typer.Argument(metavar="RULES.toml", help="File of rules, each a [[rule]] table.")],
    redis: Redis = None,
    prefix: Prefix = "undertone",
    webhook: Annotated[
        str | None, typer.Option(help="Send alerts to this address, too (POST, signed with $UNDERTONE_WEBHOOK_SECRET).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Raise an alert whenever a rule of yours fits what a session says: printed, and published on PREFIX:alerts.

    A rule is a table of the file: [[rule]] with name = "angry customer" and emotion = "anger". It may have
    speaker = "customer*", above = 0.8 (least probability), utterances = 3 (so many in a row), cooldown = 60 (seconds
    until it may fit again) and certain = true (uncertain labels do not count).

    All sessions are watched, those in Redis and those to come. An alert is published once, however many of these
    commands run, and not again by one that starts within a day.
    """
    with one_line_errors():
        import asyncio

        from stream.bus.alert_rules import AlertMonitor, RuleError, read_rules
        from stream.bus.connection import check, check_alerting, public
        from stream.bus.own_server import redis_address
        from stream.bus.webhook import Webhook
        from workers.console.display import tell

        url = redis_address(redis)
        held = read_rules(rules)
        secret = os.environ.get("UNDERTONE_WEBHOOK_SECRET", "")
        if webhook is not None and not secret:
            raise RuleError("--webhook: set UNDERTONE_WEBHOOK_SECRET to what its receiver checks signatures with")
        hook = Webhook(webhook, secret, tell) if webhook is not None else None
        asyncio.run(check(url))
        asyncio.run(check_alerting(url, prefix))
        names = ", ".join(rule.name for rule in held)
        run_until_interrupted(
            _alert(AlertMonitor(held), hook, url, prefix, as_json),
            lambda: tell(f"{names}: alerts on {prefix}:alerts, {public(url)}"),
        )


async def _alert(monitor: AlertMonitor, webhook: Webhook | None, url: str, prefix: str, as_json: bool) -> None:
    from stream.bus.alerts import AlertPublisher
    from stream.bus.subscriber import follow
    from stream.events import SessionStarted
    from workers.console.display import clock, tell

    publisher = AlertPublisher(url, prefix, webhook)
    try:
        async for event in follow(url, prefix):
            if isinstance(event, SessionStarted):
                for rule in monitor.unreachable_rules(event):
                    tell(
                        f"{event.session}: no {rule.emotion!r} ({rule.name}) in its labels {', '.join(event.emotions)}"
                    )
            for found in monitor.alerts_for(event):
                if not await publisher.publish(found):
                    continue
                if as_json:
                    print_json(found.wire())
                else:
                    numbers = ", ".join(map(str, found.utterances))
                    found = printable_event(found)
                    print(
                        f"{found.session} {clock(found.audio_end):>7} {found.speaker:<12} {found.rule}: "
                        f"{found.emotion} {found.probability:.2f} in utterance {numbers}",
                        flush=True,
                    )
    finally:
        await publisher.aclose()
        if webhook:
            await webhook.aclose()
