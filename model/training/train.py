"""Training of the fusion-GCN on prepared conversations: selection and calibration on validation data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import with_config
from sklearn.metrics import accuracy_score, f1_score
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.fusion.calibration import certain_from, fit_temperature
from model.fusion.config import EMPTY, FusionConfig
from model.fusion.experts import fit_experts
from model.fusion.network import FusionGCN, Labels, Utterances
from model.progress import Progress
from model.training.collate import collate
from model.training.prepared import UNKNOWN, Prepared, like_lengths

CERTAIN_ACCURACY = 0.7  # of labels that are not called uncertain; of all labels on MELD's dev six in ten are right
CONTRASTIVE_TEMPERATURE = 0.1  # of the alignment loss
LEAST_PROBABILITY = 1e-12  # of a sentiment: one that the training data lacks has 0, where the logarithm has no slope


@with_config(extra="forbid")
@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of the training. The defaults are those of the shipped MELD checkpoint."""

    epochs: int = 15
    patience: int = 6
    batch: int = 32
    """Dialogues in an optimiser step."""
    rate: float = 1e-3
    weight_decay: float = 0.05
    average: float = 0.98
    """Decay, per step, of the exponential moving average of the weights, which is evaluated and saved."""
    sentiment_weight: float = 0.3
    consistency_weight: float = 0.1
    alignment_weight: float = 0.05
    revision_weight: float = 0.5
    label_smoothing: float = 0.05
    class_weight_power: float = 0.25
    """Loss weight of a class is (1 / frequency) ** power: 0 favours accuracy, 1 favours rare classes."""
    modality_dropout: float = 0.15
    """Probability that a modality of an utterance is hidden during training; never all of them."""
    word_errors: float = 0.15
    """Word error rate in the noisy view of the training data."""
    speaker_errors: float = 0.1
    """Rate of wrong speakers in the noisy view of the training data."""
    noise_share: float = 0.3
    """Probability that a dialogue is drawn from the noisy view."""
    rewritten_share: float = 0.0
    """Probability that a dialogue is drawn from the view that is written as a recognizer writes."""
    lookahead: int = 0
    """Later utterances that the provisional label may use: not 0 only for comparison with the offline literature."""

    @property
    def shares(self) -> list[float]:
        """Probability of each view beside the training data as it is, in the order of `views`; those with one alone."""
        return [share for share in (self.noise_share, self.rewritten_share) if share]


def batches(
    data: Prepared, config: FusionConfig, groups: Sequence[NDArray[np.int64]], device: torch.device
) -> Iterator[tuple[Utterances, torch.Tensor, torch.Tensor]]:
    """Padded batches (utterances, emotion [B, T] int64, sentiment [B, T] int64) of dialogues; where these have targets,
    they are the emotion, [B, T, C] float32.

    groups: numbers [B] of the dialogues of each batch.
    """
    for chosen in groups:
        utterances = collate([data.conversations[i] for i in chosen], config, [0] * len(chosen)).to(device)
        learnt = data.emotion if data.target is None else data.target
        emotion, sentiment = (
            pad_sequence([torch.from_numpy(values[i]) for i in chosen], batch_first=True).to(device)
            for values in (learnt, data.sentiment)
        )
        yield utterances, emotion, sentiment


def hide_modalities(utterances: Utterances, chance: float) -> None:
    """Modality dropout of a batch [B, T, M], in place: each modality is absent with probability `chance`, never all."""
    present = utterances.present
    remaining = present & (torch.rand(present.shape, device=present.device) >= chance)
    nothing = ~remaining.any(-1, keepdim=True)
    utterances.present = torch.where(nothing, present, remaining)


def _alignment_loss(labels: Labels, present: torch.Tensor) -> torch.Tensor:
    """InfoNCE (van den Oord et al. 2018) between the first and each other modality of an utterance, over the batch."""
    losses = []
    for m in range(1, labels.aligned.shape[2]):
        both = present[..., 0] & present[..., m]
        if both.sum() < 2:
            continue
        first, other = (F.normalize(labels.aligned[both][:, k], dim=-1) for k in (0, m))
        scores = first @ other.T / CONTRASTIVE_TEMPERATURE
        truth = torch.arange(len(scores), device=scores.device)
        losses.append((F.cross_entropy(scores, truth) + F.cross_entropy(scores.T, truth)) / 2)
    return torch.stack(losses).mean() if losses else labels.aligned.new_zeros(())


@torch.inference_mode()
def predict(model: FusionGCN, data: Prepared, revised: bool = False, lookahead: int = 0) -> NDArray[np.float64]:
    """[n, C] float64 calibrated probabilities of a prepared table's utterances with a label: provisional labels, or the
    final ones if `revised`.

    lookahead: number of later utterances that the provisional label may use.
    """
    model.eval()
    device = model.absent.device
    out = []
    groups = like_lengths(data.length, 32)
    for utterances, _, _ in batches(data, model.config, groups, device):
        labels = model(utterances, lookahead=lookahead)
        logits = labels.emotion
        if revised:
            logits, _ = model.revise(labels.rows, utterances.slot, utterances.index)
        out.append(logits.softmax(-1)[utterances.index != EMPTY].double().cpu().numpy())
    labelled = data.labelled
    rows = np.split(np.arange(len(labelled)), np.cumsum(data.length.astype(int))[:-1])  # of each dialogue
    placed = np.empty((len(labelled), len(model.config.emotions)))
    placed[np.concatenate([rows[dialogue] for group in groups for dialogue in group])] = np.concatenate(out)
    return placed[labelled]


def train(
    config: FusionConfig,
    recipe: Recipe,
    views: Sequence[Prepared],
    validation: Prepared,
    seed: int,
    progress: Progress,
) -> FusionGCN:
    """Train one network, select its epoch by weighted F1 on validation data, and calibrate it there.

    views: the training data as it is, and optionally with noise (the same dialogues in the same order).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = FusionGCN(config).to(device)
    training = views[0]
    weight = _class_weights(training, config, recipe).to(device)
    model.sentiment_given_emotion.copy_(_sentiment_given_emotion(training, config))
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(training.conversations) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps, pct_start=0.1)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
    smooth = averaged.module
    assert isinstance(smooth, FusionGCN)
    truth = validation.truth
    best, best_epoch, best_weights = -1.0, -1, model.state_dict()
    for epoch in range(recipe.epochs):
        model.train()
        losses: list[dict[str, float]] = []
        epoch_data, groups = _draw_epoch(views, recipe, rng)
        for utterances, emotion, sentiment in batches(epoch_data, config, groups, device):
            hide_modalities(utterances, recipe.modality_dropout)
            terms = _losses(model, recipe, utterances, emotion, sentiment, weight)
            optimizer.zero_grad()
            sum(terms.values(), torch.zeros((), device=device)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            losses.append({name: float(term.detach()) for name, term in terms.items()})
        guess = predict(smooth, validation, lookahead=recipe.lookahead).argmax(1)
        score = float(f1_score(truth, guess, average="weighted", zero_division=0))
        means = {f"{name} loss": float(np.mean([row[name] for row in losses])) for name in losses[0]}
        accuracy = float(accuracy_score(truth, guess))
        validation_scores = {"validation weighted F1": 100 * score, "validation accuracy": 100 * accuracy}
        progress.curve(f"seed {seed}", means | validation_scores, epoch + 1)
        progress.step(f"seed {seed}, validation weighted F1 {100 * score:.2f}", epoch + 1, recipe.epochs)
        if score > best:
            best, best_epoch = score, epoch
            best_weights = {name: value.clone() for name, value in smooth.state_dict().items()}
        elif epoch - best_epoch >= recipe.patience:
            break
    model.load_state_dict(best_weights)
    calibrate(model, validation)
    progress.tell(f"seed {seed}: validation weighted F1 {100 * best:.2f} after epoch {best_epoch + 1}")
    return model.eval().cpu()


def _class_weights(training: Prepared, config: FusionConfig, recipe: Recipe) -> torch.Tensor:
    """[C] float32 loss weights of the emotions."""
    emotions = training.truth
    share = np.bincount(emotions, minlength=len(config.emotions)) / len(emotions)
    return torch.tensor((1 / np.maximum(share, 1e-4)) ** recipe.class_weight_power, dtype=torch.float32)


def _sentiment_given_emotion(training: Prepared, config: FusionConfig) -> torch.Tensor:
    """[C, S] P(sentiment | emotion) in the training data."""
    joint = np.zeros((len(config.emotions), len(config.sentiments)))
    np.add.at(joint, (training.truth, np.concatenate(training.sentiment)[training.labelled]), 1)
    return torch.tensor(joint / np.maximum(joint.sum(1, keepdims=True), 1))


def _draw_epoch(
    views: Sequence[Prepared], recipe: Recipe, rng: np.random.Generator
) -> tuple[Prepared, list[NDArray[np.int64]]]:
    """The data of one epoch, each dialogue of a randomly chosen view, and the numbers [B] of each batch's dialogues."""
    training = views[0]
    count = len(training.conversations)
    ends = np.cumsum(recipe.shares[: len(views) - 1])
    # Beyond the last end the training data as it is, which is the first view.
    chosen = (np.searchsorted(ends, rng.random(count), side="right") + 1) % len(views)
    conversations = [views[view].conversations[d] for d, view in enumerate(chosen)]
    order = rng.permutation(count)
    groups = [order[start : start + recipe.batch] for start in range(0, count, recipe.batch)]
    return Prepared(conversations, training.emotion, training.sentiment, training.target), groups


def _losses(
    model: FusionGCN,
    recipe: Recipe,
    utterances: Utterances,
    emotion: torch.Tensor,
    sentiment: torch.Tensor,
    weight: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """The terms of the loss, weighted by the recipe. emotion, sentiment: [B, T] int64, or emotion [B, T, C] float32;
    weight: [C].

    Padding and context, whose sentiment is `UNKNOWN`, have none; every conversation has an utterance that has.
    """
    real = (utterances.index != EMPTY) & (sentiment != UNKNOWN)
    labels = model(utterances, lookahead=recipe.lookahead)
    smoothing = recipe.label_smoothing

    def fine(logits: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of emotion logits [B, T, C]."""
        learnt = emotion[real]
        loss = F.cross_entropy(logits[real], learnt, weight=weight, label_smoothing=smoothing)
        # Of classes PyTorch takes the weighted mean, of distributions the mean.
        return loss / (learnt @ weight).mean() if learnt.is_floating_point() else loss

    implied = labels.emotion[real].softmax(-1) @ model.sentiment_given_emotion
    implied = implied.clamp_min(LEAST_PROBABILITY)
    coarse = labels.sentiment[real].log_softmax(-1)
    terms = {
        "emotion": fine(labels.emotion),
        "sentiment": recipe.sentiment_weight * F.nll_loss(coarse, sentiment[real]),
        "consistency": recipe.consistency_weight * F.kl_div(coarse, implied, reduction="batchmean"),
        "alignment": recipe.alignment_weight * _alignment_loss(labels, utterances.present),
    }
    if model.has("revision"):
        revised, _ = model.revise(labels.rows, utterances.slot, utterances.index)
        terms["revision"] = recipe.revision_weight * fine(revised)
    return terms


def calibrate(model: FusionGCN, validation: Prepared) -> None:
    """Fit the experts' weights, the temperatures and the certain labels' threshold anew on validation data."""
    truth = validation.truth
    model.expert_weight.zero_()
    for fitted in (model.temperature, model.revision_temperature):
        fitted.fill_(1.0)
    if model.config.experts:
        everything = [one for conversation in validation.conversations for one in conversation]
        utterances = [one for one, wanted in zip(everything, validation.labelled, strict=True) if wanted]
        silent = np.zeros(len(model.config.emotions))
        names = model.config.experts
        posteriors = np.array([[one.expert_posteriors.get(name, silent) for name in names] for one in utterances])
        weights, prior = fit_experts(predict(model, validation), posteriors, truth, validation.dialogue)
        model.expert_weight.copy_(torch.from_numpy(weights))
        model.expert_prior.copy_(torch.from_numpy(prior))
    for revised, temperature in ((False, model.temperature), (True, model.revision_temperature)):
        logits = torch.from_numpy(np.log(np.maximum(predict(model, validation, revised), 1e-12)))
        temperature.fill_(fit_temperature(logits, torch.from_numpy(truth)))
    model.certain_from.fill_(certain_from(predict(model, validation), truth, CERTAIN_ACCURACY))
