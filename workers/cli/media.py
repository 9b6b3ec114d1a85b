"""The commands about models and voices. Heavy imports happen inside them, so that --help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.console.errors import RUNTIME, USAGE, development_data, fail, one_line_errors
from workers.console.options import Clips, Faces, Json, Seed
from workers.console.terminal import Terminal, print_json

models = typer.Typer(name="models", help="List, download and check models.", no_args_is_help=True)

Wanted = Annotated[list[str] | None, typer.Argument(help="Names of models (`undertone models list`). [default: all]")]


@models.command("list")
def list_command(
    speed: Annotated[
        bool, typer.Option(help="Time the speech recognizers that are here; takes some seconds each.")
    ] = True,
    as_json: Json = False,
) -> None:
    """List every model that can be downloaded: its use, size, licence, and where it is if it is here.

    With `--json` a list of `{name, use, licence, bytes, languages, speed, folder, origin}`.
    """
    with one_line_errors():
        import json
        from dataclasses import asdict

        from workers.cli.model_list import listed, models_table

        rows = listed(speed)
        if as_json:
            print_json(json.dumps([asdict(row) for row in rows], indent=2))
        else:
            Terminal().print(models_table(rows))


@models.command()
def pull(
    names: Annotated[
        list[str],
        typer.Argument(help="Names of models (`undertone models list`); of Whisper the size will do: base."),
    ],
    into: Annotated[
        Path | None, typer.Option(help="Folder to download into. [default: $UNDERTONE_MODELS, or the user's data]")
    ] = None,
) -> None:
    """Download models and check them. An interrupted download goes on where it was.

    $UNDERTONE_MODELS_URL names a mirror to take all of them from.
    """
    with one_line_errors():
        from model.encoders.asr import PREFIX, SIZES
        from model.encoders.manifest import manifest
        from workers.console.display import tell
        from workers.console.progress import console_progress
        from workers.research.downloads import pull, pull_whisper

        known = manifest()
        sizes = {name: name.removeprefix(PREFIX) for name in names if name.removeprefix(PREFIX) in SIZES}
        if strangers := [name for name in names if name not in known and name not in sizes]:
            listed = ", ".join(dict.fromkeys([*known, *(PREFIX + size for size in SIZES)]))
            raise fail(f"no model {', '.join(strangers)}; there are {listed}", USAGE)
        for name in names:
            with console_progress() as progress:
                if name in sizes:
                    folder = pull_whisper(sizes[name], progress, into)
                else:
                    folder = pull(known[name], progress, into)
            tell(f"{name}: {folder}")


@models.command()
def verify(names: Wanted = None, as_json: Json = False) -> None:
    """Compare the models that are here with their published checksums; exit code 1 when one differs, or is not here and
    was named.

    With `--json` a list of `{name, folder, faults}`; `folder` is null where a model is not here.
    """
    with one_line_errors():
        import json

        from model.encoders.manifest import find, folders, manifest, wrong
        from model.encoders.packaged import cache, whole

        known, rows, broken = manifest(), [], False
        if strangers := set(names or ()) - set(known):
            raise fail(f"no model {', '.join(sorted(strangers))}; there are {', '.join(known)}", USAGE)
        for name in names or known:
            model = known[name]
            places = [folder / name for folder in (*folders(), cache())]
            here = find(model) or whole(model) or next((place for place in places if place.is_dir()), None)
            faults = []
            if here is not None:
                faults = [f"{file.name}: {fault}" for file in model.files if (fault := wrong(file, here / file.name))]
            rows.append({"name": name, "folder": None if here is None else str(here), "faults": faults})
            broken = broken or bool(faults) or (here is None and bool(names))
            if not as_json:
                state = "not here" if here is None else f"{'; '.join(faults) or 'as it should be'} ({here})"
                print(f"{name}: {state}")
        if as_json:
            print_json(json.dumps(rows, indent=2))
        if broken:
            raise typer.Exit(RUNTIME)


@models.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint of the emotion model.")],
) -> None:
    """Write a checkpoint's network as ONNX graphs into its folder: sessions then label by ONNX Runtime, not PyTorch.

    `undertone train` has done it already. Graphs of other weights than the folder's are not used.
    """
    with one_line_errors():
        from model.fusion.checkpoint import load_checkpoint, load_step, resolve
        from model.fusion.export import export

        folder = resolve(str(checkpoint))
        written = export(load_checkpoint(str(folder)), folder)
        load_step(str(folder))
        for path in written:
            print(path)


def enroll(
    name: Annotated[str | None, typer.Argument(help="Name of the speaker.")] = None,
    file: Annotated[Path | None, typer.Argument(help="A recording of this voice alone, 5 s of speech or more.")] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the voice instead.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the known voices instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: JSON on stdout.")] = False,
) -> None:
    """Learn a voice, so that sessions call its speaker by name. Numbers are kept, on this machine alone; no recording.

    With `--list --json` a list of `{name}`.
    """
    with one_line_errors():
        import json

        from workers.console.display import tell
        from workers.session import enrolment

        if as_json and not listed:
            raise fail("--json: with --list", USAGE)
        if listed:
            names = list(enrolment.voices())
            if as_json:
                print_json(json.dumps([{"name": known} for known in names], indent=2))
            else:
                print("".join(f"{known}\n" for known in names), end="")
            if again := enrolment.outdated():
                tell(f"enrolled by an earlier version, enroll again: {', '.join(again)}")
            return
        if name is None or (file is None) == (not forget):
            raise fail("give NAME and FILE, or NAME and --forget, or --list", USAGE)
        if forget:
            enrolment.forget(name)
            tell(f"forgot {name}")
            return
        assert file is not None
        from model.encoders.silero import SileroVad
        from stream.sources.file import FileSource
        from stream.speech.endpointing import Endpointing
        from stream.speech.segmenter import VadSegmenter

        segmenter = VadSegmenter(SileroVad(), Endpointing())
        pieces = [u.samples for block in FileSource(file, "mix") for u in segmenter.push(block.samples[0])]
        pieces += [u.samples for u in segmenter.flush()]
        seconds = enrolment.enroll(name, pieces)
        tell(f"enrolled {name} from {seconds:.0f} s of speech; kept in {enrolment.folder()}")


def train_voice(
    out: Annotated[Path, typer.Option(help="Folder to write the encoder to.")],
    data: Clips = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the clips. [default: as shipped]")] = None,
    seed: Seed = 0,
) -> None:
    """Train the voice encoder on RAVDESS: scored on whole actors held out, then on all of them.

    Interrupted, it goes on with the same command. About 30 minutes on one core.
    """
    with one_line_errors():
        import json
        from dataclasses import replace

        from model.encoders.asr import READ_BY_VOICE, AsrError, locate
        from model.encoders.whisper import Whisper
        from model.training.voice_train import VoiceRecipe
        from workers.bench.accuracy.data import ravdess
        from workers.console.progress import console_progress
        from workers.research.train_voice import train_voice as work

        recipe = VoiceRecipe() if epochs is None else replace(VoiceRecipe(), epochs=epochs)
        clips, found = ravdess(data or development_data() / "ravdess"), locate(READ_BY_VOICE)
        if found is None:
            raise AsrError(f"the voice encoder reads Whisper's states, too: undertone models pull {READ_BY_VOICE}")
        with console_progress() as progress:
            report = work(clips, Whisper(found.folder), out, recipe, progress, seed)
        print_json(json.dumps(report, indent=2))


def fit_experts(
    voice: Annotated[Path, typer.Option(help="The folder that train-voice wrote.")],
    checkpoint: Annotated[
        str, typer.Option(help="Name of a shipped checkpoint, or a folder; an experts.json is written into it.")
    ] = "meld",
    data: Clips = None,
    faces: Faces = None,
) -> None:
    """Fit how much weight a checkpoint gives to voice and face, on clips and pictures held out from training."""
    with one_line_errors():
        import json

        from workers.bench.accuracy.data import ravdess
        from workers.console.progress import console_progress
        from workers.research.fit_experts import fit_media_experts

        clips = ravdess(data or development_data() / "ravdess")
        with console_progress() as progress:
            fitted = fit_media_experts(checkpoint, voice, clips, faces or development_data() / "faces", progress)
        print_json(json.dumps(fitted, indent=2))


def compose(
    out: Annotated[Path, typer.Option(help="Folder for the recordings.")],
    data: Clips = None,
    conversations: Annotated[int, typer.Option(min=1, help="Number of conversations.")] = 1,
    speakers: Annotated[int, typer.Option(min=1, max=8, help="Speakers in each conversation.")] = 2,
    turns: Annotated[int, typer.Option(min=1, help="Turns in each conversation.")] = 12,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of turns that begin before the last has ended.")
    ] = 0.15,
    mix: Annotated[bool, typer.Option("--mix", help="One microphone instead of a channel per speaker.")] = False,
    snr: Annotated[float | None, typer.Option(help="With --mix: noise so many dB below the speech.")] = None,
    reverberation: Annotated[float, typer.Option(min=0, help="With --mix: seconds of decay by 60 dB.")] = 0.0,
    faces: Annotated[
        Path | None, typer.Option(help="Pictures named by expression: make an MP4 with faces too.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Make labelled test conversations out of single acted clips: WAV, RTTM, STM, emotions, and films."""
    with one_line_errors():
        import numpy as np

        from workers.bench.accuracy.data import ravdess
        from workers.console.display import tell
        from workers.research.compose import converse, film, one_microphone, write

        clips = ravdess(data or development_data() / "ravdess")
        for n in range(conversations):
            rng = np.random.default_rng((seed, n))
            conversation = converse(clips, rng, turns, overlap, speakers)
            name = f"constructed{n}"
            if faces is not None:
                from model.encoders.faces import FaceReader
                from workers.research.compose import pictures

                known = pictures(faces)
                chosen = [known[k][1] for k in rng.permutation(len(known))[:speakers]]
                out.mkdir(parents=True, exist_ok=True)
                film(conversation, chosen, FaceReader(), out / f"{name}.mp4")
            recorded = one_microphone(conversation, rng, snr, reverberation) if mix or faces else conversation
            tell(str(write(recorded, out, name)))
