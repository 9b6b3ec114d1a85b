"""The fusion graph-convolutional network: causal, windowed, and incremental by construction.

After the three modules of arXiv 2501.15063 (cross-modal alignment and context fusion; adaptive graph convolution over
a directed dialogue graph; multi-task heads), with every layer restricted to a window of W past utterances. The mask
made from the utterances' indices alone decides which utterances a label may use.

The one network of training and of live labelling: T utterances at once, or a new one whose past is given as each
layer's cached keys and values (`InSight`). `model.fusion.step` has it run so, by ONNX Runtime or by PyTorch.

Shapes: B conversations, T utterances, M modalities, d hidden width, C emotions, S sentiments, E experts, K = T.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from numpy.typing import NDArray
from torch import Tensor, nn

from model.fusion.config import CERTAIN_FROM, EMPTY, FusionConfig
from model.fusion.layers import CrossModalAlignment, Edges, KeyValue, NodeUpdate, by_head, closed, relation


@dataclass
class Utterances:
    """Input of the network: T utterances in each of B conversations."""

    features: dict[str, Tensor]
    """[B, T, D_m] float32 by modality; the values of an absent modality are ignored."""
    present: Tensor
    """[B, T, M] bool."""
    slot: Tensor
    """[B, T] int64: slot of the speaker in its conversation."""
    index: Tensor
    """[B, T] int64: number of the utterance in its conversation, EMPTY for padding."""
    expert_posteriors: Tensor
    """[B, T, E, C] float32: posteriors of the experts, all 0 where an expert has none."""
    experts: tuple[Tensor, Tensor] | None = field(default=None, kw_only=True)
    """Weight [E] and prior [E, C] of experts that were fitted later; None: those of the network."""

    def to(self, device: torch.device) -> "Utterances":
        """The same batch on another device."""
        features = {name: values.to(device) for name, values in self.features.items()}
        rest = (self.present, self.slot, self.index, self.expert_posteriors)
        return Utterances(features, *(values.to(device) for values in rest))


@dataclass
class InSight:
    """Keys and values of the utterances in sight: those of earlier calls and of this one, K in all, in any order."""

    keys: Callable[[int, KeyValue], KeyValue]
    """Function of n and the new keys and values by head of the n-th of `Labels.keys`: all K (or K · M) of them,
    [B, H, K, d / H] each."""
    present: Tensor
    """[B, K, M] bool."""
    slot: Tensor
    """[B, K] int64."""
    index: Tensor
    """[B, K] int64: number of the utterance in its conversation, EMPTY where there is none."""


@dataclass
class Labels:
    """Output of the network for T utterances."""

    emotion: Tensor
    """[B, T, C] calibrated logits."""
    sentiment: Tensor
    """[B, T, S] logits."""
    contribution: Tensor
    """[B, T, M] share of each modality in the pooled state, 0 where absent; sums to 1."""
    influence: Tensor
    """[B, T, K] attention of the last graph layer on each utterance in sight; sums to 1."""
    rows: Tensor
    """[B, T, d + C] pooled state and sum of the experts' logits: input of `FusionGCN.revise`."""
    aligned: Tensor
    """[B, T, M, d] modality states before the graph, for the alignment loss."""
    expert_logits: Tensor
    """[B, T, E, C] contribution of each expert to the logits, calibrated like them."""
    keys: list[Tensor]
    """For a later call's `InSight`, keys and values side by side: M × [B, T, 2d] of the alignment, then [B, T · M, 2d]
    of each layer."""


def _of_older_version(module: nn.Module, weights: dict[str, Tensor], *_: object) -> None:
    """Checkpoints until November 2026 have the threshold of a conformal set instead."""
    if weights.pop("conformal_threshold", None) is not None:
        weights["certain_from"] = torch.tensor(CERTAIN_FROM)


class FusionGCN(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="undertone",
    tags=["emotion-recognition-in-conversation"],
    license="apache-2.0",
):
    """projection -> alignment -> context -> graph -> (revision) -> heads; see the module's docstring."""

    temperature: Tensor
    revision_temperature: Tensor
    certain_from: Tensor
    expert_weight: Tensor
    expert_prior: Tensor
    sentiment_given_emotion: Tensor

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        d, modalities, adaptive = config.hidden, len(config.inputs), self.has("adaptive")
        self.projection = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, d)) for name, width in config.inputs.items()}
        )
        self.absent = nn.Parameter(torch.randn(modalities, d) * 0.02)
        self.modality = nn.Parameter(torch.randn(modalities, d) * 0.02)
        self.slot = nn.Embedding(config.slots, d)
        nn.init.normal_(self.slot.weight, std=0.02)
        if self.has("alignment"):
            self.alignment = CrossModalAlignment(modalities, d, config.heads, self.has("gate"))
        if self.has("context"):
            self.context = NodeUpdate(d, config.heads, 2, config.dropout, adaptive)
        self.graph = nn.ModuleList(
            NodeUpdate(d, config.heads, 12, config.dropout, adaptive) for _ in range(config.layers)
        )
        self.pool = nn.Linear(d, 1)
        self.norm = nn.LayerNorm(d)
        if self.has("revision"):
            self.revision = NodeUpdate(d, config.heads, 6, config.dropout, adaptive)
        self.emotion = nn.Linear(d, len(config.emotions))
        self.sentiment = nn.Linear(d, len(config.sentiments))
        self.dropout = nn.Dropout(config.dropout)
        # Fitted on validation data after training (calibration.py); identity until then.
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("revision_temperature", torch.ones(()))
        self.register_buffer("certain_from", torch.zeros(()))
        self.register_load_state_dict_pre_hook(_of_older_version)  # type: ignore[no-untyped-call]
        self.register_buffer("expert_weight", torch.zeros(len(config.experts)))
        self.register_buffer("expert_prior", torch.full((len(config.experts), len(config.emotions)), 1.0))
        # P(sentiment | emotion) in the training data, [C, S], for the consistency loss.
        self.register_buffer(
            "sentiment_given_emotion",
            torch.full((len(config.emotions), len(config.sentiments)), 1 / len(config.sentiments)),
        )

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All tensors [...] float32 by name, as `model.fusion.step` reads them."""
        return {name: tensor.numpy(force=True) for name, tensor in self.state_dict().items()}

    def has(self, module: str) -> bool:
        """True when one of `MODULES` is part of this network."""
        return module not in self.config.without

    def forward(self, utterances: Utterances, lookahead: int = 0, in_sight: InSight | None = None) -> Labels:
        """Label T utterances of each conversation; tensors [B, T, …] as `Utterances` and `Labels` have them.

        lookahead: k, number of later utterances of the same call that a label may use (0: prefix-invariant).
        in_sight: these utterances and the W before them; None: those of this call are all there is, K = T.
        """
        config = self.config
        index, slot, present = utterances.index, utterances.slot, utterances.present
        _, length, modalities = present.shape
        seen: InSight | Utterances = in_sight or utterances
        key_index, key_slot, key_present = seen.index, seen.slot, seen.present
        new_keys: list[Tensor] = []

        def with_past(new: Tensor) -> KeyValue:
            new_keys.append(new)
            own = by_head(new, config.heads)
            return own if in_sight is None else in_sight.keys(len(new_keys) - 1, own)

        states = self._project(utterances)
        if self.has("alignment"):
            _, allowed = self._allowed(index, key_index, lookahead)
            by_modality = [with_past(keys) for keys in self.alignment.keys(states)]
            states = self.alignment(states, by_modality, allowed, key_present)

        # Nodes are (utterance, modality), utterance-major. An absent node is a key for itself alone.
        node_index, key_node_index = index.repeat_interleave(modalities, 1), key_index.repeat_interleave(modalities, 1)
        node_slot, key_node_slot = slot.repeat_interleave(modalities, 1), key_slot.repeat_interleave(modalities, 1)
        kind = torch.arange(modalities, device=index.device)
        cross = kind.repeat(length)[:, None] != kind.repeat(key_index.shape[1])  # [T·M, K·M]
        node_distance, node_allowed = self._allowed(node_index, key_node_index, lookahead)
        itself = (node_distance == 0) & ~cross
        open_edges = node_allowed & key_present.flatten(1)[:, None, :] | itself
        kinds = cross.long()[None]
        by_relation = relation(node_slot, key_node_slot, node_distance) * 2 + kinds
        if not self.has("relations"):
            by_relation = torch.zeros_like(by_relation)
        far = max(config.window, length - 1)
        edges = Edges.of(by_relation, node_distance, open_edges, 12, far)

        nodes = states.flatten(1, 2)  # [B, T·M, d]
        weights = itself.expand_as(open_edges)[:, None].float()
        if self.has("context"):
            keys = with_past(self.context.keys(nodes))
            nodes, weights = self.context(nodes, nodes, keys, Edges.of(kinds, node_distance, open_edges, 2, far))
        initial = nodes
        for layer in self.graph:
            assert isinstance(layer, NodeUpdate)
            nodes, weights = layer(nodes, initial, with_past(layer.keys(nodes)), edges)

        final = nodes.unflatten(1, (length, -1))  # [B, T, M, d]
        counted = present | ~present.any(-1, keepdim=True)
        contribution = (self.pool(final).squeeze(-1) + closed(counted)).softmax(-1)
        pooled = self.norm((contribution[..., None] * final).sum(2))  # [B, T, d]
        logits_per_expert = self._expert_logits(utterances)
        expert_logits = logits_per_expert.sum(-2)

        # Mean over heads and the utterance's own present nodes, summed over each earlier utterance's nodes.
        edge = weights.mean(1).unflatten(1, (length, -1)).unflatten(3, (-1, modalities)).sum(-1)  # [B, T, M, K]
        influence = (edge * contribution[..., None]).sum(2)
        emotion, sentiment = self._heads(pooled, expert_logits, self.temperature)
        rows = torch.cat([pooled, expert_logits], -1)
        calibrated = logits_per_expert / self.temperature
        return Labels(emotion, sentiment, contribution, influence, rows, states, calibrated, new_keys)

    def revision_keys(self, rows: Tensor) -> Tensor:
        """Keys and values of the revision, from the rows of the utterances in sight: [B, K, d + C] -> side by side
        [B, K, 2d]."""
        keys: Tensor = self.revision.keys(rows[..., : self.config.hidden])
        return keys

    def revise(
        self, rows: Tensor, slot: Tensor, index: Tensor, seen: tuple[KeyValue, Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Final labels of T utterances, from the causal states of utterances t-W+R+1 … t+R, the last W.

        rows: [B, T, d + C] as in `Labels`; slot, index: [B, T] int64. seen: `revision_keys` by head,
        slots and indices [B, K] of the K utterances in sight; None: the T themselves. Returns logits of emotions
        [B, T, C] and of sentiments [B, T, S].
        """
        states, expert_logits = rows.split([self.config.hidden, len(self.config.emotions)], dim=-1)
        if not self.has("revision"):
            return self._heads(states, expert_logits, self.temperature)  # the provisional label again
        keys, key_slot, key_index = seen or (by_head(self.revision_keys(rows), self.config.heads), slot, index)
        distance = index[:, :, None] - key_index[:, None, :]
        allowed = (key_index != EMPTY)[:, None, :] & (distance >= -self.config.revision)
        allowed = allowed & (distance < self.config.window - self.config.revision)  # all that W rows hold at t+R
        kinds = relation(slot, key_slot, distance)
        if not self.has("relations"):
            kinds = torch.zeros_like(kinds)
        edges = Edges.of(kinds, distance, allowed, 6, max(self.config.window, index.shape[1] - 1))
        revised, _ = self.revision(states, states, keys, edges)
        return self._heads(revised, expert_logits, self.revision_temperature)

    def _allowed(self, index: Tensor, key_index: Tensor, lookahead: int) -> tuple[Tensor, Tensor]:
        """Distance in utterances from each query [B, T] back to each key [B, K], and a mask of the keys that may be
        used: [B, T, K] each."""
        distance = index[:, :, None] - key_index[:, None, :]
        valid = (key_index != EMPTY)[:, None, :] & (index != EMPTY)[:, :, None]
        return distance, valid & (distance <= self.config.window) & (distance >= -lookahead)

    def _project(self, utterances: Utterances) -> Tensor:
        """[B, T, M, d]: each modality in the common space, a learned token where it is absent."""
        projected = torch.stack([layer(utterances.features[name]) for name, layer in self.projection.items()], dim=2)
        states = torch.where(utterances.present[..., None], projected, self.absent)
        states = states + self.modality
        if self.has("slots"):
            states = states + self.slot(utterances.slot.clamp(max=self.config.slots - 1))[:, :, None]
        dropped: Tensor = self.dropout(states)
        return dropped

    def _expert_logits(self, utterances: Utterances) -> Tensor:
        """Terms of the log-linear pooling: posteriors [B, T, E, C] -> w · log(posterior / prior) [B, T, E, C]."""
        weight, prior = utterances.experts or (self.expert_weight, self.expert_prior)
        posteriors = utterances.expert_posteriors
        has_posterior = posteriors.sum(-1, keepdim=True) > 0
        return weight[:, None] * (posteriors.clamp(min=1e-6) / prior).log() * has_posterior

    def _heads(self, pooled: Tensor, expert_logits: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.dropout(pooled)
        return (self.emotion(pooled) + expert_logits) / temperature, self.sentiment(pooled)
