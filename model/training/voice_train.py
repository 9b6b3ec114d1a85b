"""Training of the voice encoder on acted speech, with augmentation by telephone lines, rooms, noise and gain.

What the two networks read is made once for every version of every clip; then each network takes a minute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from model.encoders.speaker import SpeakerEncoder
from model.encoders.transcription import RATE
from model.encoders.voice import ALONE, CARD, PARTS, WEIGHTS, WITH_WORDS, Array, speaker_states, trim
from model.encoders.whisper import Whisper
from model.labels import RAVDESS

Rng = np.random.Generator
SILENCE_S = (0.0, 0.6)  # at both ends of an augmented clip, as endpointing leaves some
PEAK_DB = (-30.0, -1.0)  # of an augmented clip, below full scale: Whisper hears the level


@dataclass(frozen=True)
class Clip:
    """One recording of RAVDESS."""

    samples: Array
    """[n] at 16 kHz."""
    emotion: int
    """Index into `model.labels.RAVDESS`."""
    actor: int
    name: str = ""

    @property
    def strong(self) -> bool:
        """Played with strong intensity; False for normal, and for neutral clips, which have no other."""
        return self.name.split("-")[3:4] == ["02"]


@dataclass(frozen=True)
class VoiceRecipe:
    """Hyperparameters of the voice encoder's training."""

    epochs: int = 40
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    hidden: int = 256
    dropout: float = 0.5
    versions: int = 8
    """Versions of each clip: one as recorded, the others augmented."""
    mix: float = 0.8
    """Share of batches whose clips are mixed in pairs."""
    arousal: float = 0.5
    """Weight of the loss of arousal."""


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
    """[m] float32: samples [n] at 16 kHz resampled (another voice), through a room and a line, with noise, cut at both
    ends, louder or softer; each at random. crowd: voices [n] for noise of many speakers."""
    positions = np.arange(0, len(samples) - 1, rng.uniform(0.88, 1.12))
    samples = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    response = room_response(rng, rng.uniform(0.15, 0.8)) if rng.random() < 0.35 else None
    samples = filtered(samples, response, rng.random() < 0.3, rng.uniform(-1.5, 1.5))
    if rng.random() < 0.6:
        samples = with_noise(rng, samples, rng.uniform(5, 30), crowd)
    cut = round(0.15 * len(samples))
    part = samples[int(rng.integers(cut + 1)) : len(samples) - int(rng.integers(cut + 1))]
    loudest = float(np.abs(part).max(initial=1e-6))
    return (part * 10 ** (rng.uniform(*PEAK_DB) / 20) / loudest).astype(np.float32)


class StateReader:
    """The encoders whose states the networks read, as a session runs them."""

    def __init__(self, whisper: Whisper) -> None:
        self._speaker, self._whisper = SpeakerEncoder(), whisper

    def __call__(self, samples: Array) -> Array:
        """[2304] float32 for a clip [n] float32 at 16 kHz: `speaker_states`, then `Transcription.states`; zeros if it
        is silent or too short."""
        states = speaker_states(self._speaker, samples)
        if states is None:
            return np.zeros(INPUTS[WITH_WORDS], np.float32)
        return np.concatenate([states, self._whisper.states(samples)])


INPUTS = {ALONE: 1280, WITH_WORDS: 2304}
"""Numbers that each network reads."""


def version_of(clip: Clip, number: int, version: int, seed: int, crowd: Sequence[Array]) -> Array:
    """[n] float32 at 16 kHz: clip `number` with little silence at its ends; augmented, with more or less of it, unless
    `version` is 0.

    crowd: clips of its own actor, of which noise of many speakers is made, so that training contains no voice of a
    held-out actor.
    """
    rng = np.random.default_rng([seed, number, version])
    return augment(rng, trim(clip.samples, rng.uniform(*SILENCE_S)), crowd) if version else trim(clip.samples)


class VoiceNet(nn.Module):
    """One of the two networks, as it is trained."""

    def __init__(self, inputs: Array, recipe: VoiceRecipe) -> None:
        """inputs: [n, D] of the training data, for mean and standard deviation."""
        super().__init__()
        self.mean, self.scale = inputs.mean(0), inputs.std(0) + 1e-3
        self.first = nn.Linear(inputs.shape[1], recipe.hidden)
        self.norm = nn.BatchNorm1d(recipe.hidden)
        self.dropout_in, self.dropout = nn.Dropout(recipe.dropout / 2), nn.Dropout(recipe.dropout)
        self.second = nn.Linear(recipe.hidden, len(RAVDESS) + 1)

    def forward(self, standardized: Tensor) -> Tensor:
        """[B, D] of mean 0 and standard deviation 1 -> logits [B, 9]: the expressions, and strong intensity."""
        hidden = self.norm(self.first(self.dropout_in(standardized))).relu()
        logits: Tensor = self.second(self.dropout(hidden))
        return logits

    @torch.no_grad()
    def weights(self, temperature: float = 1.0) -> list[Array]:
        """The `PARTS` of the same function of inputs that are not standardized, with the temperature applied to the
        expressions."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        first = (self.first.weight * gain[:, None]).numpy() / self.scale
        bias = ((self.first.bias - norm.running_mean) * gain + norm.bias).numpy() - first @ self.mean
        heat = np.array([temperature] * len(RAVDESS) + [1.0])
        parts = first.T, bias, self.second.weight.numpy().T / heat, self.second.bias.numpy() / heat
        return [np.ascontiguousarray(part, np.float32) for part in parts]


def train(
    inputs: Array,
    emotions: NDArray[np.int64],
    strong: NDArray[np.bool_],
    recipe: VoiceRecipe,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> VoiceNet:
    """Train a network for the recipe's epochs; no epoch is selected.

    inputs: [n, versions, D] float32; emotions: [n] classes of `RAVDESS`; strong: [n], counts where the class is not
    neutral; progress: called with epoch and loss.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = VoiceNet(inputs.reshape(-1, inputs.shape[2]), recipe).train()
    examples = torch.from_numpy((inputs - network.mean) / network.scale)
    truth = nn.functional.one_hot(torch.from_numpy(emotions), len(RAVDESS)).float()
    intensity, counts = torch.from_numpy(strong).float(), torch.from_numpy(emotions != RAVDESS.index("neutral")).float()
    share = truth.sum(0)
    weight = (share.mean() / share.clamp(min=1)).sqrt()  # RAVDESS has half as many neutral clips as others
    of_expression = nn.CrossEntropyLoss(weight, label_smoothing=recipe.smoothing)
    of_arousal = nn.BCEWithLogitsLoss(reduction="none")
    optimizer = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    steps = max(1, len(inputs) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.epochs * steps, pct_start=0.15)
    for epoch in range(recipe.epochs):
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(inputs)), steps):
            batch = examples[chosen, rng.integers(inputs.shape[1], size=len(chosen))]
            target, loud, counted = truth[chosen], intensity[chosen], counts[chosen]
            if rng.random() < recipe.mix:  # mixup (Zhang et al. 2018)
                share_of_other, other = float(rng.beta(0.4, 0.4)), torch.randperm(len(chosen))
                batch, target = batch.lerp(batch[other], share_of_other), target.lerp(target[other], share_of_other)
                loud, counted = loud.lerp(loud[other], share_of_other), counted * counted[other]
            logits = network(batch)
            loss = (
                of_expression(logits[:, :-1], target)
                + recipe.arousal * (of_arousal(logits[:, -1], loud) * counted).mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / steps
        if progress is not None:
            progress(epoch, total)
    return network.eval()


@torch.inference_mode()
def logits_of(network: VoiceNet, inputs: Array) -> Array:
    """[n, 9] float32 logits for inputs [n, D] float32."""
    answer: Array = network(torch.from_numpy((inputs - network.mean) / network.scale)).numpy()
    return answer


def save(networks: Mapping[str, VoiceNet], temperatures: Mapping[str, float], folder: Path, card: object) -> None:
    """Write both networks for `model.encoders.voice.VoiceEncoder`, weights as float16, and `card` as config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{name}.{part}": torch.from_numpy(value).half()
        for name, network in networks.items()
        for part, value in zip(PARTS, network.weights(temperatures[name]), strict=True)
    }
    save_file(weights, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
