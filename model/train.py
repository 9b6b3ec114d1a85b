"""Training of the fusion-GCN on a conversation table: select on validation data, calibrate at the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model import metrics, text
from model.calibration import conformal_threshold, fit_temperature
from model.dialogue import Heard, SpeakerMemory, collate
from model.fusion import EMPTY, FusionConfig, FusionGCN, Labels, Utterances
from model.labels import SENTIMENTS, LabelSet
from model.prosody import WIDTH, ProsodyPrior
from model.tables import Dialogue

Progress = Callable[[str], None]
COVERAGE = 0.7  # of the conformal set; at MELD's difficulty more would call nearly every utterance uncertain


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are what the shipped checkpoint was trained with."""

    epochs: int = 15
    patience: int = 6
    batch: int = 32
    """Dialogues a step."""
    rate: float = 5e-4
    weight_decay: float = 0.05
    sentiment_weight: float = 0.3
    consistency_weight: float = 0.1
    alignment_weight: float = 0.05
    revision_weight: float = 0.5
    label_smoothing: float = 0.05
    class_weight_power: float = 0.25
    """Loss weight of a class = (1 / frequency) ** power: 0 favours accuracy, 1 favours rare classes."""
    modality_dropout: float = 0.15
    """Chance that a modality of an utterance is hidden during training, never all of them."""


@dataclass
class Prepared:
    """A table as the network reads it."""

    heard: list[list[Heard]]
    emotion: list[NDArray[np.int64]]
    sentiment: list[NDArray[np.int64]]

    @property
    def dialogue(self) -> NDArray[np.int64]:
        """[n] the number of each utterance's dialogue."""
        return np.repeat(np.arange(len(self.heard)), [len(h) for h in self.heard])


def cache_folder() -> Path:
    """Where embeddings of tables are kept between runs (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "undertone"


def embed(texts: list[str], progress: Progress) -> NDArray[np.float32]:
    """[n, WIDTH] text embeddings, by the live encoder, kept in the cache folder under a hash of encoder and texts."""
    key = hashlib.sha256(json.dumps([text.NAME, texts]).encode()).hexdigest()[:32]
    file = cache_folder() / f"text-{key}.npy"
    if file.exists():
        stored: NDArray[np.float32] = np.load(file, allow_pickle=False)
        return stored
    encoder = text.TextEncoder()
    out = np.empty((len(texts), text.WIDTH), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths together: little padding
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        out[chosen] = encoder([texts[i] for i in chosen])
        progress(f"embedding {min(start + 64, len(texts))} of {len(texts)} utterances")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, out)
    partial.replace(file)
    return out


def fit_prior(dialogues: list[Dialogue]) -> ProsodyPrior | None:
    """Prosody statistics of the training speakers, None when the table has no prosody."""
    voices: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for dialogue in dialogues:
        for row in dialogue.rows:
            if row.prosody is not None:
                voices.setdefault((dialogue.id, row.speaker), []).append(row.prosody)
    return ProsodyPrior.fit(np.stack(rows) for rows in voices.values())


def prepare(
    dialogues: list[Dialogue], labels: LabelSet, prior: ProsodyPrior | None, window: int, progress: Progress
) -> Prepared:
    """Embed a table exactly as a live session would have heard it, utterance by utterance."""
    embeddings = iter(embed([row.text for dialogue in dialogues for row in dialogue.rows], progress))
    prepared = Prepared([], [], [])
    for dialogue in dialogues:
        memory = SpeakerMemory(prior, window)
        heard = []
        for row in dialogue.rows:
            embedding = next(embeddings)
            features = {"text": embedding} if row.text.strip() else {}
            heard.append(memory.hear(row.speaker, features, row.prosody))
        prepared.heard.append(heard)
        prepared.emotion.append(np.array([labels.emotions.index(row.emotion) for row in dialogue.rows]))
        prepared.sentiment.append(np.array([SENTIMENTS.index(row.sentiment) for row in dialogue.rows]))
    return prepared


def batches(
    data: Prepared, config: FusionConfig, size: int, order: NDArray[np.int64]
) -> Iterator[tuple[Utterances, torch.Tensor, torch.Tensor]]:
    """Padded batches of (utterances, emotion [B, T], sentiment [B, T]) in the given order of dialogues."""
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        utterances = collate([data.heard[i] for i in chosen], config, [0] * len(chosen))
        targets = [torch.zeros_like(utterances.index) for _ in range(2)]
        for b, i in enumerate(chosen):
            targets[0][b, : len(data.emotion[i])] = torch.from_numpy(data.emotion[i])
            targets[1][b, : len(data.sentiment[i])] = torch.from_numpy(data.sentiment[i])
        yield utterances, targets[0], targets[1]


def hide_modalities(utterances: Utterances, chance: float) -> None:
    """Modality dropout, in place: what is hidden in training is what may be missing live."""
    present = utterances.present
    kept = present & (torch.rand(present.shape) >= chance)
    nothing = ~kept.any(-1, keepdim=True)
    utterances.present = torch.where(nothing, present, kept)


def _alignment_loss(labels: Labels, present: torch.Tensor) -> torch.Tensor:
    """InfoNCE between the first modality and each other one of the same utterance, over the batch."""
    losses = []
    for m in range(1, labels.aligned.shape[2]):
        both = present[..., 0] & present[..., m]
        if both.sum() < 2:
            continue
        first, other = (F.normalize(labels.aligned[both][:, k], dim=-1) for k in (0, m))
        scores = first @ other.T / 0.1
        truth = torch.arange(len(scores))
        losses.append((F.cross_entropy(scores, truth) + F.cross_entropy(scores.T, truth)) / 2)
    return torch.stack(losses).mean() if losses else labels.aligned.new_zeros(())


def _everywhere(utterances: Utterances) -> torch.Tensor:
    """[B, T] places of all utterances, for revising a whole conversation."""
    return torch.arange(utterances.index.shape[1]).expand_as(utterances.index)


@torch.inference_mode()
def predict(
    model: FusionGCN, data: Prepared, revised: bool = False, hidden: tuple[str, ...] = ()
) -> NDArray[np.float64]:
    """[n, C] calibrated probabilities of a prepared table: provisional labels, or the final ones if `revised`.

    `hidden` names modalities to withhold.
    """
    model.eval()
    out = []
    withheld = torch.tensor([name in hidden for name in model.config.modalities])
    for utterances, _, _ in batches(data, model.config, 32, np.arange(len(data.heard))):
        utterances.present &= ~withheld
        labels = model(utterances)
        logits = labels.emotion
        if revised:
            logits, _ = model.revise(labels.rows, utterances.slot, utterances.index, _everywhere(utterances))
        out.append(logits.softmax(-1)[utterances.index != EMPTY].double().numpy())
    return np.concatenate(out)


def train(
    config: FusionConfig, recipe: Recipe, training: Prepared, validation: Prepared, seed: int, progress: Progress
) -> FusionGCN:
    """One run: the epoch with the best validation weighted F1, then temperature and threshold fitted on validation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = FusionGCN(config)
    emotions, sentiments = np.concatenate(training.emotion), np.concatenate(training.sentiment)
    classes = len(config.emotions)
    share = np.bincount(emotions, minlength=classes) / len(emotions)
    weight = torch.tensor((1 / np.maximum(share, 1e-4)) ** recipe.class_weight_power, dtype=torch.float32)
    joint = np.zeros((classes, len(config.sentiments)))
    np.add.at(joint, (emotions, sentiments), 1)
    given = joint / np.maximum(joint.sum(1, keepdims=True), 1)
    model.sentiment_given_emotion.copy_(torch.tensor(given))

    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(training.heard) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps, pct_start=0.1)
    truth = np.concatenate(validation.emotion)
    best, best_epoch, best_weights = -1.0, -1, model.state_dict()
    for epoch in range(recipe.epochs):
        model.train()
        losses: list[dict[str, float]] = []
        order = rng.permutation(len(training.heard))
        for utterances, emotion, sentiment in batches(training, config, recipe.batch, order):
            hide_modalities(utterances, recipe.modality_dropout)
            terms = _losses(model, recipe, utterances, emotion, sentiment, weight)
            optimizer.zero_grad()
            sum(terms.values(), torch.zeros(())).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append({name: float(term.detach()) for name, term in terms.items()})
        guess = predict(model, validation).argmax(1)
        score = metrics.weighted_f1(truth, guess, classes)
        means = " ".join(f"{name} {np.mean([row[name] for row in losses]):.3f}" for name in losses[0])
        progress(
            f"seed {seed} epoch {epoch + 1}/{recipe.epochs}: validation weighted F1 {100 * score:.2f}, "
            f"accuracy {100 * metrics.accuracy(truth, guess):.2f}; losses {means}"
        )
        if score > best:
            best, best_epoch = score, epoch
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}
        elif epoch - best_epoch >= recipe.patience:
            break
    model.load_state_dict(best_weights)
    _calibrate(model, validation)
    return model.eval()


def _losses(
    model: FusionGCN,
    recipe: Recipe,
    utterances: Utterances,
    emotion: torch.Tensor,
    sentiment: torch.Tensor,
    weight: torch.Tensor,
) -> dict[str, torch.Tensor]:
    real = utterances.index != EMPTY
    labels = model(utterances)
    smoothing = recipe.label_smoothing

    def fine(logits: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits[real], emotion[real], weight=weight, label_smoothing=smoothing)

    implied = labels.emotion[real].softmax(-1) @ model.sentiment_given_emotion
    coarse = labels.sentiment[real].log_softmax(-1)
    revised, _ = model.revise(labels.rows, utterances.slot, utterances.index, _everywhere(utterances))
    return {
        "emotion": fine(labels.emotion),
        "sentiment": recipe.sentiment_weight * F.nll_loss(coarse, sentiment[real]),
        "consistency": recipe.consistency_weight * F.kl_div(coarse, implied, reduction="batchmean"),
        "alignment": recipe.alignment_weight * _alignment_loss(labels, utterances.present),
        "revision": recipe.revision_weight * fine(revised),
    }


def _calibrate(model: FusionGCN, validation: Prepared) -> None:
    truth = np.concatenate(validation.emotion)
    logits = torch.from_numpy(np.log(np.maximum(predict(model, validation), 1e-12)))
    model.temperature.fill_(fit_temperature(logits, torch.from_numpy(truth)))
    model.conformal_threshold.fill_(conformal_threshold(predict(model, validation), truth, COVERAGE))


def configure(labels: LabelSet, prior: ProsodyPrior | None, **shape: int) -> FusionConfig:
    """The network's configuration for a label set and the modalities at hand."""
    inputs = {"text": text.WIDTH} | ({"audio": WIDTH} if prior is not None else {})
    return FusionConfig(
        labels.name, labels.emotions, SENTIMENTS, tuple(inputs), tuple(inputs.values()), prosody=prior, **shape
    )
