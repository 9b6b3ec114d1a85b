"""Training of the voice encoder on acted speech, with augmentation by telephone lines, rooms and noise."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from model.encoders.spectrum import BINS, HOP_SAMPLES, WINDOW_SAMPLES
from model.encoders.transcription import RATE
from model.encoders.voice import GRAPH, Array, trim
from model.encoders.voice_net import RANGE_DECADES, VoiceNet
from model.fusion.export import to_onnx
from model.labels import RAVDESS

Rng = np.random.Generator


@dataclass(frozen=True)
class Clip:
    """One recording of RAVDESS."""

    samples: Array
    """[n] at 16 kHz."""
    emotion: int
    """Index into `model.labels.RAVDESS`."""
    actor: int
    name: str = ""


@dataclass(frozen=True)
class VoiceRecipe:
    """Hyperparameters of the voice encoder's training."""

    epochs: int = 100
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    dropout: float = 0.3
    average: float = 0.998
    """Decay of the exponential moving average of the weights, which is the result."""
    versions: int = 8
    """Versions of each clip: one as recorded, the others augmented."""
    mix: float = 0.8
    """Share of batches whose clips are mixed in pairs."""


def noise(rng: Rng, length: int, crowd: Sequence[Array]) -> Array:
    """[length] float32: white, pink or brown noise, or a few voices [n] of `crowd` at once; standard deviation 1."""
    kind = rng.integers(4)
    if kind == 3 and crowd:
        mixed = np.zeros(length, np.float32)
        for _ in range(rng.integers(2, 6)):
            voice = crowd[int(rng.integers(len(crowd)))]
            mixed += np.resize(np.roll(voice, rng.integers(len(voice))), length) / (voice.std() + 1e-6)
        generated: Array = mixed
    else:
        spectrum = np.fft.rfft(rng.standard_normal(length).astype(np.float32))
        spectrum /= np.maximum(np.arange(len(spectrum)), 30) ** (min(int(kind), 2) / 2)
        generated = np.fft.irfft(spectrum, length).astype(np.float32)
    scaled: Array = generated / (generated.std() + 1e-9)
    return scaled


def room_response(rng: Rng, decay: float) -> Array:
    """[decay · RATE] float32: impulse response of a room, direct sound, then noise that falls by 60 dB in `decay`
    seconds."""
    time = np.arange(round(decay * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    tail *= math.sqrt(rng.uniform(0.2, 1.2) / max(1e-9, float((tail**2).sum())))
    tail[0] = 1.0
    return tail.astype(np.float32)


def filtered(samples: Array, response: Array | None = None, telephone: bool = False, tilt: float = 0.0) -> Array:
    """[n] float32: samples [n] at 16 kHz through a room (its impulse response [m]), a telephone line (300 … 3400 Hz)
    and a tilt in dB an octave around 500 Hz."""
    length = len(samples)
    size = 1 << (length + (0 if response is None else len(response)) - 1).bit_length()
    spectrum = np.fft.rfft(samples, size)
    if response is not None:
        spectrum *= np.fft.rfft(response, size)
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    if tilt:
        spectrum *= 10 ** (tilt * np.log2(np.maximum(hertz, 60) / 500) / 20)
    if telephone:
        spectrum *= 1 / (1 + (np.maximum(hertz, 1) / 3400) ** 24) / (1 + (300 / np.maximum(hertz, 1)) ** 8)
    out: Array = np.fft.irfft(spectrum, size)[:length].astype(np.float32)
    return out


def with_noise(rng: Rng, samples: Array, snr: float, crowd: Sequence[Array] = ()) -> Array:
    """[n] float32: samples [n] at 16 kHz with noise `snr` dB below their mean power."""
    level = samples.std() * 10 ** (-snr / 20)
    noisy: Array = (samples + level * noise(rng, len(samples), crowd)).astype(np.float32)
    return noisy


def augment(rng: Rng, samples: Array, crowd: Sequence[Array]) -> Array:
    """[m] float32: samples [n] at 16 kHz resampled (another voice), through a room and a line, with noise, and cut at
    both ends; each at random. crowd: voices [n] for noise of many speakers."""
    positions = np.arange(0, len(samples) - 1, rng.uniform(0.88, 1.12))
    samples = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    response = room_response(rng, rng.uniform(0.15, 0.8)) if rng.random() < 0.35 else None
    samples = filtered(samples, response, rng.random() < 0.3, rng.uniform(-1.5, 1.5))
    if rng.random() < 0.6:
        samples = with_noise(rng, samples, rng.uniform(5, 30), crowd)
    cut = round(0.15 * len(samples))
    return samples[int(rng.integers(cut + 1)) : len(samples) - int(rng.integers(cut + 1))]


def augmented_versions(clips: Sequence[Clip], recipe: VoiceRecipe, seed: int) -> list[list[Tensor]]:
    """Spectrograms [MEL_BANDS, T] of each clip: one as recorded, then `recipe.versions` - 1 augmented ones.

    The noise of a clip is of its own actor's clips, so that training contains no voice of a held-out actor.
    """
    rng, network = np.random.default_rng(seed), VoiceNet()
    trimmed = [trim(clip.samples) for clip in clips]
    crowds: dict[int, list[Array]] = {}
    for clip, samples in zip(clips, trimmed, strict=True):
        crowds.setdefault(clip.actor, []).append(samples)
    return [
        [log_mel(network, samples)]
        + [log_mel(network, augment(rng, samples, crowds[clip.actor])) for _ in range(recipe.versions - 1)]
        for clip, samples in zip(clips, trimmed, strict=True)
    ]


def log_mel(network: VoiceNet, samples: Array) -> Tensor:
    """[MEL_BANDS, T] spectrogram of samples [n] float32 at 16 kHz, padded to the network's minimum."""
    padded = np.pad(samples, (0, max(0, WINDOW_SAMPLES + 16 * HOP_SAMPLES - len(samples))))
    generated: Tensor = network.log_mel(torch.from_numpy(padded)[None])[0]
    return generated


def batch_of(rng: Rng, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Padded spectrograms [B, MEL_BANDS, T] with masked stripes (SpecAugment, Park et al. 2019), and their frames [B]
    int64."""
    frames = torch.tensor([spectrogram.shape[-1] for spectrogram in chosen])
    batch = torch.full((len(chosen), chosen[0].shape[0], int(frames.max())), -RANGE_DECADES)
    for row, spectrogram in zip(batch, chosen, strict=True):
        row[:, : spectrogram.shape[-1]] = spectrogram
        for axis, size in enumerate(spectrogram.shape):
            for _ in range(2):
                width = int(rng.integers(size // 7 + 1))
                row.narrow(axis, int(rng.integers(size - width + 1)), width).fill_(float(spectrogram.mean()))
    return batch, frames


def train(
    versions: Sequence[Sequence[Tensor]],
    emotions: Sequence[int],
    recipe: VoiceRecipe,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> VoiceNet:
    """Train a network for the recipe's epochs; no epoch is selected.

    versions: spectrograms [MEL_BANDS, T] of each clip, as `augmented_versions` makes them; emotions: class indices of
    `RAVDESS`; progress: called with epoch and loss.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = VoiceNet(dropout=recipe.dropout).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged: VoiceNet = copy.deepcopy(network).eval()
    truth = nn.functional.one_hot(torch.tensor(emotions), len(RAVDESS)).float()
    share = truth.sum(0)
    weight = (share.mean() / share.clamp(min=1)).sqrt()  # RAVDESS has half as many neutral clips as others
    loss_of = nn.CrossEntropyLoss(weight, label_smoothing=recipe.smoothing)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    steps = math.ceil(len(versions) / recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.epochs * steps, pct_start=0.15)
    for epoch in range(recipe.epochs):
        network.train()
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(versions)), steps):
            batch, frames = batch_of(rng, [versions[n][int(rng.integers(len(versions[n])))] for n in chosen])
            target = truth[chosen]
            if rng.random() < recipe.mix:  # mixup (Zhang et al. 2018)
                share_of_other, other = float(rng.beta(0.4, 0.4)), torch.randperm(len(chosen))
                batch = batch.lerp(batch[other], share_of_other)
                target = target.lerp(target[other], share_of_other)
                frames = torch.maximum(frames, frames[other])
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch, frames)
            loss = loss_of(logits.float(), target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item() / steps
            with torch.no_grad():
                decay = min(recipe.average, schedule.last_epoch / (10 + schedule.last_epoch))
                for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
                    if mean.is_floating_point():
                        mean.lerp_(now, 1 - decay)
        if progress is not None:
            progress(epoch, total)
    return averaged


@torch.inference_mode()
def posteriors(network: VoiceNet, clips: Sequence[Array]) -> NDArray[np.float32]:
    """[n, 8] float32 posteriors of clips [samples] at 16 kHz, one by one as `model.encoders.voice.VoiceEncoder`
    does."""
    network.eval()
    spectrograms = [log_mel(network, trim(samples)) for samples in clips]
    return np.stack([network(p[None], torch.tensor([p.shape[-1]]))[0].softmax(-1).numpy() for p in spectrograms])


class _Posterior(nn.Module):
    """What `model.encoders.voice.VoiceEncoder` runs."""

    def __init__(self, network: VoiceNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor]:
        log_mel = self.network.levels(inputs["power"].transpose(1, 2))
        frames = torch.full_like(log_mel[:, 0, 0], log_mel.shape[-1]).long()
        return (self.network(log_mel, frames).softmax(-1),)


def save(network: VoiceNet, folder: Path, card: dict[str, object]) -> None:
    """Write the weights, `card` as config.json, and the export."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    example = {"power": torch.rand(1, 200, BINS)}
    graph = to_onnx(
        _Posterior(network.eval()).eval(), example, {"power": {1: torch.export.Dim("frames")}}, ["posterior"]
    )
    graph.save(str(folder / GRAPH))
