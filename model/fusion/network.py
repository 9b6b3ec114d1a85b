"""The fusion graph-convolutional network: causal, windowed, and incremental by construction.

After the three modules of arXiv 2501.15063 (cross-modal alignment and context fusion; adaptive graph convolution over
a directed dialogue graph; multi-task heads), with every layer restricted to a window of W past utterances. The mask
made from the utterances' indices alone decides which utterances a label may use.

This is the network as it is trained and evaluated, T utterances at once. Live, `model.fusion.step` computes the same
from the same weights for one new utterance, with each layer's keys and values of the past cached.

Shapes: B conversations, T utterances, M modalities, d hidden width, C emotions, S sentiments, E experts, K = T.
"""

from dataclasses import dataclass

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from numpy.typing import NDArray
from torch import Tensor, nn

from model.fusion.config import EMPTY, FusionConfig
from model.fusion.layers import CrossModalAlignment, NodeUpdate, relation


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

    def to(self, device: torch.device) -> "Utterances":
        """The same batch on another device."""
        features = {name: values.to(device) for name, values in self.features.items()}
        rest = (self.present, self.slot, self.index, self.expert_posteriors)
        return Utterances(features, *(values.to(device) for values in rest))


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
    conformal_threshold: Tensor
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
        self.register_buffer("conformal_threshold", torch.zeros(()))
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

    def forward(self, utterances: Utterances, lookahead: int = 0) -> Labels:
        """Label T utterances of each conversation; tensors [B, T, …] as `Utterances` and `Labels` have them.

        lookahead: k, number of later utterances of the same call that a label may use (0: prefix-invariant).
        """
        config = self.config
        _, length, modalities = utterances.present.shape
        index, slot, present = utterances.index, utterances.slot, utterances.present
        real = index != EMPTY
        distance = index[:, :, None] - index[:, None, :]  # [B, T, T]
        valid = real[:, None, :] & real[:, :, None]
        allowed = valid & (distance <= config.window) & (distance >= -lookahead)

        states = self._project(utterances)
        if self.has("alignment"):
            states = self.alignment(states, self.alignment.keys(states), allowed, present)

        # Nodes are (utterance, modality), utterance-major. An absent node is a key for itself alone.
        def per_node(edges: Tensor) -> Tensor:
            """[B, T, T] -> [B, T·M, T·M]."""
            return edges.repeat_interleave(modalities, 1).repeat_interleave(modalities, 2)

        kind = torch.arange(modalities, device=index.device)
        cross = (kind[:, None] != kind[None, :]).long().repeat(length, length)[None]  # [1, T·M, T·M]
        node_distance = per_node(distance)
        itself = (node_distance == 0) & (cross == 0)
        open_edges = per_node(allowed) & present.flatten(1)[:, None, :] | itself
        kinds = per_node(relation(slot, slot, distance)) * 2 + cross
        if not self.has("relations"):
            kinds = torch.zeros_like(kinds)

        nodes = states.flatten(1, 2)  # [B, T·M, d]
        weights = itself.expand_as(open_edges)[:, None].float()
        if self.has("context"):
            nodes, weights = self.context(
                nodes, nodes, self.context.keys(nodes), cross.expand_as(kinds), node_distance, open_edges
            )
        initial = nodes
        for layer in self.graph:
            assert isinstance(layer, NodeUpdate)
            nodes, weights = layer(nodes, initial, layer.keys(nodes), kinds, node_distance, open_edges)

        by_modality = nodes.unflatten(1, (length, -1))  # [B, T, M, d]
        counted = present | ~present.any(-1, keepdim=True)
        contribution = self.pool(by_modality).squeeze(-1).masked_fill(~counted, -1e9).softmax(-1)
        pooled = self.norm((contribution[..., None] * by_modality).sum(2))  # [B, T, d]
        logits_per_expert = self._expert_logits(utterances.expert_posteriors)
        expert_logits = logits_per_expert.sum(-2)

        # Mean over heads and the utterance's own present nodes, summed over each earlier utterance's nodes.
        edge = weights.mean(1).unflatten(1, (length, -1)).unflatten(3, (-1, modalities)).sum(-1)  # [B, T, M, K]
        influence = (edge * contribution[..., None]).sum(2)
        emotion, sentiment = self._heads(pooled, expert_logits, self.temperature)
        rows = torch.cat([pooled, expert_logits], -1)
        return Labels(emotion, sentiment, contribution, influence, rows, states, logits_per_expert / self.temperature)

    def revise(self, rows: Tensor, slot: Tensor, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Final labels from the causal states of utterances t-W+R+1 … t+R, the last W.

        rows: [B, K, d + C] as in `Labels`; slot, index: [B, K] int64; targets: [B, T] int64 positions on the K axis of
        the utterances to label. Returns logits [B, T, C] of emotions and [B, T, S] of sentiments.
        """
        hidden, classes = self.config.hidden, len(self.config.emotions)
        states, expert_logits = rows.split([hidden, classes], dim=-1)
        queries, expert_logits = (
            x.gather(1, targets[..., None].expand(-1, -1, x.shape[-1])) for x in (states, expert_logits)
        )
        if not self.has("revision"):
            return self._heads(queries, expert_logits, self.temperature)  # the provisional label again
        query_index, query_slot = index.gather(1, targets), slot.gather(1, targets)
        distance = query_index[:, :, None] - index[:, None, :]
        allowed = (index != EMPTY)[:, None, :] & (distance >= -self.config.revision)
        allowed = allowed & (distance < self.config.window - self.config.revision)  # all that W rows hold at t+R
        kinds = relation(query_slot, slot, distance)
        if not self.has("relations"):
            kinds = torch.zeros_like(kinds)
        revised, _ = self.revision(queries, queries, self.revision.keys(states), kinds, distance, allowed)
        return self._heads(revised, expert_logits, self.revision_temperature)

    def _project(self, utterances: Utterances) -> Tensor:
        """[B, T, M, d]: each modality in the common space, a learned token where it is absent."""
        projected = torch.stack([layer(utterances.features[name]) for name, layer in self.projection.items()], dim=2)
        states = torch.where(utterances.present[..., None], projected, self.absent)
        states = states + self.modality
        if self.has("slots"):
            states = states + self.slot(utterances.slot.clamp(max=self.config.slots - 1))[:, :, None]
        dropped: Tensor = self.dropout(states)
        return dropped

    def _expert_logits(self, expert_posteriors: Tensor) -> Tensor:
        """Terms of the log-linear pooling: posteriors [B, T, E, C] -> w · log(posterior / prior) [B, T, E, C]."""
        has_posterior = expert_posteriors.sum(-1, keepdim=True) > 0
        ratio = (expert_posteriors.clamp(min=1e-6) / self.expert_prior).log() * has_posterior
        return self.expert_weight[:, None] * ratio

    def _heads(self, pooled: Tensor, expert_logits: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.dropout(pooled)
        return (self.emotion(pooled) + expert_logits) / temperature, self.sentiment(pooled)
