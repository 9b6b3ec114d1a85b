"""The commands that measure a machine under load, and what a session costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from workers.bench import DEMO
from workers.console.errors import one_line_errors
from workers.console.options import Checkpoint, Json, comma_separated
from workers.console.terminal import Terminal, print_json
from workers.errors import UsageError
from workers.session.settings import Modality

if TYPE_CHECKING:
    from workers.bench.speed.words import Words
    from workers.console.tables import Rows

File = Annotated[
    Path,
    typer.Argument(help="A recording with a transcript (.stm) beside it.", show_default="the demo conversation"),
]
Sources = Annotated[
    str,
    typer.Option(help="Where words come from: transcript, none, whisper (each model that is here); comma-separated."),
]
Modalities = Annotated[str, typer.Option(help="What is used: text, audio, visual; comma-separated.")]


def latency(
    file: File = DEMO,
    words: Sources = "transcript,whisper",
    one_microphone: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Compare --vad on one microphone instead, on a conversation of clips SPEAKER-*.flac of this folder.",
        ),
    ] = None,
    checkpoint: Checkpoint = "meld",
    as_json: Json = False,
) -> None:
    """Time to label in real time, from the end of speech to a Redis subscriber; with and without speculation."""
    with one_line_errors():
        chosen = _words(words, file)
        heard = [source for source in chosen if not source.given]
        if one_microphone is not None and not heard:
            raise UsageError("--words: whisper or none, the conversation on one microphone has no transcript")
        from workers.bench.speed.latency import bench_latency, bench_one_microphone
        from workers.console.progress import console_progress

        with console_progress() as progress:
            if one_microphone is None:
                rows = bench_latency(file, chosen, progress, checkpoint)
            else:
                rows = bench_one_microphone(one_microphone, heard, progress, checkpoint)
        title = "Milliseconds from the end of speech to the label at a subscriber, in real time"
        _show({"latency": title}, {"latency": rows}, as_json)


def lag(
    file: File = DEMO,
    minutes: Annotated[float, typer.Option(min=0.5, help="Minutes, in real time.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Growth of the time to label over a long session in real time."""
    with one_line_errors():
        from workers.bench.speed.latency import bench_lag
        from workers.console.progress import console_progress

        with console_progress() as progress:
            whole, course = bench_lag(file, minutes, progress)
        titles = {"lag": "Lag over a session", "lag_course": "Milliseconds from the end of speech to the label"}
        _show(titles, {"lag": whole, "lag_course": course}, as_json)


def ray(file: File = DEMO, as_json: Json = False) -> None:
    """Time that the calls between processes add to a label."""
    with one_line_errors():
        from workers.bench.speed.ray_share import bench_ray
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_ray(file, progress)
        _show({"ray": "Calls of a label's way; `waits`: the label has to wait for it"}, {"ray": rows}, as_json)


def capacity(
    file: File = DEMO,
    words: Sources = "transcript,whisper",
    modalities: Modalities = "text,audio",
    seconds: Annotated[float, typer.Option(min=1, max=300, help="Seconds to hold each number of sessions.")] = 40.0,
    limit: Annotated[int, typer.Option("--most", min=1, help="Most sessions to try at once.")] = 64,
    partials: Annotated[bool, typer.Option(help="Words and labels while somebody talks, too.")] = True,
    one_microphone: Annotated[
        bool, typer.Option("--one-microphone", help="All speakers in one channel, told apart by voice.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Real-time sessions that this machine holds until the 95 % time to label doubles, and the cost of each."""
    with one_line_errors():
        import sys
        from contextlib import redirect_stdout
        from dataclasses import replace

        chosen, used = _words(words, file), _modalities(modalities)
        chosen = [replace(source, partials=partials) for source in chosen]
        from workers.bench.speed.capacity import bench_capacity
        from workers.console.progress import console_progress

        with console_progress() as progress, redirect_stdout(sys.stderr):  # Ray warns of many processes there
            levels, spent = bench_capacity(file, chosen, used, seconds, limit, progress, one_microphone)
        titles = {
            "capacity": "Sessions in real time; ms from the end of speech to the label, without the end-silence",
            "capacity_costs": "CPU-seconds for a minute of a session, by process, at the most that were held",
        }
        _show(titles, {"capacity": levels, "capacity_costs": spent}, as_json)


def throughput(
    file: File = DEMO,
    words: Sources = "transcript,none,whisper",
    modalities: Modalities = "text,audio",
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Minutes of media; a fifth of them where words are recognized.")
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Speed of a replay as a multiple of real time, and the cost of its minutes."""
    with one_line_errors():
        chosen, used = _words(words, file), _modalities(modalities)
        from workers.bench.speed.throughput import bench_throughput
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows, spent = bench_throughput(file, chosen, minutes, used, progress)
        titles = {
            "throughput": "Replayed with --speed max",
            "throughput_costs": "CPU-seconds for a minute of media, by process",
        }
        _show(titles, {"throughput": rows, "throughput_costs": spent}, as_json)


def longevity(
    file: File = DEMO,
    hours: Annotated[float, typer.Option(min=0.01, help="Hours of media, played as fast as it goes.")] = 12.0,
    modalities: Modalities = "text",
    as_json: Json = False,
) -> None:
    """Growth of the memory of every process over hours of media."""
    with one_line_errors():
        from workers.bench.speed.longevity import bench_longevity
        from workers.console.progress import console_progress

        with console_progress() as progress:
            processes, whole = bench_longevity(file, hours, _modalities(modalities), progress)
        titles = {"longevity": "MB of each process in the first and the last third", "longevity_whole": "The session"}
        _show(titles, {"longevity": processes, "longevity_whole": whole}, as_json)


def costs(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Results of `undertone bench all`.")] = Path(
        "bench.json"
    ),
) -> None:
    """Print the cost of a session, from a file of results, as JSON for `undertone plan --measured`."""
    with one_line_errors():
        from workers.bench.report.costs import read_costs

        print_json(read_costs(file).to_json().rstrip())


COMMANDS = (latency, lag, ray, capacity, throughput, longevity, costs)


def _words(given: str, file: Path) -> list[Words]:
    """Raises UsageError, FileNotFoundError."""
    from workers.bench.speed.words import SOURCES, words_by

    sources = comma_separated(given)
    if not sources or set(sources) - set(SOURCES):
        raise UsageError(f"--words: of {', '.join(SOURCES)}, not {given!r}")
    file.stat()
    found = words_by(sources, file)
    if not found:
        raise UsageError("--words whisper: no faster-whisper model is here")
    return found


def _modalities(given: str) -> list[Modality]:
    """Raises UsageError."""
    known = get_args(Modality)
    found = [name for name in known if name in comma_separated(given)]
    if not found or set(comma_separated(given)) - set(known):
        raise UsageError(f"--modalities: of {', '.join(known)}, not {given!r}")
    return found


def _show(titles: dict[str, str], tables: dict[str, Rows], as_json: bool) -> None:
    import json

    from workers.console.tables import rows_table

    if as_json:
        print_json(json.dumps(tables, indent=2))
        return
    for name, title in titles.items():
        Terminal().print(rows_table(title, tables[name]))
