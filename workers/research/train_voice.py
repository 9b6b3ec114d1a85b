"""`undertone train-voice`: train the voice encoder on RAVDESS, with cross-validation over actors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from model.encoders.voice import trim
from model.encoders.voice_net import VoiceNet
from model.labels import LABEL_SETS, RAVDESS, translate
from model.metrics import uar
from model.progress import Progress
from model.training.voice_train import (
    Clip,
    VoiceRecipe,
    augmented_versions,
    filtered,
    posteriors,
    room_response,
    save,
    train,
    with_noise,
)

FOLDS = 5
CONDITIONS = ("as recorded", "telephone", "noise 10 dB", "reverberation 0.5 s")
Floats = NDArray[np.float32]


def train_voice(clips: list[Clip], out: Path, recipe: VoiceRecipe, progress: Progress, seed: int = 0) -> dict[str, Any]:
    """Cross-validate over actors, calibrate on the held-out clips, train on all, write the encoder; return the report.

    The networks of the folds are in out/folds, from which an interrupted run continues; fold N as an encoder in
    out/folds/N.
    """
    actors = sorted({clip.actor for clip in clips})
    fold_of = {actor: n * FOLDS // len(actors) for n, actor in enumerate(actors)}
    folds = np.array([fold_of[clip.actor] for clip in clips])
    truth = np.array([clip.emotion for clip in clips])
    progress.tell(f"{len(clips)} clips of {len(actors)} actors; {recipe.versions} versions of each")
    versions: list[Any] = []
    held_out = {condition: np.zeros((len(clips), len(RAVDESS)), np.float32) for condition in CONDITIONS}
    (out / "folds").mkdir(parents=True, exist_ok=True)
    for fold in (*range(FOLDS), None):
        path = out / "folds" / ("all.safetensors" if fold is None else f"{fold}.safetensors")
        network = VoiceNet()
        if path.exists():
            network.load_state_dict(load_file(path))
        else:
            versions = versions or augmented_versions(clips, recipe, seed)
            chosen = np.flatnonzero(folds != fold) if fold is not None else np.arange(len(clips))
            name = "voice, all actors" if fold is None else f"voice, fold {fold + 1} of {FOLDS}"
            report_epoch = partial(_report_epoch, progress, name, recipe.epochs)
            network = train([versions[n] for n in chosen], [int(truth[n]) for n in chosen], recipe, seed, report_epoch)
            save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
        if fold is not None:
            members = np.flatnonzero(folds == fold)
            for condition in CONDITIONS:
                held_out[condition][members] = posteriors(
                    network, [under(condition, clips[n], int(n)) for n in members]
                )
    temperature = _temperature(np.concatenate(list(held_out.values())), np.tile(truth, len(CONDITIONS)))
    network.temperature.fill_(temperature)
    scores = {
        condition: scores_of(held_out[condition], truth, np.array([c.actor for c in clips])) for condition in held_out
    }
    report: dict[str, Any] = {
        "widths": [24, 48, 96, 160],
        "emotions": list(RAVDESS),
        "trained_on": "RAVDESS (Livingstone & Russo 2018), CC BY-NC-SA 4.0: not for commercial use",
        "actors": actors,
        "parameters": sum(p.numel() for p in network.parameters()),
        "temperature": round(temperature, 3),
        "cross_validation": {"folds": FOLDS, "unit": "whole actors held out", **scores},
    }
    save(network, out, report)
    for fold in range(FOLDS):  # to measure on actors that an encoder was not trained on (bench endtoend --encoder)
        network.load_state_dict(load_file(out / "folds" / f"{fold}.safetensors"))
        network.temperature.fill_(temperature)
        save(network, out / "folds" / str(fold), report | {"actors": [a for a in actors if fold_of[a] != fold]})
    arrays: dict[str, Any] = {c: calibrated(held_out[c], temperature) for c in held_out}
    arrays |= {"actor": np.array([c.actor for c in clips]), "name": np.array([c.name for c in clips])}
    np.savez(out / "folds" / "held_out.npz", **arrays)
    return report


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


def calibrated(posterior: Floats, temperature: float) -> Floats:
    """Posteriors [n, 8] float32 of an uncalibrated network, with the temperature applied."""
    return torch.tensor(posterior).clamp(min=1e-9).log().div(temperature).softmax(-1).numpy()


def _temperature(posterior: Floats, truth: NDArray[np.int64]) -> float:
    """Temperature that minimises cross-entropy. posterior: [n, 8]; truth: [n] class indices."""
    from scipy.optimize import minimize_scalar

    logs, rows = np.log(np.maximum(posterior, 1e-9)), np.arange(len(truth))

    def cross_entropy(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        return float((np.log(np.exp(scaled).sum(1)) - scaled[rows, truth]).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-2, 2), method="bounded").x))
