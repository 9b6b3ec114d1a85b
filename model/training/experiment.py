"""`undertone train`: tune the text encoders, train the fusion-GCN over seeds, save the best and its model card."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

from model.data.tables import Dialogue, TableError, labelled_rows, read_table
from model.encoders.prosody import FEATURE_WIDTH
from model.encoders.text import Tuned
from model.fusion.checkpoint import CheckpointError, save_checkpoint
from model.fusion.config import FusionConfig
from model.fusion.export import export
from model.fusion.network import FusionGCN
from model.labels import SENTIMENTS, LabelSet
from model.metrics import scores, t_interval, with_intervals
from model.progress import Progress
from model.training import baselines
from model.training.adapt import AdapterRecipe, tune_conversations, tune_sentences
from model.training.card import model_card
from model.training.config import ConfigError, TrainingConfig, load_config
from model.training.examples import read_conversations, read_goemotions
from model.training.noise import rewritten, vocabulary, with_word_errors, with_wrong_speakers
from model.training.prepared import Prepared, cache_folder, fit_prior, prepare
from model.training.teaching import Teaching, teach
from model.training.train import CERTAIN_ACCURACY, Recipe, predict, train


def over_seeds(runs: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and 95 % t-interval half-width over runs, for each score."""
    return {name: t_interval([run[name] for run in runs]) for name in runs[0]}


def read_pair(folder: Path) -> tuple[LabelSet, list[Dialogue], list[Dialogue]]:
    """Label set, training and validation dialogues of a folder with train.csv and dev.csv. Raises TableError."""
    labels, training = read_table(folder / "train.csv")
    other, validation = read_table(folder / "dev.csv")
    if other != labels:
        raise TableError(f"{folder}: train.csv is labelled as {labels.name}, dev.csv as {other.name}")
    return labels, training, validation


def configure(config: TrainingConfig, labels: LabelSet, training: Sequence[Dialogue]) -> FusionConfig:
    """The network's configuration for a label set and the modalities that the training data has."""
    ready = {
        name: len(values) for dialogue in training for row in dialogue.rows for name, values in row.features.items()
    }
    widths = {"text": config.text.embedding_width} | ready
    prior = fit_prior(training) if "audio" in config.modalities and "audio" not in ready else None
    if prior is not None:
        widths["audio"] = FEATURE_WIDTH
    modalities = tuple(name for name in config.modalities if name in widths)
    return FusionConfig(
        labels.name,
        labels.emotions,
        SENTIMENTS,
        modalities,
        tuple(widths[name] for name in modalities),
        **asdict(config.network),
        without=config.without,
        text=config.text,
        reader=config.reader,
        experts=("reader",) if config.reader else (),
        prosody=prior,
    )


def views(
    training: Sequence[Dialogue],
    labels: LabelSet,
    config: FusionConfig,
    tuned: Tuned,
    recipe: Recipe,
    progress: Progress,
    teaching: Teaching | None = None,
) -> list[Prepared]:
    """The training data as it is; with wrong words and wrong speakers; and written as a recognizer writes: the last two
    if the recipe has a share for them.

    teaching: the targets are labels mixed with the teachers' posteriors. Raises CheckpointError.
    """
    prepared = [prepare(training, labels, config, tuned, progress, experts=False)]
    noisy = with_word_errors(training, recipe.word_errors, vocabulary(training), seed=0)
    noisy = with_wrong_speakers(noisy, recipe.speaker_errors, seed=0)
    for share, dialogues in ((recipe.noise_share, noisy), (recipe.rewritten_share, rewritten(training, seed=0))):
        if share:
            prepared.append(prepare(dialogues, labels, config, tuned, progress, experts=False))
    if teaching is not None:
        targets = teach(teaching, labels, training, [], progress).added_to(read_conversations(training, labels, 0), 0)
        ends, labelled = np.cumsum([len(dialogue.rows) for dialogue in training])[:-1], labelled_rows(training)
        target = np.zeros((len(labelled), len(labels.emotions)), np.float32)
        target[labelled] = targets.target
        prepared = [replace(view, target=np.split(target, ends)) for view in prepared]
    return prepared


def tune(
    config: TrainingConfig,
    labels: LabelSet,
    training: Sequence[Dialogue],
    validation: Sequence[Dialogue],
    work: Path,
    progress: Progress,
) -> Tuned:
    """The encoders of a run: tuned now, or by an interrupted run before."""
    recipe = config.adapter
    if recipe is None:
        return Tuned()
    start = tuned_on_sentences(config, recipe, progress)
    for_graph = start if recipe.graph else None
    if config.reader is None:
        return Tuned(for_graph)
    readers = [
        tuned_reader(config, labels, training, validation, start, work, seed, progress) for seed in recipe.reader_seeds
    ]
    return Tuned(for_graph, readers[0])


def tuned_reader(
    config: TrainingConfig,
    labels: LabelSet,
    training: Sequence[Dialogue],
    validation: Sequence[Dialogue],
    start: Path | None,
    work: Path,
    seed: int,
    progress: Progress,
) -> Path:
    """The expert "reader" of a run, tuned from the adapter `start`; taught by larger ones where the run has them.

    Raises TableError and CheckpointError.
    """
    assert config.reader is not None and config.adapter is not None
    lessons = None
    if config.teacher is not None:
        sentences = read_goemotions(_goemotions() / "train.tsv").lines if config.teacher.sentences else []
        lessons = teach(config.teacher, labels, training, sentences, progress)
    return tune_conversations(
        config.reader, config.adapter, training, validation, labels, start, lessons, work, seed, progress
    )


def tuned_on_sentences(config: TrainingConfig, recipe: AdapterRecipe, progress: Progress) -> Path | None:
    """The adapter tuned on GoEmotions, which all corpora share; None when the recipe has none. Raises TableError."""
    if recipe.sentence_epochs == 0:
        return None
    # In the reader's input format, because the reader starts from it; for the graph's encoder it makes no difference.
    format_ = replace(config.reader or config.text, recognized=False)
    return tune_sentences(format_, recipe, _goemotions(), cache_folder(), 0, progress)


def _goemotions() -> Path:
    """The folder of GoEmotions. Raises TableError where it is not there."""
    folder = Path(os.environ.get("UNDERTONE_DATA", "")) / "goemotions"
    if not (folder / "train.tsv").is_file():
        raise TableError(
            f"{folder}: no GoEmotions to learn from; set UNDERTONE_DATA, or sentence_epochs = 0 in [adapter] and "
            "sentences = 0 in [teacher]"
        )
    return folder


def train_command(
    config: TrainingConfig,
    folder: Path,
    out: Path,
    tuned: Tuned | None,
    with_baselines: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Train over seeds on folder/train.csv, select on folder/dev.csv, and save the best seed in `out`.

    tuned: encoders that are tuned already; None: tune them. Finished parts are in out/work, from which an interrupted
    run continues. Returns the report. Raises TableError, ConfigError, and CheckpointError when the work of another run
    is there.
    """
    started = time.monotonic()
    labels, training, validation = read_pair(folder)
    work = out / "work"
    _claim(work, config, folder, tuned)
    asked = config
    if config.teacher is not None and config.teacher.configuration is not None:
        config = replace(config, teacher=_trained_teacher(config.teacher, folder, work / "teacher", progress))
    if tuned is None:
        tuned = tune(config, labels, training, validation, work, progress)
    tuning_minutes = (time.monotonic() - started) / 60
    network = configure(config, labels, training)
    train_views = views(training, labels, network, tuned, config.recipe, progress, config.teacher)
    dev = prepare(validation, labels, network, tuned, progress)
    models = [
        trained(work / f"seed-{seed}.safetensors", network, config.recipe, train_views, dev, seed, progress)
        for seed in range(config.seeds)
    ]
    counts = f"{labels.name}: {len(train_views[0].truth)} training and {len(dev.truth)} validation utterances"
    report = {"data": counts, **_report(models, dev, asked)}
    if with_baselines:
        report["baselines"] = _baselines(training, validation, labels, dev.truth, progress)
    report["minutes"] = {
        "tuning": round(tuning_minutes, 1),
        "in all": round((time.monotonic() - started) / 60, 1),
        "not counted": "what an interrupted run had finished, and GoEmotions when its adapter was there already",
    }
    _save(models, report, tuned, sorted(work.glob("reader-*/best")), out)
    return report


def _trained_teacher(teaching: Teaching, folder: Path, out: Path, progress: Progress) -> Teaching:
    """The same lessons by the checkpoint in `out`, which is trained now where it is not there. Raises ConfigError."""
    assert teaching.configuration is not None
    config = load_config(teaching.configuration)
    if config.teacher is not None and config.teacher.configuration is not None:  # it could be one that it teaches
        raise ConfigError(f"{teaching.configuration} cannot teach: it is taught by a configuration itself")
    if not (out / "done").exists():
        progress.tell(f"first what teaches: {teaching.configuration}")
        train_command(config, folder, out, None, False, progress)
        (out / "done").touch()
    return replace(teaching, checkpoints=(str(out),), configuration=None)


def _report(models: Sequence[FusionGCN], dev: Prepared, config: TrainingConfig) -> dict[str, Any]:
    """Scores of the seeds on dev, and the settings that they were reached with."""
    truth = dev.truth
    provisional = [scores(truth, predict(model, dev)) for model in models]
    final = [scores(truth, predict(model, dev, revised=True)) for model in models]
    best = int(np.argmax([run["weighted_f1"] for run in provisional]))
    model = models[best]
    return {
        "selected_on": "validation (dev); its scores are therefore optimistic",
        "seeds": config.seeds,
        "interval": "95 % t-interval over the seeds of the graph network; the text encoders are one and the same",
        "provisional": over_seeds(provisional),
        "final": over_seeds(final),
        "runs": provisional,
        "shipped_seed": best,
        "shipped": with_intervals(truth, predict(model, dev), dev.dialogue),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "temperature": round(float(model.temperature), 4),
        "certain_from": round(float(model.certain_from), 4),
        "config": asdict(config),
        "machine": f"{platform.machine()}, {platform.system()}, "
        + (torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"),
    }


def _save(
    models: Sequence[FusionGCN], report: dict[str, Any], tuned: Tuned, readers: Sequence[Path], out: Path
) -> None:
    """Write the checkpoint of the best seed, the weights of the other seeds, the tuned encoders, and those of `readers`
    that are not served."""
    best = report["shipped_seed"]
    save_checkpoint(models[best], out, model_card(models[best], report, CERTAIN_ACCURACY), report)
    export(models[best], out)
    shutil.rmtree(out / "seeds", ignore_errors=True)  # of an earlier run
    (out / "seeds").mkdir()
    for seed, other in enumerate(models):
        if seed != best:  # in half precision: for the interval over seeds that `evaluate` gives
            halves = {name: value.half() for name, value in other.state_dict().items()}
            save_file(halves, out / "seeds" / f"seed-{seed}.safetensors")
    for name, part in tuned._asdict().items():
        if part is not None:
            shutil.copytree(part, out / name, dirs_exist_ok=True)
    if tuned.adapter is not None:  # the graph has no use for its head
        (out / "adapter" / "head.safetensors").unlink(missing_ok=True)
    for reader in readers:
        if reader != tuned.reader:
            shutil.copytree(reader, out / "seeds" / reader.parent.name)


def _claim(work: Path, config: TrainingConfig, folder: Path, tuned: Tuned | None) -> None:
    """Record this run's settings in `work`, so that it does not continue another run's.

    Raises CheckpointError when a run with other settings is there.
    """
    given = [str(part) for part in tuned or ()]
    settings = json.dumps([asdict(config), str(folder.resolve()), given], indent=1)
    claim = work / "settings.json"
    if claim.exists() and claim.read_text(encoding="utf-8") != settings:
        raise CheckpointError(f"{work.parent}: holds a run with other settings; choose another --out or remove {work}")
    work.mkdir(parents=True, exist_ok=True)
    claim.write_text(settings, encoding="utf-8")


def trained(
    file: Path,
    network: FusionConfig,
    recipe: Recipe,
    train_views: Sequence[Prepared],
    dev: Prepared,
    seed: int,
    progress: Progress,
) -> FusionGCN:
    """The network of one seed: loaded from an interrupted run, else trained now."""
    if file.exists():
        model = FusionGCN(network)
        model.load_state_dict(load_file(file))
        return model.eval()
    model = train(network, recipe, train_views, dev, seed, progress)
    partial = file.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    partial.replace(file)
    return model


def _baselines(
    training: list[Dialogue],
    validation: list[Dialogue],
    labels: LabelSet,
    truth: NDArray[np.int64],
    progress: Progress,
) -> dict[str, dict[str, float]]:
    guesses = {"majority": baselines.majority(training, validation, labels)}
    try:
        guesses["tfidf_past_six"] = baselines.tfidf(training, validation, labels, progress.tell)
    except ValueError as error:  # scikit-learn's: a table with hardly any words, or with one emotion alone
        progress.tell(f"no TF-IDF baseline: there is too little to learn it from ({error})")
    return {
        name: {
            "accuracy": round(100 * float(accuracy_score(truth, guess)), 2),
            "weighted_f1": round(100 * float(f1_score(truth, guess, average="weighted", zero_division=0)), 2),
        }
        for name, guess in guesses.items()
    }
