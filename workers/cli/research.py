"""The commands of those who train and measure. Heavy imports happen inside them, so that --help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.console.errors import USAGE, development_data, fail, one_line_errors
from workers.console.options import Checkpoint, Json, RayAddress
from workers.console.terminal import Terminal, print_json


def train(
    out: Annotated[Path, typer.Option(help="Folder to write the checkpoint to.")],
    config: Annotated[
        str, typer.Option(help="A shipped configuration, such as meld, or a TOML file like those.")
    ] = "meld",
    data: Annotated[
        Path | None, typer.Option(help="Folder with train.csv and dev.csv. [default: as configured]")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of runs; the best on dev is kept, all are reported.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data; fewer if dev stops improving.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave out a part (repeat for several); an unknown one lists them all.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Checkpoint whose tuned text encoders are taken, instead of tuning one.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Train the baselines on the same data too.")] = True,
    as_json: Json = False,
) -> None:
    """Train a checkpoint on a corpus: tune the text encoder, then train the graph network; the best run on dev is kept.

    Interrupted, it goes on where it was: give the same command again. Curves: tensorboard --logdir OUT/work/logs.
    """
    with one_line_errors():
        import json
        from dataclasses import replace

        from model.fusion.checkpoint import CheckpointError, tuned_of
        from model.training.config import leave_out, load_config
        from model.training.experiment import train_command
        from workers.console.progress import console_progress
        from workers.console.tables import train_table

        run = leave_out(load_config(config), without or ())
        run = replace(run, seeds=seeds or run.seeds, recipe=replace(run.recipe, epochs=epochs or run.recipe.epochs))
        tuned = tuned_of(adapter) if adapter else None
        if tuned is not None and (tuned == (None, None) or (run.reader and tuned.reader is None)):
            raise CheckpointError(f"checkpoint {adapter} has not all the tuned encoders that {config} wants")
        with console_progress(out / "work" / "logs") as progress:
            report = train_command(run, data or _configured(run.data), out, tuned, baselines, progress)
            progress.tell(
                f"checkpoint of seed {report['shipped_seed']} in {out} ({report['minutes']['in all']} minutes)"
            )
        if as_json:
            print_json(json.dumps(report, indent=2))
        else:
            Terminal().print(train_table(report))


def evaluate(
    data: Annotated[Path, typer.Option(help="Table of conversations (CSV), as `undertone prepare` writes it.")],
    checkpoint: Checkpoint = "meld",
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.html and report.json: all scores, also under noise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a checkpoint on a table of conversations."""
    with one_line_errors():
        import json

        from model.evaluation.evaluation import evaluate as score
        from workers.console.progress import console_progress
        from workers.research.evaluation_report import evaluation_table, write_report

        with console_progress() as progress:
            result = score(checkpoint, data, progress, full=report is not None)
            if report is not None:
                write_report(result, report)
                progress.tell(f"report in {report / 'report.html'}")
        if as_json:
            print_json(json.dumps(result, indent=2))
        else:
            Terminal().print(evaluation_table(result))


def study(
    name: Annotated[str, typer.Argument(help="Name of the study; an unknown one lists them all.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.json, NAME.md and NAME.svg.")] = Path("model/results"),
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of runs for each figure. [default: the study's own]")
    ] = None,
) -> None:
    """Run one of the studies behind model/RESULTS.md."""
    with one_line_errors():
        from rich.markdown import Markdown

        from model.evaluation.studies import STUDIES, run_study
        from workers.console.progress import console_progress
        from workers.research.evaluation_report import write_learning_curves

        if name not in STUDIES:
            raise fail(f"no study {name!r}; there are {', '.join(STUDIES)}", USAGE)
        with console_progress() as progress:
            text = run_study(name, development_data(), out, seeds, progress)
        if name == "multitask":
            write_learning_curves(out)
        Terminal().print(Markdown(text))


def prepare(
    corpus: Annotated[str, typer.Argument(help="meld, emorynlp, iemocap, or features (published pickles).")],
    source: Annotated[Path, typer.Argument(help="The release as it is downloaded: a folder, or a pickle.")],
    out: Annotated[Path, typer.Option(help="Folder for train.csv, dev.csv and test.csv.")],
    ray_address: RayAddress = None,
) -> None:
    """Turn a published corpus into tables of conversations for training. Interrupted, it goes on where it was."""
    with one_line_errors():
        from workers.console.progress import console_progress
        from workers.research.prepare import prepare_command

        with console_progress() as progress:
            prepare_command(corpus, source, out, progress, ray_address)


def _configured(folder: str) -> Path:
    return Path(folder) if Path(folder).is_absolute() else development_data() / folder
