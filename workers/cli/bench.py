"""The commands that measure. Heavy imports happen inside them, so that --help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.bench import DEMO
from workers.cli import bench_load
from workers.console.errors import RUNTIME, USAGE, development_data, fail, one_line_errors
from workers.console.options import Clips, Faces, Json, comma_separated
from workers.console.terminal import Terminal, print_json
from workers.errors import UsageError

if TYPE_CHECKING:
    from workers.bench.report.compare import Change, Comparison
    from workers.console.tables import Rows

bench = typer.Typer(name="bench", help="Measure accuracy and speed on this machine.", no_args_is_help=True)
for command in bench_load.COMMANDS:
    bench.command()(command)


@bench.command("all")
def all_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write the results to.")] = Path("bench.json"),
    only: Annotated[str, typer.Option(help="Benchmarks to run, comma-separated. [default: all]")] = "",
    without: Annotated[str, typer.Option("--except", help="Benchmarks to leave out, comma-separated.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the results on stdout, too.")] = False,
) -> None:
    """Run every benchmark and write one file of results.

    The file (JSON) is written anew after each, so Ctrl-C keeps what is done. What cannot run here (no data, a package
    that is not installed) is skipped, and the file says why. Exit code 1 when one failed.
    """
    import signal

    # Whoever ends us ends the benchmark that runs in a process of its own, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        import json
        from functools import partial

        from workers.bench.report.results import write_results
        from workers.bench.report.suite import chosen, run_all
        from workers.console.progress import console_progress

        try:
            parts = chosen(comma_separated(only), comma_separated(without))
        except ValueError as error:
            raise fail(error, USAGE) from None
        if not file.parent.is_dir():
            raise fail(f"{file.parent}: no such folder", USAGE)
        with console_progress() as progress:
            results = run_all(parts, progress, partial(write_results, file=file))
            progress.tell(f"written to {file}")
        if as_json:
            print_json(json.dumps(results, indent=1, ensure_ascii=False))
        if any("failed" in part for part in results["parts"].values()):
            raise typer.Exit(RUNTIME)


@bench.command()
def report(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Results of `undertone bench all`.")] = Path(
        "bench.json"
    ),
    out: Annotated[Path, typer.Option(help="Folder for BENCHMARKS.md and benchmarks/*.svg.")] = Path("deploy"),
) -> None:
    """Write a file of results as BENCHMARKS.md, with tables and plots."""
    with one_line_errors():
        from workers.bench.report.report import write_report
        from workers.bench.report.results import read_results

        for written in write_report(read_results(file), out):
            print(written)


@bench.command()
def compare(
    old: Annotated[Path, typer.Argument(help="Results of `undertone bench all`.")],
    new: Annotated[Path, typer.Argument(help="Later results.")],
    tolerance: Annotated[float, typer.Option(min=0, help="The share by which a figure may change: 0.2 = 20 %.")] = 0.2,
    as_json: Json = False,
) -> None:
    """Tell what became better or worse between two runs; exit code 1 when something became worse.

    Times are compared in the time that the same fixed piece of work took on that machine at that moment, so that a
    slower machine is no regression; errors, scores and memory as they are. With `--json` an object: `compared` (number
    of figures), `changes` (list of `{row, figure, old, new, worse}`, `worse` a factor), `failed` and `one_sided` (lists
    of lines).
    """
    with one_line_errors():
        import json
        from dataclasses import asdict

        from workers.bench.report.compare import compare as compare_results
        from workers.bench.report.results import read_results

        told = compare_results(read_results(old), read_results(new))
        changes = told.beyond(tolerance)
        if as_json:
            found = [asdict(change) for change in changes]
            sides = {"failed": told.failed, "one_sided": told.one_sided}
            print_json(json.dumps({"compared": len(told.changes), "changes": found, **sides}, indent=2))
        else:
            _show_comparison(told, changes, tolerance)
        if told.failed or any(change.worse > 1 for change in changes):
            raise typer.Exit(RUNTIME)


def _show_comparison(told: Comparison, changes: list[Change], tolerance: float) -> None:
    from workers.console.tables import rows_table

    console = Terminal()
    if changes:
        rows = [
            {
                "": "worse" if change.worse > 1 else "better",
                "row": change.row,
                "figure": change.figure,
                "old": change.old,
                "new": change.new,
                "× as bad": f"{change.worse:.2f}",
            }
            for change in changes
        ]
        console.print(rows_table(f"Changed by more than {100 * tolerance:.0f} %", rows))
    for line in (*(f"failed: {line}" for line in told.failed), *told.one_sided):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    worse = sum(change.worse > 1 for change in changes)
    print(f"{len(told.changes)} figures: {worse} worse, {len(changes) - worse} better")


def _show(title: str, rows: Rows, as_json: bool) -> None:
    import json

    from workers.console.tables import rows_table

    if as_json:
        print_json(json.dumps(rows, indent=2))
    else:
        Terminal().print(rows_table(title, rows))


Turns = Annotated[
    Path | None, typer.Option(help="Folder of audio with RTTM beside it. [default: $UNDERTONE_DATA/conversations]")
]


@bench.command()
def vad(data: Turns = None, as_json: Json = False) -> None:
    """Speech detection: error of each VAD against RTTM, through the live segmenter."""
    with one_line_errors():
        from workers.bench.accuracy.vad import bench_vad

        rows = bench_vad(data or development_data() / "conversations")
        _show("Speech detection against RTTM, % of true speech (no collar, pre-roll included)", rows, as_json)


@bench.command()
def speakers(
    data: Turns = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Other thresholds instead, on the conversations by which they were chosen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Diarization: DER of the live way by latency, on recordings and on constructed conversations."""
    with one_line_errors():
        if grid:
            _show_speaker_grid(data, as_json)
            return
        from workers.bench.accuracy.speakers import bench_conditions, bench_nobody, bench_speakers, bench_voices
        from workers.bench.accuracy.wrong_names import bench_wrong_names
        from workers.console.progress import console_progress

        clips = development_data() / "librispeech" if data is None else None
        with console_progress() as progress:
            rows = bench_speakers(data or development_data() / "conversations", clips, progress)
        _show("Diarization, % of true speech (no collar, overlap scored)", rows, as_json)
        if data is None and not as_json:
            with console_progress() as progress:
                hard, nobody, labels = (
                    bench_conditions(development_data(), progress),
                    bench_nobody(development_data(), progress),
                    bench_wrong_names(development_data(), progress),
                )
            _show("The same in worse conditions", hard, False)
            _show("Utterances heard where nobody speaks", nobody, False)
            _show("What the names do to labels: MELD dev with its turns read out by others, %", labels, False)
            rows = bench_voices(development_data() / "librispeech")
            _show("Voices told apart: equal error rate in % between pieces of six LibriSpeech speakers", rows, False)


def _show_speaker_grid(data: Path | None, as_json: bool) -> None:
    from workers.bench.accuracy.speaker_grid import bench_speaker_grid
    from workers.console.progress import console_progress

    if data is not None:
        raise UsageError("--grid takes the conversations by which the thresholds were chosen, and no --data")
    with console_progress() as progress:
        rows = bench_speaker_grid(development_data(), progress)
    _show("Diarization error rate in % with other thresholds", rows, as_json)


Recordings = Annotated[Path | None, typer.Option(help="Laid out as $UNDERTONE_DATA: librispeech, conversations, …")]
Encoder = Annotated[Path | None, typer.Option(help="Folder of a voice encoder. [default: the shipped one]")]
Models = Annotated[
    list[str] | None, typer.Option(help="Whisper model: a size, Hugging Face id or folder. [default: what is here]")
]


@bench.command()
def asr(data: Recordings = None, model: Models = None, as_json: Json = False) -> None:
    """Recognition of speech: WER of each recognizer at hand, and what it hears where nobody speaks."""
    with one_line_errors():
        from workers.bench.accuracy.asr import bench_asr
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_asr(data or development_data(), model or [], progress)
        _show("Words: error rate in %, and words heard where nobody speaks", rows, as_json)


@bench.command()
def windows(data: Recordings = None, model: Models = None, as_json: Json = False) -> None:
    """Recognition of speech on windows of several lengths: WER and CPU time, beside faster-whisper's own options."""
    with one_line_errors():
        from workers.bench.accuracy.asr import bench_windows
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows, costs = bench_windows(data or development_data(), model or [], progress)
        if as_json:
            _show("", rows + costs, True)
        else:
            _show("WER in % and CPU seconds by the smallest window", rows, False)
            _show("An utterance of 3 s, one thread, median CPU seconds", costs, False)


@bench.command()
def language(data: Recordings = None, as_json: Json = False) -> None:
    """Languages told apart: English words left out as foreign, and foreign ones read, by length."""
    with one_line_errors():
        from workers.bench.accuracy.language import bench_language
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_language(data or development_data(), progress)
        _show("Utterances whose words were wrongly left out, or wrongly read", rows, as_json)


@bench.command()
def voice(
    data: Clips = None,
    encoder: Encoder = None,
    probes: Annotated[bool, typer.Option(help="Compare with linear probes on ready-made embeddings.")] = False,
    as_json: Json = False,
) -> None:
    """Emotion by voice alone: UAR over whole actors, as recorded and over line, noise and room."""
    with one_line_errors():
        from workers.bench.accuracy.voice import bench_voice

        rows = bench_voice(data or development_data() / "ravdess", encoder, probes)
        _show("Emotion by voice alone, UAR in % with 95 % intervals over actors", rows, as_json)


@bench.command()
def sounds(data: Recordings = None, as_json: Json = False) -> None:
    """Laughter, crying and sighs: how many an hour are heard in read, conversational and acted speech."""
    with one_line_errors():
        from workers.bench.accuracy.sounds import bench_sounds
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_sounds(data or development_data(), progress)
        _show("Sounds heard in recordings without labels of any, and the highest score", rows, as_json)


@bench.command()
def faces(
    data: Faces = None,
    as_json: Json = False,
) -> None:
    """Faces: found, expression, and which one speaks (on clips composed of the pictures)."""
    with one_line_errors():
        from workers.bench.accuracy.faces import bench_faces

        _show("Faces", bench_faces(data or development_data() / "faces"), as_json)


@bench.command()
def endtoend(
    data: Clips = None,
    actors: Annotated[str, typer.Option(help="Numbers of the actors to use, comma-separated. [default: all]")] = "",
    encoder: Encoder = None,
    conversations: Annotated[int, typer.Option(min=1, help="Number of conversations to compose of each kind.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the composition.")] = 0,
    as_json: Json = False,
) -> None:
    """From media to label on constructed conversations: segmentation, words, speakers and time-weighted emotion."""
    with one_line_errors():
        from workers.bench.accuracy.endtoend import bench_endtoend
        from workers.console.progress import console_progress

        given = comma_separated(actors)
        if not all(actor.isdigit() for actor in given):
            raise fail(f"--actors: numbers, comma-separated, not {actors!r}", USAGE)
        chosen = [int(actor) for actor in given]
        with console_progress() as progress:
            rows = bench_endtoend(
                data or development_data() / "ravdess", chosen, encoder, conversations, seed, progress
            )
        _show("CONSTRUCTED conversations (acted clips put in turns), errors in %", rows, as_json)


@bench.command()
def encoders(as_json: Json = False) -> None:
    """Cost of each encoder: ms for an utterance of 3 s on one core, and MB."""
    with one_line_errors():
        from workers.bench.speed.encoders import bench_encoders

        _show("Cost of an utterance of 3 s, one core", bench_encoders(), as_json)


@bench.command()
def startup(
    file: bench_load.File = DEMO,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs.")] = 5,
    as_json: Json = False,
) -> None:
    """Seconds from a command to its first event and label, by part."""
    with one_line_errors():
        from workers.bench.speed.startup import bench_startup
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_startup(file, runs, progress)
        _show("Start of a replay, median seconds", rows, as_json)


Hidden = Annotated[
    int | None, typer.Option(min=8, help="Width of a network with random weights. [default: the shipped network]")
]


@bench.command()
def graph(
    hidden: Hidden = None,
    as_json: Json = False,
) -> None:
    """One utterance's step in the graph: flat as a conversation grows, beside the network re-run and the floor."""
    with one_line_errors():
        from workers.bench.speed.graph import bench_graph
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_graph(hidden, progress)
        _show("A step, one core (ratio to the first row)", rows, as_json)


@bench.command()
def batching(
    hidden: Hidden = None,
    as_json: Json = False,
) -> None:
    """Steps a second of 1 to 512 sessions that share a recognizer, and what they wait for each other."""
    with one_line_errors():
        from workers.bench.speed.graph import bench_batching
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_batching(hidden, progress)
        _show("Sessions that share a recognizer, one core", rows, as_json)


@bench.command()
def scale(
    nodes: Annotated[
        str, typer.Option(help="Numbers of nodes to try, comma-separated; each node takes some 0.5 GB.")
    ] = "1,2,4",
    sessions: Annotated[int, typer.Option(min=1, help="Sessions at the same time.")] = 64,
    rate: Annotated[float, typer.Option(min=1, help="Utterances a second, of all sessions together.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of load, for each number of nodes.")] = 20.0,
    as_json: Json = False,
) -> None:
    """Cost of an utterance in Ray and Redis under the same load on more nodes, all simulated on this machine."""
    with one_line_errors():
        from workers.bench.speed.scale import Load, bench_scale
        from workers.console.progress import console_progress

        given = [count.strip() for count in nodes.split(",")]
        if not all(count.isdecimal() and int(count) for count in given):
            raise fail(f"--nodes: numbers from 1, comma-separated, not {nodes!r}", USAGE)
        with console_progress() as progress:
            costs, spread = bench_scale([int(count) for count in given], Load(sessions, rate, seconds), progress)
        if as_json:
            _show("", costs + spread, True)
        else:
            _show("An utterance under the same load on more nodes, all on this machine", costs, False)
            _show("Sessions on the fullest node, by the mean of all", spread, False)
