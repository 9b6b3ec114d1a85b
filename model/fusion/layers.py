"""The layers of the fusion-GCN: masked attention, as alignment and as graph convolution.

Shapes as in `model/fusion/network.py`: B conversations, T utterances, Q queries, K keys, d width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeyValue = tuple[Tensor, Tensor]
"""Keys and values by head, each [B, H, K, d / H]."""
CLOSED = -1e9  # added to a similarity: so low that exp() is 0


def by_head(keys_and_values: Tensor, heads: int) -> KeyValue:
    """Keys and values side by side [B, K, 2d] -> by head."""
    key, value = (side.unflatten(-1, (heads, -1)).transpose(1, 2) for side in keys_and_values.chunk(2, -1))
    return key, value


def attention(query: Tensor, key_value: KeyValue, bias: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, eq. 1) with an additive bias.

    query [B, Q, d], K keys and values, bias [B, H or 1, Q, K] -> output [B, Q, d], weights [B, H, Q, K].
    """
    key, value = key_value
    q = query.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, Q, d / H]
    q = q * (1 / math.sqrt(q.shape[-1]))
    weights = (q @ key.transpose(-1, -2) + bias).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(-2), weights


def closed(allowed: Tensor) -> Tensor:
    """Additive attention mask of the shape of `allowed` [...] bool: 0 where allowed, elsewhere so low that exp() is
    0."""
    return torch.where(allowed, 0.0, CLOSED)


class CrossModalAlignment(nn.Module):
    """Co-attention of each ordered pair of modalities (m <- n), scaled by a learned sigmoid gate.

    The query is modality m at t; keys and values are modality n at t-W … t where n is present.
    """

    def __init__(self, modalities: int, width: int, heads: int, gated: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.ModuleList(nn.Linear(width, width) for _ in range(modalities))
        self.key_value = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(modalities))
        pairs = [(m, n) for m in range(modalities) for n in range(modalities) if m != n and gated]
        self.gate = nn.ModuleDict({f"{m}_from_{n}": nn.Linear(2 * width, width) for m, n in pairs})

    def keys(self, states: Tensor) -> list[Tensor]:
        """Keys and values side by side of each modality, which are cached: states [B, T, M, d] -> M × [B, T, 2d]."""
        return [layer(states[:, :, m]) for m, layer in enumerate(self.key_value)]

    def forward(self, states: Tensor, keys: Sequence[KeyValue], allowed: Tensor, present: Tensor) -> Tensor:
        """Align: states [B, T, M, d], keys by modality, allowed [B, T, K], present [B, K, M] -> [B, T, M, d]."""
        aligned = []
        for m in range(states.shape[2]):
            state = states[:, :, m]
            out = state
            for n in range(states.shape[2]):
                if n == m:
                    continue
                in_sight = allowed & present[:, None, :, n]
                context, _ = attention(self.query[m](state), keys[n], closed(in_sight)[:, None], self.heads)
                if self.gate:
                    context = context * torch.sigmoid(self.gate[f"{m}_from_{n}"](torch.cat([state, context], dim=-1)))
                out = out + context * in_sight.any(-1, keepdim=True)
            aligned.append(out)
        return torch.stack(aligned, dim=2)


@dataclass(frozen=True)
class Edges:
    """Typed, directed edges from each of K keys to each of Q queries, and which of them are open."""

    kind: Tensor
    """[B, Q, K] int64: relation of an open edge, R (the number of relations) of a closed one."""
    row: Tensor
    """[B, Q, K] int64: row of `EdgeAttention.bias`."""
    far: int
    """Largest distance, in utterances, that the bias tells apart."""

    @staticmethod
    def of(kind: Tensor, distance: Tensor, allowed: Tensor, relations: int, far: int) -> Edges:
        """kind, distance int64 and allowed bool: [B, Q, K], or of a shape that broadcasts to it."""
        kind, closed_row = torch.where(allowed, kind, relations), relations * (far + 1)
        row = kind * (far + 1) + distance.abs().clamp(max=far)
        return Edges(kind, row.clamp(max=closed_row), far)


class EdgeAttention(nn.Module):
    """Adjacency over typed, directed edges.

    Adaptive: edge weight = softmax(learned similarity + relation bias - learned decay * log(1 + distance)), with the
    distance in utterances. Fixed (for comparison): every utterance in sight has the same weight.
    """

    def __init__(self, width: int, heads: int, relations: int, adaptive: bool = True) -> None:
        super().__init__()
        self.heads, self.adaptive = heads, adaptive
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.relation_bias = nn.Parameter(torch.zeros(relations, heads))
        self.relation_value = nn.Parameter(torch.zeros(relations, width))
        self.decay = nn.Parameter(torch.full((heads,), -2.0))
        self.fixed: dict[int, Tensor] = {}
        """`bias` by its argument, kept where the weights change no more."""

    def bias(self, far: int) -> Tensor:
        """[R · (far + 1) + 1, H]: what is added to the similarity, by relation and distance; the last row closes."""
        distance = torch.arange(far + 1, device=self.decay.device)[:, None]
        table = self.relation_bias[:, None] - F.softplus(self.decay) * torch.log1p(distance)  # [R, far + 1, H]
        table = table if self.adaptive else table * 0
        return F.pad(table.flatten(0, 1), (0, 0, 0, 1), value=CLOSED)

    def forward(self, nodes: Tensor, keys: KeyValue, edges: Edges) -> tuple[Tensor, Tensor]:
        """Messages along the edges: nodes [B, Q, d] -> messages [B, Q, d], edge weights [B, H, Q, K]."""
        query = self.query(nodes) if self.adaptive else nodes * 0
        table = self.fixed.get(edges.far)
        table = self.bias(edges.far) if table is None else table
        bias = F.embedding(edges.row, table).permute(0, 3, 1, 2)  # [B, H, Q, K]
        message, weights = attention(query, keys, bias, self.heads)
        share = weights.mean(1)  # [B, Q, K]
        relations = self.relation_value.shape[0]
        per_relation = torch.zeros(*share.shape[:2], relations + 1, device=share.device, dtype=share.dtype)
        per_relation = per_relation.scatter_add(-1, edges.kind, share)[..., :relations]
        return message + per_relation @ self.relation_value, weights


class NodeUpdate(nn.Module):
    """One graph layer: messages along the edges, initial residual (GCNII, arXiv 2007.02133), feed-forward."""

    def __init__(self, width: int, heads: int, relations: int, dropout: float, adaptive: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.edges = EdgeAttention(width, heads, relations, adaptive)
        self.initial = nn.Parameter(torch.tensor(-2.0))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def keys(self, nodes: Tensor) -> Tensor:
        """Keys and values side by side, which are cached: nodes [B, K, d] -> [B, K, 2d]."""
        keys: Tensor = self.edges.key_value(self.norm(nodes))
        return keys

    def forward(self, nodes: Tensor, initial: Tensor, keys: KeyValue, edges: Edges) -> tuple[Tensor, Tensor]:
        """nodes, initial [B, Q, d], K keys and values -> nodes [B, Q, d], edge weights [B, H, Q, K]."""
        message, weights = self.edges(self.norm(nodes), keys, edges)
        share = torch.sigmoid(self.initial)
        nodes = nodes + self.dropout((1 - share) * message + share * initial)
        return nodes + self.dropout(self.feed_forward(nodes)), weights


def relation(query_slot: Tensor, key_slot: Tensor, distance: Tensor) -> Tensor:
    """Edge types {same, other speaker} x {past, self, future} as 0 … 5.

    query_slot [B, Q], key_slot [B, K], distance [B, Q, K] -> [B, Q, K] int64.
    """
    other = (query_slot[:, :, None] != key_slot[:, None, :]).long()
    when = 1 - distance.sign()  # past 0, self 1, future 2
    return other * 3 + when
