"""Commands on stored sessions: list them, take out what was corrected, forget them. Heavy imports happen inside."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.console.errors import RUNTIME, USAGE, one_line_errors
from workers.console.options import Json, Prefix, Redis, Sessions
from workers.console.terminal import Terminal, print_json
from workers.errors import UsageError

if TYPE_CHECKING:
    from stream.bus.forget import Forgotten, Traces
    from stream.bus.keys import Keys
    from workers.research.corrections import Corrected

SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def sessions(redis: Redis = None, prefix: Prefix = "undertone", as_json: Json = False) -> None:
    """List the sessions that Redis keeps, the newest first, and until when.

    With `--json` a list of `{id, state, started, duration, utterances, reason, sources, speakers, checkpoint, consent,
    redacted, masked, recorded, kept_until, load, title, tags}`, as `GET /sessions` of the gateway has it.
    """
    with one_line_errors():
        import asyncio
        import json

        from stream.bus.connection import check
        from stream.bus.directory import overview
        from stream.bus.own_server import redis_address
        from workers.console.tables import rows_table

        url = redis_address(redis)
        asyncio.run(check(url))
        found = asyncio.run(overview(url, prefix))
        if as_json:
            print_json(json.dumps([info.model_dump() for info in found], indent=2))
            return
        rows = [
            {
                "session": info.id,
                "title": info.title or "",
                "state": info.state,
                "started": info.started,
                "minutes": "" if info.duration is None else f"{info.duration / 60:.1f}",
                "words": "left out" if info.redacted else "masked" if info.masked else "kept",
                "recorded": "yes" if info.recorded else "no",
                "kept until": info.kept_until or "",
            }
            for info in found
        ]
        Terminal().print(rows_table("Sessions", rows))


def corrections(
    sessions: Sessions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.csv", help="Table to write: train.csv, dev.csv or another.")
    ],
    redis: Redis = None,
    prefix: Prefix = "undertone",
) -> None:
    """Write the corrected labels of sessions as a table of conversations, for `evaluate` and `train`.

    Each session is a conversation of the table, with all of its utterances. Those that people corrected have the
    corrected label; the others have none: they are read as context, and neither scored nor learnt. Redacted sessions
    have no words, and are refused.
    """
    with one_line_errors():
        import asyncio

        from model.data.tables import write_table
        from stream.bus.connection import check
        from stream.bus.own_server import redis_address
        from workers.console.display import tell

        if out.suffix != ".csv":
            raise UsageError(f"--out: {out}: a table is a .csv file")
        url, names = redis_address(redis), list(dict.fromkeys(sessions or []))
        asyncio.run(check(url))
        found: dict[str, Corrected] = {}
        for name in names:
            if (made := asyncio.run(_corrected(url, name, prefix))) is not None:
                found[name] = made
        if not found:
            raise UsageError(f"nothing to write: no label of {', '.join(names)} was corrected")
        sets = {made.labels.name: name for name, made in found.items()}
        if len(sets) > 1:
            told = ", ".join(f"{name} has those of {label_set}" for label_set, name in sets.items())
            raise UsageError(f"sessions of different labels make no table: {told}; write one for each")
        if not out.exists():
            out.touch(mode=0o600)  # words: for others to read only if its user lets them
        dialogues = [made.dialogue for made in found.values()]
        write_table(out, out.stem, dialogues, next(iter(found.values())).labels)
        utterances = sum(len(dialogue.rows) for dialogue in dialogues)
        corrected = sum(made.corrected for made in found.values())
        tell(f"{out}: {utterances} utterances, {corrected} of them with a corrected label")


async def _corrected(url: str, session: str, prefix: str) -> Corrected | None:
    """A session with what was corrected, and a line on what of it cannot be used; None if nothing was corrected.

    Raises UsageError for a session that Redis does not have, and as `workers.research.corrections.corrected`.
    """
    from stream.bus.annotations import read
    from stream.bus.directory import no_session
    from stream.bus.keys import Keys
    from stream.bus.subscriber import history
    from stream.exports import removed
    from workers.console.display import tell
    from workers.research.corrections import corrected

    keys = Keys(session, prefix)
    events = await history(url, session, prefix)
    if not events:
        raise UsageError(await no_session(url, session, prefix))
    written = (await read(url, keys)).corrections
    if not written:
        tell(f"{session}: nothing was corrected")
        return None
    made = corrected(session, events, written)
    if gap := removed(events):
        tell(f"{session} is not whole: {gap}")
    if made.unusable:
        tell(f"{session}: left out: corrections of {', '.join(map(str, made.unusable))} (no such utterance, or label)")
    return made


def forget(
    sessions: Sessions = None,
    older_than: Annotated[
        str | None, typer.Option(help="All sessions that are older than this: 30d, 12h or 90m.")
    ] = None,
    record: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of recordings (`--record` of other commands) to look in, too; several times for several."
        ),
    ] = None,
    gone: Annotated[
        bool, typer.Option("--gone", help="Take it from me that the sessions' processes are gone.")
    ] = False,
    redis: Redis = None,
    prefix: Prefix = "undertone",
    as_json: Json = False,
) -> None:
    """Delete all that is kept of sessions, and look again. Exit codes: 1 = anything is left, 2 = nothing was known.

    That is: events and what reads them in groups, state, the entry in the list of sessions, alerts, entries of access
    tokens, events that wait on this machine for Redis, and recordings in the folders given. Backups, and what other
    programs have kept, are not ours to delete. The Redis user must be one who may delete (deploy/README.md). A deletion
    that broke off goes on with the same command; once all is gone the session is as unknown as one that never was.

    A session that lives is refused, and so is one that has not ended and may live still. With --gone it is deleted;
    should it live after all, it ends itself when it notices.
    """
    with one_line_errors():
        import asyncio
        import time

        from stream.bus.forget import check_erasing
        from stream.bus.forget import older_than as find_older
        from stream.bus.keys import Keys
        from workers.console.display import tell

        if bool(sessions) == bool(older_than):
            raise UsageError("forget: ids of sessions, or --older-than")
        folders = record or []
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"--record: {folder}: no such folder")
        wanted = [Keys(session, prefix) for session in sessions or []]
        age = _seconds(older_than) if older_than else 0.0
        url = _server(redis)
        if url is None:
            tell("no Redis is here: looking at files alone")
        else:
            asyncio.run(check_erasing(url, prefix))  # before anything is erased: what is left is found again
        if older_than:
            names = asyncio.run(find_older(url, prefix, folders, time.time() - age))
            wanted = [Keys(name, prefix) for name in names]
        code = _forget_each(url, wanted, folders, gone, as_json, by_age=older_than is not None)
        if older_than and not wanted:
            tell(f"nothing is older than {older_than}")
        if code is not None:
            raise typer.Exit(code)


def _forget_each(
    url: str | None, wanted: list[Keys], folders: list[Path], gone: bool, as_json: bool, by_age: bool
) -> int | None:
    """Delete sessions, tell what became of each, and have Redis write its file anew; returns the exit code, if any.

    by_age: they were found, not named, so that one which lives, or is gone by now, is no fault.
    """
    import asyncio

    from redis.exceptions import RedisError

    from stream.bus.forget import CannotForget, rewrite_log
    from stream.bus.forget import forget as forget_session
    from workers.console.display import tell

    left = removed = refused = unknown = False
    for keys in wanted:
        try:
            done = asyncio.run(forget_session(url, keys, folders, gone=gone))
        except CannotForget as error:
            tell(f"undertone: {error}")
            refused = not by_age
            continue
        left, removed = left or bool(done.left), removed or bool(done.removed.keys or done.removed.entries)
        if as_json:
            print_json(done.model_dump_json())
        if not done.removed and not done.left and not by_age:
            unknown = not _was_deleted(url, keys) or unknown
        elif not as_json:
            _print_forgotten(keys, done)
    if url is not None and removed:
        try:
            if asyncio.run(rewrite_log(url)):
                tell("Redis has written its append-only file anew, without it")
        except (RedisError, TimeoutError) as error:
            tell(f"warning: Redis's append-only file still has it all, until it is rewritten: {error}")
    if left:
        return RUNTIME
    return USAGE if refused or unknown else None


def _was_deleted(url: str | None, keys: Keys) -> bool:
    """True if a session of which nothing is left was deleted before; tells the user so, or that there is none."""
    import asyncio

    from stream.bus.directory import no_session
    from stream.bus.forget import is_marked
    from workers.console.display import tell

    if url is not None and asyncio.run(is_marked(url, keys)):
        tell(f"{keys.session}: deleted before; nothing is left")
        return True
    there_is_none = f"no session {keys.session!r} on this machine"
    tell("undertone: " + (asyncio.run(no_session(url, keys.session, keys.prefix)) if url else there_is_none))
    return False


def _print_forgotten(keys: Keys, done: Forgotten) -> None:
    print(f"{keys.session}: removed")
    print("".join(f"  {line}\n" for line in removed_in_words(keys, done.removed)), end="")
    print("".join(f"  LEFT: {line}\n" for line in done.left.lines()) or "  nothing is left\n", end="")


def removed_in_words(keys: Keys, traces: Traces) -> list[str]:
    """Lines for a person about the traces of a session; `--json` has their names."""
    from stream.bus.keys import alert_marker, alerts_stream

    alerts = [key for key in traces.keys if key.startswith(alert_marker(keys.prefix, ""))]
    own = {
        keys.events: "events, with the words in them", keys.state: "state to go on from", keys.rows: "",
        keys.alive: "sign of life",
    }  # fmt: skip
    if keys.rows in traces.keys and keys.state not in traces.keys:
        own[keys.rows] = own[keys.state]
    lines = [text for key, text in own.items() if text and key in traces.keys]
    counts = {
        "other keys of it": len(set(traces.keys) - own.keys() - set(alerts)),
        "alerts": len(traces.entries.get(alerts_stream(keys.prefix), [])),
        "marks of alerts that were published": len(alerts),
    }
    shared = {keys.directory: "entry in the list of sessions", keys.running: "entry in the list of running sessions"}
    lines += [text for key, text in shared.items() if key in traces.entries]
    counts["entries of access tokens"] = len(traces.entries.keys() - shared.keys() - {alerts_stream(keys.prefix)})
    lines += [f"{text}: {count}" for text, count in counts.items() if count]
    return lines + [str(path) for path in traces.files]


def _server(given: str | None) -> str | None:
    """The Redis to look at; None where none was named and this machine has none."""
    import asyncio

    from stream.bus.connection import check
    from stream.bus.own_server import redis_address
    from stream.bus.server import server_binary

    if not given and not os.environ.get("UNDERTONE_REDIS") and server_binary() is None:
        return None
    url = redis_address(given)
    asyncio.run(check(url))
    return url


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([mhd])", age)
    if found is None or not int(found[1]):
        raise UsageError(f"--older-than: 30d, 12h or 90m, not {age!r}")
    return int(found[1]) * SECONDS[found[2]]
