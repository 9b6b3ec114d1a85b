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

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from model.layers import CrossModalAlignment, NodeUpdate, relation
from model.prosody import ProsodyPrior
from model.text import TextConfig

EMPTY = -1  # index of a padded utterance, or of a place in the past that holds none yet
MODULES = ("alignment", "gate", "context", "adaptive", "relations", "slots", "revision")
"""What can be left out of the network for comparison (ablation)."""


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
    without: tuple[str, ...] = ()
    """Those of `MODULES` that are left out."""
    text: TextConfig = field(default_factory=TextConfig)
    """What makes the embeddings of the modality "text"."""
    reader: TextConfig | None = None
    """What reads the words in their context and gives the opinion of the expert "reader"."""
    prosody: ProsodyPrior | None = None
    """What the modality "audio" is normalised with, if it is prosody."""
    experts: tuple[str, ...] = ()
    """Encoders with an emotion posterior of their own, which join after the heads (DESIGN §4.7)."""

    def __post_init__(self) -> None:
        # JSON knows neither tuples nor nested dataclasses; this class is read back from config.json.
        def restore(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        restore("emotions", tuple(self.emotions))
        restore("sentiments", tuple(self.sentiments))
        restore("modalities", tuple(self.modalities))
        restore("widths", tuple(self.widths))
        restore("without", tuple(self.without))
        restore("experts", tuple(self.experts))
        for name in ("text", "reader"):
            if isinstance(getattr(self, name), dict):
                restore(name, TextConfig(**getattr(self, name)))
        prior: Any = self.prosody
        if isinstance(prior, dict):
            restore("prosody", ProsodyPrior(**{key: tuple(values) for key, values in prior.items()}))
        if not 0 <= self.revision < self.window:
            raise ValueError(f"revision must lie in 0 … window - 1, not {self.revision} of {self.window}")
        if strangers := set(self.without) - set(MODULES):
            raise ValueError(f"no module {', '.join(sorted(strangers))}; there are {', '.join(MODULES)}")

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
    opinions: Tensor
    """[B, T, E, C] the experts' posteriors; all 0 where an expert has none."""

    def to(self, device: torch.device) -> "Utterances":
        features = {name: values.to(device) for name, values in self.features.items()}
        rest = (self.present, self.slot, self.index, self.opinions)
        return Utterances(features, *(values.to(device) for values in rest))


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
    said: Tensor
    """[B, T, E, C] what each expert adds to the logits, calibrated like them."""


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
        # How the training data relates the two tasks: P(sentiment | emotion), [C, S]. The consistency loss reads it.
        self.register_buffer(
            "sentiment_given_emotion",
            torch.full((len(config.emotions), len(config.sentiments)), 1 / len(config.sentiments)),
        )

    def join(self, expert: str, weight: float, prior: dict[str, float]) -> None:
        """Let one more expert in, whose weight and prior (by emotion) were fitted elsewhere (`model.experts`)."""
        self.config = replace(self.config, experts=(*self.config.experts, expert))
        self.expert_weight = torch.cat([self.expert_weight, torch.tensor([weight])])
        row = torch.tensor([[prior[emotion] for emotion in self.config.emotions]])
        self.expert_prior = torch.cat([self.expert_prior, row])

    def has(self, module: str) -> bool:
        """Whether one of `MODULES` is part of this network."""
        return module not in self.config.without

    @property
    def row_width(self) -> int:
        """Keys and values of alignment, context and graph layers for M nodes; the pooled state; the experts' say."""
        attending = self.has("alignment") + self.has("context") + self.config.layers
        keys = attending * len(self.config.inputs) * 2 * self.config.hidden
        return keys + self.config.hidden + len(self.config.emotions)

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
        if self.has("alignment"):
            states = self.alignment(states, with_past(self.alignment.keys(states)), allowed, present)

        # Nodes are (utterance, modality), utterance-major. An absent node is no key but to itself.
        def per_node(edges: Tensor) -> Tensor:
            return edges.repeat_interleave(modalities, 1).repeat_interleave(modalities, 2)

        kind = torch.arange(modalities, device=index.device)
        cross = (kind[:, None] != kind[None, :]).long().repeat(length, index.shape[1])[None]  # [1, T·M, K·M]
        node_distance = per_node(distance)
        itself = (node_distance == 0) & (cross == 0)
        open_edges = per_node(allowed) & present.flatten(1)[:, None, :] | itself
        kinds = per_node(relation(utterances.slot, slot, distance)) * 2 + cross
        if not self.has("relations"):
            kinds = torch.zeros_like(kinds)

        nodes = states.flatten(1, 2)  # [B, T·M, d]
        weights = itself.expand_as(open_edges)[:, None].float()
        if self.has("context"):
            keys = with_past(self.context.keys(nodes).unflatten(1, (length, -1))).flatten(1, 2)
            nodes, weights = self.context(nodes, nodes, keys, cross.expand_as(kinds), node_distance, open_edges)
        first = nodes
        for layer in self.graph:
            assert isinstance(layer, NodeUpdate)
            keys = with_past(layer.keys(nodes).unflatten(1, (length, -1))).flatten(1, 2)
            nodes, weights = layer(nodes, first, keys, kinds, node_distance, open_edges)

        by_modality = nodes.unflatten(1, (length, -1))  # [B, T, M, d]
        heard = utterances.present | ~utterances.present.any(-1, keepdim=True)
        contribution = self.pool(by_modality).squeeze(-1).masked_fill(~heard, -1e9).softmax(-1)
        pooled = self.norm((contribution[..., None] * by_modality).sum(2))  # [B, T, d]
        each_said = self._expert_say(utterances.opinions)
        said = each_said.sum(-2)
        rows += [pooled, said]

        # Mean over heads and the utterance's own present nodes, summed over each earlier utterance's nodes.
        edge = weights.mean(1).unflatten(1, (length, -1)).unflatten(3, (-1, modalities)).sum(-1)  # [B, T, M, K]
        influence = (edge * contribution[..., None]).sum(2)
        emotion, sentiment = self._heads(pooled, said, self.temperature)
        kept = torch.cat(rows, -1)
        return Labels(emotion, sentiment, contribution, influence, kept, states, each_said / self.temperature)

    def revise(self, rows: Tensor, slot: Tensor, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Final labels, from the causal states of t-W+R+1 … t+R, the last W.

        rows [B, K, row_width], slot and index [B, K]; targets [B, T] places on the K axis to label.
        Returns logits [B, T, C] and [B, T, S].
        """
        hidden, classes = self.config.hidden, len(self.config.emotions)
        states, said = rows[..., -hidden - classes :].split([hidden, classes], dim=-1)
        queries, said = (x.gather(1, targets[..., None].expand(-1, -1, x.shape[-1])) for x in (states, said))
        if not self.has("revision"):
            return self._heads(queries, said, self.temperature)  # the final label is the provisional one
        query_index, query_slot = index.gather(1, targets), slot.gather(1, targets)
        distance = query_index[:, :, None] - index[:, None, :]
        allowed = (index != EMPTY)[:, None, :] & (distance >= -self.config.revision)
        allowed = allowed & (distance < self.config.window - self.config.revision)  # all that W rows hold at t+R
        kinds = relation(query_slot, slot, distance)
        if not self.has("relations"):
            kinds = torch.zeros_like(kinds)
        revised, _ = self.revision(queries, queries, self.revision.keys(states), kinds, distance, allowed)
        return self._heads(revised, said, self.revision_temperature)

    def _project(self, utterances: Utterances) -> Tensor:
        """[B, T, M, d]: each modality in the common space, its learned token where it is absent."""
        projected = torch.stack([layer(utterances.features[name]) for name, layer in self.projection.items()], dim=2)
        states = torch.where(utterances.present[..., None], projected, self.absent)
        states = states + self.modality
        if self.has("slots"):
            states = states + self.slot(utterances.slot.clamp(max=self.config.slots - 1))[:, :, None]
        dropped: Tensor = self.dropout(states)
        return dropped

    def _expert_say(self, opinions: Tensor) -> Tensor:
        """[B, T, E, C] posteriors -> what log-linear pooling adds to the logits: w · log(posterior / prior) of each."""
        spoken = opinions.sum(-1, keepdim=True) > 0
        ratio = (opinions.clamp(min=1e-6) / self.expert_prior).log() * spoken
        return self.expert_weight[:, None] * ratio

    def _heads(self, pooled: Tensor, said: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.dropout(pooled)
        return (self.emotion(pooled) + said) / temperature, self.sentiment(pooled)
