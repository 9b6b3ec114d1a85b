"""The commands that measure. Heavy imports happen inside them, so that --help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import bench_load, bench_report
from workers.console.errors import USAGE, development_data, fail, one_line_errors
from workers.console.options import Clips, Faces, Json, comma_separated
from workers.console.terminal import Terminal, print_json

if TYPE_CHECKING:
    from workers.console.tables import Rows

bench = typer.Typer(help="Measure this installation.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    bench_report.register(bench)
    bench_load.register(bench)
    app.add_typer(bench, name="bench")


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
def speakers(data: Turns = None, as_json: Json = False) -> None:
    """Diarization: DER of the live way (VAD, change of voice, clustering) against RTTM."""
    with one_line_errors():
        from workers.bench.accuracy.speakers import bench_speakers, bench_voices

        rows = bench_speakers(data or development_data() / "conversations")
        _show("Diarization against RTTM, % of true speech (no collar, overlap scored)", rows, as_json)
        if data is None and not as_json:
            rows = bench_voices(development_data() / "librispeech")
            _show("Voices told apart: equal error rate in % between pieces of six LibriSpeech speakers", rows, False)


Recordings = Annotated[Path | None, typer.Option(help="Laid out as $UNDERTONE_DATA: librispeech, conversations, …")]
Encoder = Annotated[Path | None, typer.Option(help="Folder of a voice encoder. [default: the shipped one]")]
Models = Annotated[
    list[str] | None, typer.Option(help="faster-whisper: a size, Hugging Face id or folder. [default: what is here]")
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
    conversations: Annotated[int, typer.Option(min=1, help="How many to compose of each kind.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the composition.")] = 0,
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
    file: Annotated[Path, typer.Argument(help="A recording with a transcript (.stm) beside it.")] = Path(
        "deploy/demo/conversation.opus"
    ),
    runs: Annotated[int, typer.Option(min=1, help="How often.")] = 5,
    as_json: Json = False,
) -> None:
    """Seconds from a command to its first event and label, by part."""
    with one_line_errors():
        from workers.bench.speed.startup import bench_startup
        from workers.console.progress import console_progress

        with console_progress() as progress:
            rows = bench_startup(file, runs, progress)
        _show("Start of a replay, median seconds", rows, as_json)


Hidden = Annotated[int | None, typer.Option(min=8, help="Width, with random weights. [default: as shipped]")]


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
    nodes: Annotated[str, typer.Option(help="How many, comma-separated; each takes some 0.5 GB.")] = "1,2,4",
    sessions: Annotated[int, typer.Option(min=1, help="At the same time.")] = 64,
    rate: Annotated[float, typer.Option(min=1, help="Utterances a second, of all sessions together.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of load, for each number of nodes.")] = 20.0,
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
