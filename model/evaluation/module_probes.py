"""Studies of single modules: the alignment on a simple multimodal task, the graph on the speaker relation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from model.encoders.prosody import COLUMNS
from model.evaluation.lab import Lab, score_dev, table
from model.fusion.config import EMPTY, FusionConfig
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.network import FusionGCN, Utterances
from model.progress import Silent
from model.training.config import TrainingConfig, leave_out
from model.training.prepared import Prepared, like_lengths
from model.training.train import batches, train

MAX_DISTANCE = 6  # utterances back, up to which the speaker is compared


def alignment_alone(lab: Lab) -> str:
    """Emotion from text and prosody of single utterances, with their own prosody and with that of another utterance.

    The prosody of another utterance is realistic noise; a gate should close on it. Returns a Markdown table.
    """
    cells = {}
    base = leave_out(lab.config, ["context", "revision", "slots", "noise"])
    base = replace(base, network=replace(base.network, layers=0), recipe=replace(base.recipe, batch=256, epochs=8))
    variants = {
        "text alone": ["prosody", "alignment", "alignment_loss"],
        "no alignment (states are pooled)": ["alignment", "alignment_loss"],
        "co-attention without gate": ["gate", "alignment_loss"],
        "co-attention and gate": ["alignment_loss"],
        "co-attention, gate and alignment loss": [],
    }
    for prosody in ("own", "of another utterance"):
        for variant, parts in variants.items():
            if prosody != "own" and variant == "text alone":
                continue
            config = leave_out(base, parts)

            def run(seed: int, config: TrainingConfig = config, shuffled: bool = prosody != "own") -> dict[str, float]:
                network, (training, *_), dev = lab.prepared(config)
                training, dev = (_single_utterances(part, shuffled, seed) for part in (training, dev))
                model = train(network, config.recipe, [training], dev, seed, Silent())
                return score_dev(model, dev) | {"gate": 100 * _opening(model, dev)}

            name = variant if variant == "text alone" else f"{variant}; prosody {prosody}"
            cells[name] = lab.measure("alignment", name, run)
    columns = {"accuracy": "accuracy", "weighted_f1": "weighted F1", "gate": "gate text ← prosody, % open"}
    return table(cells, columns)


def _single_utterances(data: Prepared, shuffled: bool, seed: int) -> Prepared:
    """Each utterance as a conversation of its own; with another utterance's prosody if `shuffled`."""
    utterances = [replace(one, slot=0) for conversation in data.conversations for one in conversation]
    if shuffled:
        donors = np.random.default_rng(seed).permutation(
            [n for n, one in enumerate(utterances) if "audio" in one.features]
        )
        takers = [n for n, one in enumerate(utterances) if "audio" in one.features]
        given = {taker: utterances[donor].features["audio"] for taker, donor in zip(takers, donors, strict=True)}
        utterances = [
            UtteranceFeatures(one.features | ({"audio": given[n]} if n in given else {}), one.slot)
            for n, one in enumerate(utterances)
        ]
    labels = (list(np.concatenate(values)[:, None]) for values in (data.emotion, data.sentiment))
    return Prepared([[one] for one in utterances], *labels)


@torch.inference_mode()
def _opening(model: FusionGCN, dev: Prepared) -> float:
    """Mean opening of the gate text ← prosody, 0 … 1; 1 without a gate, 0 without alignment."""
    if not model.has("alignment") or len(model.config.modalities) < 2:
        return 0.0
    if not model.has("gate"):
        return 1.0
    opened: list[Tensor] = []
    gate = model.alignment.gate["0_from_1"]
    hook = gate.register_forward_hook(lambda _, __, out: opened.append(out.sigmoid().mean(-1).flatten()))
    score_dev(model, dev)
    hook.remove()
    return float(torch.cat(opened).mean())


class _SameSpeaker(nn.Module):
    """Probe on the graph's states: are two utterances by the same speaker?"""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.graph = FusionGCN(config)
        self.compare = nn.Bilinear(config.hidden, config.hidden, 1, bias=False)
        self.usual = nn.Parameter(
            torch.zeros(MAX_DISTANCE)
        )  # turn-taking: how often the speaker is the same, by distance

    def forward(self, utterances: Utterances) -> Tensor:
        """[B, T, REACH] logits of utterance t having the speaker of t-1 … t-REACH."""
        hidden = self.graph.config.hidden
        classes = len(self.graph.config.emotions)
        states = self.graph(utterances).rows[..., -hidden - classes : -classes]
        earlier = torch.stack([_back(states, distance) for distance in range(1, MAX_DISTANCE + 1)], 2)
        logits: Tensor = self.compare(states[:, :, None].expand_as(earlier).contiguous(), earlier)
        return logits.squeeze(-1) + self.usual


def _back(values: Tensor, distance: int) -> Tensor:
    """Values [B, T, …] of utterance t - distance, 0 where there is none."""
    return torch.cat([torch.zeros_like(values[:, :distance]), values[:, :-distance]], 1)[:, : values.shape[1]]


def graph_alone(lab: Lab) -> str:
    """Speaker comparison by a graph without input about speakers: no slots, no relations, prosody not normalised.

    The text is embedded without context, whose letters would identify the speakers. Returns a Markdown table.
    """
    base = leave_out(lab.config, ["alignment", "context", "slots", "relations", "revision", "noise", "tuning"])
    variants = {
        "no graph": replace(base, network=replace(base.network, layers=0)),
        "fixed adjacency": leave_out(base, ["adaptive"]),
        "adaptive adjacency": base,
    }
    cells = {}
    for name, config in variants.items():

        def run(seed: int, config: TrainingConfig = config) -> dict[str, float]:
            network, (training, *_), dev = lab.prepared(config)
            network = replace(network, widths=tuple(min(w, len(COLUMNS)) if m == "audio" else w
                                                    for m, w in network.inputs.items()))  # fmt: skip
            return _train_speaker_probe(network, _unnormalised(training), _unnormalised(dev), seed)

        cells[name] = lab.measure("relation", name, run)
    return table(cells, {"auc": "AUC", "accuracy": "accuracy", "distance": "AUC of the distance alone"})


def _unnormalised(data: Prepared) -> Prepared:
    """Prosody relative to the prior only: the part relative to the speaker would identify the speaker."""
    conversations = [
        [replace(one, features={k: v[: len(COLUMNS)] if k == "audio" else v for k, v in one.features.items()})
         for one in conversation]
        for conversation in data.conversations
    ]  # fmt: skip
    return Prepared(conversations, data.emotion, data.sentiment)


def _train_speaker_probe(network: FusionConfig, training: Prepared, dev: Prepared, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, device = _SameSpeaker(network), torch.device("cpu")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    for _ in range(10):
        model.train()
        for utterances, _, _ in batches(training, network, like_lengths(training.length, 16, rng), device):
            truth, real = _pairs(utterances)
            loss = F.binary_cross_entropy_with_logits(model(utterances)[real], truth[real].float())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    model.eval()
    targets, logits, usual = [], [], []
    with torch.inference_mode():
        for utterances, _, _ in batches(dev, network, like_lengths(dev.length, 32), device):
            truth, real = _pairs(utterances)
            targets.append(truth[real])
            logits.append(model(utterances)[real])
            usual.append(model.usual.expand(truth.shape)[real])
    target, logit = torch.cat(targets).numpy(), torch.cat(logits).numpy()
    return {
        "auc": round(100 * float(roc_auc_score(target, logit)), 2),
        "accuracy": round(100 * float(((logit > 0) == target).mean()), 2),
        "distance": round(100 * float(roc_auc_score(target, torch.cat(usual).numpy())), 2),
    }


def _pairs(utterances: Utterances) -> tuple[Tensor, Tensor]:
    """[B, T, MAX_DISTANCE] bool: the speakers are the same; both utterances exist."""
    here = utterances.index != EMPTY
    same = torch.stack([_back(utterances.slot + 1, d) == utterances.slot + 1 for d in range(1, MAX_DISTANCE + 1)], 2)
    real = torch.stack([_back(here.long(), d).bool() & here for d in range(1, MAX_DISTANCE + 1)], 2)
    return same, real
