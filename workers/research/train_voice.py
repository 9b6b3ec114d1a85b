"""`undertone train-voice`: train the voice encoder on RAVDESS, with cross-validation over actors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.encoders.voice import ALONE, trim
from model.encoders.whisper import Whisper
from model.labels import LABEL_SETS, RAVDESS, translate
from model.metrics import uar
from model.progress import Progress
from model.training.voice_train import (
    INPUTS,
    Clip,
    StateReader,
    VoiceNet,
    VoiceRecipe,
    filtered,
    logits_of,
    room_response,
    save,
    train,
    version_of,
    with_noise,
)

FOLDS = 5
CONDITIONS = ("as recorded", "telephone", "noise 10 dB", "reverberation 0.5 s")
Floats = NDArray[np.float32]


def train_voice(
    clips: list[Clip], whisper: Whisper, out: Path, recipe: VoiceRecipe, progress: Progress, seed: int = 0
) -> dict[str, Any]:
    """Cross-validate over actors, calibrate on the held-out clips, train on all, write the encoder; return the report.

    whisper: the base model. What was read of the clips is kept in out/states, from which an interrupted run continues;
    fold N as an encoder is in out/folds/N, posteriors of held-out clips in out/folds/held_out.npz.
    """
    actor = np.array([clip.actor for clip in clips])
    actors = sorted(set(actor.tolist()))
    fold_of = {each: n * FOLDS // len(actors) for n, each in enumerate(actors)}
    folds = np.array([fold_of[each] for each in actor.tolist()])
    truth, strong = np.array([clip.emotion for clip in clips]), np.array([clip.strong for clip in clips])
    progress.tell(f"{len(clips)} clips of {len(actors)} actors; {recipe.versions} versions of each")
    versions, under_condition = _states(clips, whisper, out / "states", recipe, progress, seed)
    networks: dict[str, list[VoiceNet]] = {}
    held_out, temperatures, scores = {}, {}, {}
    for name, width in INPUTS.items():
        logits = {condition: np.zeros((len(clips), len(RAVDESS) + 1), np.float32) for condition in CONDITIONS}
        networks[name] = []
        for fold in (*range(FOLDS), None):
            chosen = np.flatnonzero(folds != fold)  # all, where it is None
            title = f"{name}, all actors" if fold is None else f"{name}, fold {fold + 1} of {FOLDS}"
            report_epoch = partial(_report_epoch, progress, title, recipe.epochs)
            inputs = versions[chosen, :, :width]
            networks[name].append(train(inputs, truth[chosen], strong[chosen], recipe, seed, report_epoch))
            members = np.flatnonzero(folds == fold)
            for condition in CONDITIONS if fold is not None else ():
                logits[condition][members] = logits_of(networks[name][-1], under_condition[condition][members, :width])
        posteriors = {condition: calibrated(logits[condition][:, :-1], 1.0) for condition in CONDITIONS}
        heat = _temperature(np.concatenate(list(posteriors.values())), np.tile(truth, len(CONDITIONS)))
        temperatures[name] = heat
        held_out[name] = {condition: calibrated(logits[condition][:, :-1], heat) for condition in CONDITIONS}
        scores[name] = {
            condition: scores_of(held_out[name][condition], truth, actor)
            | {"arousal_auc": _auc_of_arousal(logits[condition][:, -1], truth, strong)}
            for condition in CONDITIONS
        }
    report: dict[str, Any] = {
        "emotions": list(RAVDESS),
        "trained_on": "RAVDESS (Livingstone & Russo 2018), CC BY-NC-SA 4.0: not for commercial use",
        "actors": actors,
        "temperatures": {name: round(value, 3) for name, value in temperatures.items()},
        "cross_validation": {"folds": FOLDS, "unit": "whole actors held out", **scores},
    }
    for fold in range(FOLDS):  # to measure on actors that an encoder was not trained on (bench endtoend --encoder)
        others = [each for each in actors if fold_of[each] != fold]
        folder = out / "folds" / str(fold)
        save({name: each[fold] for name, each in networks.items()}, temperatures, folder, report | {"actors": others})
    save({name: each[-1] for name, each in networks.items()}, temperatures, out, report)
    arrays: dict[str, Any] = dict(held_out[ALONE]) | {"actor": actor, "name": np.array([clip.name for clip in clips])}
    np.savez(out / "folds" / "held_out.npz", **arrays)
    return report


def _states(
    clips: list[Clip], whisper: Whisper, folder: Path, recipe: VoiceRecipe, progress: Progress, seed: int
) -> tuple[Floats, dict[str, Floats]]:
    """Inputs of the networks: [clips, versions, 2304] for training, and [clips, 2304] under each condition."""
    folder.mkdir(parents=True, exist_ok=True)
    read, crowds = StateReader(whisper), crowds_of(clips)
    kinds: list[int | str] = [*range(recipe.versions), *CONDITIONS[1:]]
    found: dict[int | str, Floats] = {}
    for done, kind in enumerate(kinds):
        file = folder / f"{seed}-{kind}.npy"
        if not file.exists():
            rows = []
            for number, clip in enumerate(clips):
                if isinstance(kind, int):
                    samples = version_of(clip, number, kind, seed, crowds[clip.actor])
                else:
                    samples = under(kind, clip, number)
                rows.append(read(samples))
                progress.step("states of the clips", done * len(clips) + number + 1, len(kinds) * len(clips))
            np.save(file, np.stack(rows))
        found[kind] = np.load(file)
    return np.stack([found[n] for n in range(recipe.versions)], 1), {
        condition: found[condition if n else 0] for n, condition in enumerate(CONDITIONS)
    }


def crowds_of(clips: Sequence[Clip]) -> dict[int, list[Floats]]:
    """Trimmed clips [n] float32 at 16 kHz by actor, of which noise of many speakers is made."""
    crowds: dict[int, list[Floats]] = {}
    for clip in clips:
        crowds.setdefault(clip.actor, []).append(trim(clip.samples))
    return crowds


def _auc_of_arousal(arousal: Floats, truth: NDArray[np.int64], strong: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of strong against normal intensity, mean over the emotions that have both.

    arousal: [n]; truth: [n] classes; strong: [n].
    """
    from sklearn.metrics import roc_auc_score

    emotions = [e for e in range(len(RAVDESS)) if len(set(strong[truth == e].tolist())) == 2]
    areas = [roc_auc_score(strong[truth == e], arousal[truth == e]) for e in emotions]
    return round(float(np.mean(areas)), 3) if areas else float("nan")


def _report_epoch(progress: Progress, name: str, epochs: int, epoch: int, loss: float) -> None:
    progress.step(name, epoch + 1, epochs)
    progress.curve(name, {"loss": loss}, epoch)


def under(condition: str, clip: Clip, seed: int) -> Floats:
    """[n] float32 at 16 kHz: a clip without silence at its ends, under one of `CONDITIONS`."""
    rng, samples = np.random.default_rng(seed), trim(clip.samples)
    if condition == "telephone":
        return filtered(samples, telephone=True)
    if condition == "noise 10 dB":
        return with_noise(rng, samples, 10)
    if condition == "reverberation 0.5 s":
        return filtered(samples, room_response(rng, 0.5))
    return samples


def mapped(posterior: Floats) -> Floats:
    """Posteriors [n, 8] float32 of RAVDESS' classes -> [n, 7] of MELD's."""
    emotions = LABEL_SETS["meld"].emotions
    return np.stack([translated for row in posterior if (translated := translate(RAVDESS, row, emotions)) is not None])


def scores_of(posterior: Floats, truth: NDArray[np.int64], actor: NDArray[np.int64]) -> dict[str, Any]:
    """UAR in percent on eight classes and on MELD's seven, with 95 % bootstrap intervals over actors.

    posterior: [n, 8] float32; truth: [n] class indices; actor: [n] numbers.
    """
    seven = mapped(np.eye(len(RAVDESS), dtype=np.float32)).argmax(1)
    found: dict[str, Any] = {}
    for name, guess, right in (
        ("uar_8", posterior.argmax(1), truth),
        ("uar_7", mapped(posterior).argmax(1), seven[truth]),
    ):
        rng, people = np.random.default_rng(0), np.unique(actor)
        draws = []
        for _ in range(1000):
            rows = np.concatenate([np.flatnonzero(actor == a) for a in rng.choice(people, len(people))])
            draws.append(100 * uar(right[rows], guess[rows]))
        low, high = np.percentile(draws, [2.5, 97.5])
        found[name] = round(100 * uar(right, guess), 1)
        found[f"{name}_95"] = [round(float(low), 1), round(float(high), 1)]
    return found


def calibrated(logits: Floats, temperature: float) -> Floats:
    """Posteriors [n, 8] float32 for logits [n, 8], with the temperature applied."""
    from scipy.special import softmax

    posterior: Floats = softmax(logits / temperature, axis=1).astype(np.float32)
    return posterior


def _temperature(posterior: Floats, truth: NDArray[np.int64]) -> float:
    """Temperature that minimises cross-entropy. posterior: [n, 8]; truth: [n] class indices."""
    from scipy.optimize import minimize_scalar

    logs, rows = np.log(np.maximum(posterior, 1e-9)), np.arange(len(truth))

    def cross_entropy(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        return float((np.log(np.exp(scaled).sum(1)) - scaled[rows, truth]).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-2, 2), method="bounded").x))
