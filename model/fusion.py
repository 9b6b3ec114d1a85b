"""The fusion graph-convolutional network: causal, windowed, and incremental by construction.

After the three modules of arXiv 2501.15063 (cross-modal alignment and context fusion; adaptive graph convolution over
a directed dialogue graph; multi-task heads), with every layer restricted to a window of W past utterances. What a layer
needs of the past is its keys and values, so a *row* per utterance is all that has to be kept:

* training: `forward(utterances)` sees T utterances at once and no past;
* live: `forward(utterance, past)` sees one new utterance and the W rows before it.

It is the same code and gives the same logits; the mask made from the utterances' indices is the only thing that decides
what a label may look at.

Shapes: B conversations, T utterances, M modalities, d hidden width, K = keys in sight (T, or W + T with a past).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from model.prosody import ProsodyPrior

EMPTY = -1  # index of a padded utterance, or of a place in the past that holds none yet


@dataclass(frozen=True)
class FusionConfig:
    """Everything that fixes the network's shape; stored as config.json beside the weights."""

    label_set: str
    emotions: tuple[str, ...]
    sentiments: tuple[str, ...]
    modalities: tuple[str, ...]
    """In the order of the modality axis. (Not a mapping: config.json sorts its keys.)"""
    widths: tuple[int, ...]
    """Of each modality's embedding."""
    hidden: int = 128
    heads: int = 4
    layers: int = 2
    window: int = 20
    """W: how many earlier utterances a label may use."""
    revision: int = 2
    """R: how many later utterances the final label may use."""
    slots: int = 8
    """Speaker-slot embeddings, in order of first appearance; later speakers share the last."""
    dropout: float = 0.3
    prosody: ProsodyPrior | None = None
    """What the modality "audio" is normalised with, if it is prosody."""

    def __post_init__(self) -> None:
        # JSON knows neither tuples nor nested dataclasses; this class is read back from config.json.
        def restore(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        restore("emotions", tuple(self.emotions))
        restore("sentiments", tuple(self.sentiments))
        restore("modalities", tuple(self.modalities))
        restore("widths", tuple(self.widths))
        prior: Any = self.prosody
        if isinstance(prior, dict):
            restore("prosody", ProsodyPrior(**{key: tuple(values) for key, values in prior.items()}))
        if not 0 <= self.revision < self.window:
            raise ValueError(f"revision must lie in 0 … window - 1, not {self.revision} of {self.window}")

    @property
    def inputs(self) -> dict[str, int]:
        """Width by modality, in the order of the modality axis."""
        return dict(zip(self.modalities, self.widths, strict=True))


@dataclass
class Utterances:
    """What the network reads of T utterances in each of B conversations."""

    features: dict[str, Tensor]
    """Per modality [B, T, D_m]; the values of an absent modality are ignored."""
    present: Tensor
    """[B, T, M] bool."""
    slot: Tensor
    """[B, T] int64: the speaker's slot in its conversation."""
    index: Tensor
    """[B, T] int64: the utterance's number in its conversation, EMPTY for padding."""


@dataclass
class Past:
    """The last W utterances of each of B conversations, in any order: the index says which is which."""

    rows: Tensor
    """[B, W, `FusionGCN.row_width`] float32."""
    present: Tensor
    slot: Tensor
    index: Tensor


@dataclass
class Labels:
    """What the network says of T utterances."""

    emotion: Tensor
    """[B, T, C] calibrated logits."""
    sentiment: Tensor
    """[B, T, S] logits."""
    contribution: Tensor
    """[B, T, M] share of each modality in the pooled state, 0 where absent; sums to 1."""
    influence: Tensor
    """[B, T, K] attention of the last graph layer on each utterance in sight; sums to 1."""
    rows: Tensor
    """[B, T, row_width]: what later utterances need of these."""
    aligned: Tensor
    """[B, T, M, d] modality states before the graph, for the alignment loss."""


def _attention(query: Tensor, key_value: Tensor, bias: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Multi-head attention. query [B, Q, d], key_value [B, K, 2d], bias [B, H or 1, Q, K] -> [B, Q, d], weights."""
    key, value = key_value.chunk(2, dim=-1)
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias).softmax(-1)  # [B, H, Q, K]
    return (weights @ v).transpose(1, 2).flatten(-2), weights


def _closed(allowed: Tensor) -> Tensor:
    """Additive mask: 0 where allowed, so far below any score elsewhere that exp() gives exactly 0."""
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, -1e9)


class CrossModalAlignment(nn.Module):
    """Co-attention for each ordered pair of modalities (m <- n), behind a gate that closes on noise.

    The query is modality m at t; keys and values are modality n at t-W … t where n is present.
    """

    def __init__(self, modalities: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.ModuleList(nn.Linear(width, width) for _ in range(modalities))
        self.key_value = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(modalities))
        pairs = [(m, n) for m in range(modalities) for n in range(modalities) if m != n]
        self.gate = nn.ModuleDict({f"{m}_from_{n}": nn.Linear(2 * width, width) for m, n in pairs})

    def keys(self, states: Tensor) -> Tensor:
        """[B, T, M, d] -> [B, T, M, 2d], which is what the row keeps of this layer."""
        return torch.stack([layer(states[:, :, m]) for m, layer in enumerate(self.key_value)], dim=2)

    def forward(self, states: Tensor, keys: Tensor, allowed: Tensor, present: Tensor) -> Tensor:
        """states [B, T, M, d], keys [B, K, M, 2d], allowed [B, T, K], present [B, K, M] -> [B, T, M, d]."""
        aligned = []
        for m in range(states.shape[2]):
            state = states[:, :, m]
            out = state
            for n in range(states.shape[2]):
                if n == m:
                    continue
                seen = allowed & present[:, None, :, n]
                context, _ = _attention(self.query[m](state), keys[:, :, n], _closed(seen)[:, None], self.heads)
                gate = torch.sigmoid(self.gate[f"{m}_from_{n}"](torch.cat([state, context], dim=-1)))
                out = out + gate * context * seen.any(-1, keepdim=True)
            aligned.append(out)
        return torch.stack(aligned, dim=2)


class EdgeAttention(nn.Module):
    """Adaptive adjacency over typed, directed edges.

    edge weight = softmax(learned similarity + relation bias - learned decay * log(1 + utterances apart)).
    """

    def __init__(self, width: int, heads: int, relations: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.relation_bias = nn.Parameter(torch.zeros(relations, heads))
        self.relation_value = nn.Parameter(torch.zeros(relations, width))
        self.decay = nn.Parameter(torch.full((heads,), -2.0))

    def forward(
        self, nodes: Tensor, keys: Tensor, relation: Tensor, distance: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """nodes [B, Q, d], keys [B, K, 2d], the edges' relation, distance and mask [B, Q, K] -> [B, Q, d], weights."""
        bias = F.embedding(relation, self.relation_bias).permute(0, 3, 1, 2)  # [B, H, Q, K]
        bias = bias - F.softplus(self.decay)[:, None, None] * torch.log1p(distance.abs())[:, None]
        message, weights = _attention(self.query(nodes), keys, bias + _closed(allowed)[:, None], self.heads)
        share = weights.mean(1)  # [B, Q, K]
        per_relation = torch.zeros(*share.shape[:2], self.relation_value.shape[0], device=share.device)
        per_relation = per_relation.scatter_add(-1, relation, share)
        return message + per_relation @ self.relation_value, weights


class NodeUpdate(nn.Module):
    """One layer over the nodes: messages along the edges, initial residual (GCNII), feed-forward."""

    def __init__(self, width: int, heads: int, relations: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.edges = EdgeAttention(width, heads, relations)
        self.initial = nn.Parameter(torch.tensor(-2.0))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def keys(self, nodes: Tensor) -> Tensor:
        keys: Tensor = self.edges.key_value(self.norm(nodes))
        return keys

    def forward(self, nodes: Tensor, first: Tensor, keys: Tensor, *edges: Tensor) -> tuple[Tensor, Tensor]:
        message, weights = self.edges(self.norm(nodes), keys, *edges)
        share = torch.sigmoid(self.initial)
        nodes = nodes + self.dropout((1 - share) * message + share * first)
        return nodes + self.dropout(self.feed_forward(nodes)), weights


def _relation(query_slot: Tensor, key_slot: Tensor, distance: Tensor) -> Tensor:
    """{same, other speaker} x {past, self, future}, as 0 … 5. Slots [B, Q] and [B, K], distance [B, Q, K]."""
    other = (query_slot[:, :, None] != key_slot[:, None, :]).long()
    when = 1 - distance.sign()  # past 0, self 1, future 2
    return other * 3 + when


class FusionGCN(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="undertone",
    tags=["emotion-recognition-in-conversation"],
    license="apache-2.0",
):
    """projection -> alignment -> context -> graph -> (revision) -> heads; see the module's docstring."""

    temperature: Tensor
    conformal_threshold: Tensor
    sentiment_given_emotion: Tensor

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        d, modalities = config.hidden, len(config.inputs)
        self.projection = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, d)) for name, width in config.inputs.items()}
        )
        self.absent = nn.Parameter(torch.randn(modalities, d) * 0.02)
        self.modality = nn.Parameter(torch.randn(modalities, d) * 0.02)
        self.slot = nn.Embedding(config.slots, d)
        nn.init.normal_(self.slot.weight, std=0.02)
        self.alignment = CrossModalAlignment(modalities, d, config.heads)
        self.context = NodeUpdate(d, config.heads, 2, config.dropout)
        self.graph = nn.ModuleList(NodeUpdate(d, config.heads, 12, config.dropout) for _ in range(config.layers))
        self.pool = nn.Linear(d, 1)
        self.norm = nn.LayerNorm(d)
        self.revision = NodeUpdate(d, config.heads, 6, config.dropout)
        self.emotion = nn.Linear(d, len(config.emotions))
        self.sentiment = nn.Linear(d, len(config.sentiments))
        self.dropout = nn.Dropout(config.dropout)
        # Fitted on validation data after training (calibration.py); identity until then.
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("conformal_threshold", torch.zeros(()))
        # How the training data relates the two tasks: P(sentiment | emotion), [C, S]. The consistency loss reads it.
        self.register_buffer(
            "sentiment_given_emotion",
            torch.full((len(config.emotions), len(config.sentiments)), 1 / len(config.sentiments)),
        )

    @property
    def row_width(self) -> int:
        """Keys and values of the alignment, the context and each graph layer for M nodes, and the pooled state."""
        return (2 + self.config.layers) * len(self.config.inputs) * 2 * self.config.hidden + self.config.hidden

    def forward(self, utterances: Utterances, past: Past | None = None, lookahead: int = 0) -> Labels:
        """Label T utterances, given the rows of those before them. Rows of the past must lie within the window.

        With lookahead k, label t sees utterances up to t + k of the same call (k = 0: prefix-invariant).
        """
        config = self.config
        _, length, modalities = utterances.present.shape
        here = utterances.index != EMPTY
        index, slot, present = utterances.index, utterances.slot, utterances.present
        if past is not None:
            index, slot = torch.cat([past.index, index], 1), torch.cat([past.slot, slot], 1)
            present = torch.cat([past.present, present], 1)
        distance = utterances.index[:, :, None] - index[:, None, :]  # [B, T, K]
        valid = (index != EMPTY)[:, None, :] & here[:, :, None]
        allowed = valid & (distance <= config.window) & (distance >= -lookahead)

        rows: list[Tensor] = []

        def with_past(new: Tensor) -> Tensor:
            """Append [B, T, M, 2d] keys to the row being written, and put those of the past before them."""
            start = sum(part.shape[-1] for part in rows)
            flat = new.flatten(2)
            rows.append(flat)
            if past is not None:
                flat = torch.cat([past.rows[..., start : start + flat.shape[-1]], flat], 1)
            return flat.reshape(*flat.shape[:2], modalities, -1)

        states = self._project(utterances)
        states = self.alignment(states, with_past(self.alignment.keys(states)), allowed, present)

        # Nodes are (utterance, modality), utterance-major. An absent node is no key but to itself.
        def per_node(edges: Tensor) -> Tensor:
            return edges.repeat_interleave(modalities, 1).repeat_interleave(modalities, 2)

        kind = torch.arange(modalities, device=index.device)
        cross = (kind[:, None] != kind[None, :]).long().repeat(length, index.shape[1])[None]  # [1, T·M, K·M]
        node_distance = per_node(distance)
        itself = (node_distance == 0) & (cross == 0)
        open_edges = per_node(allowed) & present.flatten(1)[:, None, :] | itself
        relation = per_node(_relation(utterances.slot, slot, distance)) * 2 + cross

        nodes = states.flatten(1, 2)  # [B, T·M, d]
        keys = with_past(self.context.keys(nodes).unflatten(1, (length, -1))).flatten(1, 2)
        nodes, weights = self.context(nodes, nodes, keys, cross.expand_as(relation), node_distance, open_edges)
        first = nodes
        for layer in self.graph:
            assert isinstance(layer, NodeUpdate)
            keys = with_past(layer.keys(nodes).unflatten(1, (length, -1))).flatten(1, 2)
            nodes, weights = layer(nodes, first, keys, relation, node_distance, open_edges)

        by_modality = nodes.unflatten(1, (length, -1))  # [B, T, M, d]
        heard = utterances.present | ~utterances.present.any(-1, keepdim=True)
        contribution = self.pool(by_modality).squeeze(-1).masked_fill(~heard, -1e9).softmax(-1)
        pooled = self.norm((contribution[..., None] * by_modality).sum(2))  # [B, T, d]
        rows.append(pooled)

        # Mean over heads and the utterance's own present nodes, summed over each earlier utterance's nodes.
        edge = weights.mean(1).unflatten(1, (length, -1)).unflatten(3, (-1, modalities)).sum(-1)  # [B, T, M, K]
        influence = (edge * contribution[..., None]).sum(2)
        emotion, sentiment = self._heads(pooled)
        return Labels(emotion, sentiment, contribution, influence, torch.cat(rows, -1), states)

    def revise(self, rows: Tensor, slot: Tensor, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Final labels, from the causal states of t-W+R+1 … t+R, the last W.

        rows [B, K, row_width], slot and index [B, K]; targets [B, T] places on the K axis to label.
        Returns logits [B, T, C] and [B, T, S].
        """
        states = rows[..., -self.config.hidden :]
        places = targets[..., None].expand(-1, -1, states.shape[-1])
        queries, query_index, query_slot = states.gather(1, places), index.gather(1, targets), slot.gather(1, targets)
        distance = query_index[:, :, None] - index[:, None, :]
        allowed = (index != EMPTY)[:, None, :] & (distance >= -self.config.revision)
        allowed = allowed & (distance < self.config.window - self.config.revision)  # all that W rows hold at t+R
        relation = _relation(query_slot, slot, distance)
        revised, _ = self.revision(queries, queries, self.revision.keys(states), relation, distance, allowed)
        return self._heads(revised)

    def _project(self, utterances: Utterances) -> Tensor:
        """[B, T, M, d]: each modality in the common space, its learned token where it is absent."""
        projected = torch.stack([layer(utterances.features[name]) for name, layer in self.projection.items()], dim=2)
        states = torch.where(utterances.present[..., None], projected, self.absent)
        speaker = self.slot(utterances.slot.clamp(max=self.config.slots - 1))
        dropped: Tensor = self.dropout(states + self.modality + speaker[:, :, None])
        return dropped

    def _heads(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.dropout(pooled)
        return self.emotion(pooled) / self.temperature, self.sentiment(pooled)
