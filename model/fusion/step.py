"""One utterance's step through the fusion network, with everything before it cached: NumPy alone, no work but its own.

The same network as `model.fusion.network.FusionGCN` in evaluation, from the same weights, with the same logits to 1e-5.
What differs is how much is done: of earlier utterances a layer needs the keys and values, which lie in a ring of the
last W and the present one; so a new utterance computes its own rows only, and nothing is copied. With a row or two at a
time a tensor library is busy with itself; NumPy's matrix times vector runs at the speed of the caches.

Shapes: B conversations, M modalities, d hidden width, H heads, P = W + 1 places of the ring, K = P · M nodes in sight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.fusion.config import EMPTY, FusionConfig
from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.step_layers import (
    CLOSED,
    Alignment,
    Array,
    Update,
    Weights,
    joined,
    linear,
    normalised,
    normed,
    softmax,
)

Kind = TypeVar("Kind", bound=np.generic)


class GraphState:
    """What is kept of one conversation: a ring of its last W utterances, and the place of the present one."""

    def __init__(self, config: FusionConfig) -> None:
        places, modalities, d = config.window + 1, len(config.inputs), config.hidden
        self.keys = np.zeros((attending(config), places, modalities, 2 * d), np.float32)
        """Keys and values of alignment, context and graph layers."""
        self.pooled = np.zeros((places, d), np.float32)
        self.said = np.zeros((places, len(config.emotions)), np.float32)
        """What the experts added to the logits, before the temperature."""
        self.revision = np.zeros((places, 3 * d), np.float32)
        """Query, key and value of the revision's layer."""
        self.present = np.zeros((places, modalities), bool)
        self.slot = np.zeros(places, np.int64)
        self.index = np.full(places, EMPTY, np.int64)
        self.count = 0
        """How many utterances have been labelled, which is the number of the next one."""

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in vars(self).values() if isinstance(values, np.ndarray))

    def row(self, number: int) -> GraphRow:
        """What the utterance leaves for those after it."""
        place = number % len(self.index)
        values = np.concatenate([self.keys[:, place].ravel(), self.pooled[place], self.said[place]])
        return GraphRow(number, int(self.slot[place]), tuple(self.present[place].tolist()), values)


@dataclass(frozen=True)
class Labels:
    """What the network says of one new utterance of each conversation."""

    emotion: Array
    """[B, C] calibrated logits."""
    sentiment: Array
    """[B, S] logits."""
    contribution: Array
    """[B, M] share of each modality in the pooled state; sums to 1."""
    influence: Array
    """[B, P] attention of the last graph layer on each utterance in sight; sums to 1."""
    index: NDArray[np.int64]
    """[B, P] the utterances' numbers."""
    present: NDArray[np.bool_]
    """[B, M]"""
    said: Array
    """[B, E, C] what each expert adds to the logits, calibrated like them."""


class FusionStep:
    """The network as functions of (states, utterances)."""

    def __init__(self, config: FusionConfig, weights: Weights) -> None:
        """weights: the tensors of `FusionGCN`, by name."""
        self.config = config
        self.conformal_threshold = float(weights["conformal_threshold"])
        self._modalities, self._d = len(config.inputs), config.hidden
        self._projection = [
            normed(weights, f"projection.{name}.0", (f"projection.{name}.1",)) for name in config.inputs
        ]
        self._absent, self._modality = weights["absent"], weights["modality"]
        self._slot = weights["slot.weight"] * np.float32("slots" not in config.without)
        self._alignment = Alignment(config, weights) if "alignment" not in config.without else None
        names = [
            *(["context"] if "context" not in config.without else []),
            *(f"graph.{n}" for n in range(config.layers)),
        ]
        self._layers = [Update(config, weights, name) for name in names]
        self._tables = np.concatenate([layer.table for layer in self._layers])  # [N·H, relations]
        self._decay = np.concatenate([layer.decay for layer in self._layers])[:, None, None, None]
        kind = np.arange(self._modalities)
        self._same = kind[:, None, None] == kind  # [M, 1, M]
        self._pool = weights["pool.weight"][0], weights["pool.bias"]
        self._norm = weights["norm.weight"], weights["norm.bias"]
        self._heads = joined(weights, ("emotion", "sentiment"))
        self._temperature = float(weights["temperature"])
        self._revision_temperature = float(weights["revision_temperature"])
        self._revision = Update(config, weights, "revision") if "revision" not in config.without else None
        self._rings: Array = np.empty((0, 0, 0, 0), np.float32)
        self._expert_weight, self._expert_prior = weights["expert_weight"], weights["expert_prior"]

    def new_state(self) -> GraphState:
        return GraphState(self.config)

    def matrices(self) -> list[tuple[Array, int]]:
        """Every matrix that a step with its revision multiplies vectors with, and how many of them."""
        layers = [(matrix, self._modalities) for layer in self._layers for matrix in layer.matrices]
        once = [matrix for part in (self._alignment, self._revision) if part is not None for matrix in part.matrices]
        once += [matrix for matrix, _ in self._projection]
        return [*layers, *((matrix, 1) for matrix in once), (self._heads[0], 2)]

    def multiply_adds(self) -> int:
        """Of an utterance's step with its revision: in its matrices, and in attention over the window."""
        places, d, modalities = self.config.window + 1, self.config.hidden, self._modalities
        attention = len(self._layers) * modalities**2 + (self._alignment is not None) * modalities**2
        attention += self._revision is not None
        return sum(matrix.size * times for matrix, times in self.matrices()) + 2 * attention * places * d

    def step(self, states: Sequence[GraphState], utterances: Sequence[UtteranceFeatures]) -> Labels:
        """Label the next utterance of each conversation. It is left in its state's free place, but not counted yet."""
        number = np.array([state.count for state in states])
        place = (number % (self.config.window + 1)).tolist()
        present, features, opinions = self._read(utterances)
        for state, at, heard, here, n in zip(states, place, utterances, present, number.tolist(), strict=True):
            state.slot[at], state.index[at], state.present[at] = heard.slot, n, here
        index, slot = _gather([s.index for s in states]), _gather([s.slot for s in states])
        own_slot = np.array([heard.slot for heard in utterances])
        seen = (index != EMPTY)[:, :, None] & _gather([s.present for s in states])  # [B, P, M]

        nodes = self._project(features, present, own_slot)
        layer_keys = 0
        if self._alignment is not None:
            query, keys, gates = self._alignment.ask(nodes)
            nodes = self._alignment(nodes, query, self._keep(states, place, 0, keys), gates, seen)
            layer_keys = 1

        distance = number[:, None] - index
        relation = np.where(slot != own_slot[:, None], 3, 0) + (
            distance == 0
        )  # as `model.fusion.layers.relation`, no future
        kinds = relation[:, None, :, None] * 2 + ~self._same  # [B, M, P, M]
        itself = (distance == 0)[:, None, :, None] & self._same
        opened = seen[:, None] | itself
        bias = self._tables[:, kinds] - self._decay[..., None] * np.log1p(distance, dtype=np.float32)[:, None, :, None]
        bias = np.where(opened, bias, CLOSED).reshape(len(self._layers), self.config.heads, *kinds.shape[:2], -1)
        flat = kinds.reshape(*kinds.shape[:2], -1)
        counted = (flat[..., None] == np.arange(12)).astype(np.float32)  # [B, M, K, relations]

        first, weights = nodes, np.broadcast_to(itself, kinds.shape).reshape(*flat.shape)[:, None].astype(np.float32)
        for n, layer in enumerate(self._layers):
            asked = layer.ask(nodes)
            keys = self._keep(states, place, layer_keys + n, asked[..., self._d :])
            keys = keys.reshape(len(states), -1, 2 * self._d)
            nodes, weights = layer(nodes, first, asked[..., : self._d], keys, bias[n].swapaxes(0, 1), counted)
            if layer.name == "context":
                first = nodes  # what the graph layers come back to

        heard_any = present | ~present.any(-1, keepdims=True)
        scores = np.where(heard_any, nodes @ self._pool[0] + self._pool[1], CLOSED)
        contribution = softmax(scores)
        pooled = normalised((contribution[:, None] @ nodes)[:, 0]) * self._norm[0] + self._norm[1]
        each_said = self._expert_say(opinions)
        said = each_said.sum(-2)
        for b, (state, at) in enumerate(zip(states, place, strict=True)):
            state.pooled[at], state.said[at] = pooled[b], said[b]
        if self._revision is not None:
            self._prepare_revision(states, place, pooled)
        edge = np.add.reduce(np.add.reduce(weights, 1).reshape(kinds.shape), -1)  # [B, M, P], sums over heads
        influence = (contribution[:, None] @ edge)[:, 0] / np.float32(weights.shape[1])
        emotion, sentiment = self._judge(pooled, said, self._temperature)
        return Labels(emotion, sentiment, contribution, influence, index, present, each_said / self._temperature)

    def count(self, states: Sequence[GraphState]) -> None:
        """The utterances of the last step stand: the next ones come after them."""
        for state in states:
            state.count += 1

    def forget(self, states: Sequence[GraphState]) -> None:
        """The utterances of the last step were only a question: nobody sees them again."""
        for state in states:
            state.index[state.count % len(state.index)] = EMPTY

    def restore(self, rows: Sequence[GraphRow]) -> GraphState:
        """The state of a conversation from the rows of its last W utterances."""
        state = self.new_state()
        kept = state.keys[:, 0].size
        for row in rows:
            at = row.index % len(state.index)
            state.keys[:, at] = row.values[:kept].reshape(state.keys[:, at].shape)
            state.pooled[at], state.said[at] = row.values[kept : kept + self._d], row.values[kept + self._d :]
            state.slot[at], state.index[at], state.present[at] = row.slot, row.index, row.present
            state.count = row.index + 1
            if self._revision is not None:
                self._prepare_revision([state], [at], state.pooled[None, at])
        return state

    def revise(self, states: Sequence[GraphState], numbers: Sequence[int]) -> tuple[Array, Array]:
        """Final logits [B, C] and [B, S] of an utterance of each conversation, from what has been heard up to now."""
        number = np.array(numbers)
        at = (number % (self.config.window + 1)).tolist()
        places = list(zip(states, at, strict=True))
        pooled, said = _gather([s.pooled[p] for s, p in places]), _gather([s.said[p] for s, p in places])
        if self._revision is None:
            return self._judge(pooled, said, self._temperature)  # the final label is the provisional one
        index, slot = _gather([s.index for s in states]), _gather([s.slot for s in states])
        cached = _gather([s.revision for s in states])
        own_slot = np.array([s.slot[p] for s, p in places])
        query = _gather([s.revision[p, : self._d] for s, p in places])
        distance = number[:, None] - index
        opened = (index != EMPTY) & (distance >= -self.config.revision)
        opened &= distance < self.config.window - self.config.revision  # all that W rows hold at t + R
        kinds = np.where(slot != own_slot[:, None], 3, 0) + 1 - np.sign(distance)
        decay = self._revision.decay[:, None, None]
        bias = self._revision.table[:, kinds] - decay * np.log1p(np.abs(distance), dtype=np.float32)
        bias = np.where(opened, bias, CLOSED).swapaxes(0, 1)[:, :, None]  # [B, H, 1, P]
        counted = (kinds[:, None, :, None] == np.arange(6)).astype(np.float32)
        nodes = pooled[:, None]
        revised, _ = self._revision(nodes, nodes, query[:, None], cached[..., self._d :], bias, counted)
        return self._judge(revised[:, 0], said, self._revision_temperature)

    def _read(self, utterances: Sequence[UtteranceFeatures]) -> tuple[NDArray[np.bool_], list[Array], Array]:
        """Presence [B, M], features [B, D_m] by modality, opinions [B, E, C]."""
        config, batch = self.config, len(utterances)
        present = np.array([[name in utterance.features for name in config.inputs] for utterance in utterances])
        features = [np.zeros((batch, width), np.float32) for width in config.widths]
        posteriors = np.zeros((batch, len(config.experts), len(config.emotions)), np.float32)
        for b, utterance in enumerate(utterances):
            for values, name in zip(features, config.inputs, strict=True):
                if name in utterance.features:
                    values[b] = utterance.features[name]
            for e, name in enumerate(config.experts):
                if name in utterance.expert_posteriors:
                    posteriors[b, e] = utterance.expert_posteriors[name]
        return present, features, posteriors

    def _project(self, features: list[Array], present: NDArray[np.bool_], slot: NDArray[np.int64]) -> Array:
        """[B, M, d]: each modality in the common space, its learned token where it is absent."""
        projected = [linear(normalised(x), *layer) for x, layer in zip(features, self._projection, strict=True)]
        states = np.where(present[..., None], np.stack(projected, 1), self._absent) + self._modality
        nodes: Array = states + self._slot[np.minimum(slot, self.config.slots - 1)][:, None]
        return nodes

    def _keep(self, states: Sequence[GraphState], place: list[int], layer: int, keys: Array) -> Array:
        """Put the new keys [B, M, 2d] into the rings; the rings [B, P, M, 2d]."""
        for state, at, new in zip(states, place, keys, strict=True):
            state.keys[layer, at] = new
        rings = [state.keys[layer] for state in states]
        if len(rings) == 1:
            return _gather(rings)
        if len(self._rings) < len(rings):  # kept: to get megabytes from the system anew costs as much as to fill them
            self._rings = np.empty((len(rings), *rings[0].shape), np.float32)
        return np.stack(rings, out=self._rings[: len(rings)])

    def _prepare_revision(self, states: Sequence[GraphState], place: list[int], pooled: Array) -> None:
        assert self._revision is not None
        for state, at, asked in zip(states, place, self._revision.ask(pooled), strict=True):
            state.revision[at] = asked

    def _expert_say(self, opinions: Array) -> Array:
        """[B, E, C] posteriors -> what log-linear pooling adds to the logits: w · log(posterior / prior) of each."""
        spoken = opinions.sum(-1, keepdims=True) > 0
        say: Array = self._expert_weight[:, None] * np.log(np.maximum(opinions, 1e-6) / self._expert_prior) * spoken
        return say

    def _judge(self, pooled: Array, said: Array, temperature: float) -> tuple[Array, Array]:
        both, classes = linear(pooled, *self._heads), said.shape[-1]
        return (both[:, :classes] + said) / np.float32(temperature), both[:, classes:]


def attending(config: FusionConfig) -> int:
    """How many layers keep keys and values."""
    return ("alignment" not in config.without) + ("context" not in config.without) + config.layers


def _gather(rings: Sequence[NDArray[Kind]]) -> NDArray[Kind]:
    """Several conversations' as one batch; one conversation's without a copy."""
    return rings[0][None] if len(rings) == 1 else np.stack(rings)
