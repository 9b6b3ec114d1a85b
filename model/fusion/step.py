"""One utterance's step through the fusion network, with everything before it cached. Imports no PyTorch.

The network itself is `model.fusion.network.FusionGCN`, given one new utterance of each conversation and the keys and
values of its past; here is what a conversation keeps, and how a batch is made of several. Who computes is an `Engine`:
ONNX Runtime from a checkpoint's exported graphs (`model.fusion.onnx_engine`), or PyTorch (`model.fusion.step_network`).

Shapes: B conversations, M modalities, E experts, C emotions, d hidden width, H heads, W window, h = d / H.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.fusion.config import EMPTY, FusionConfig
from model.fusion.dialogue import GraphRow, UtteranceFeatures

Array = NDArray[np.float32]
Arrays = dict[str, NDArray[np.generic]]


class Engine(Protocol):
    """The network's two functions, from arrays by name to arrays by name; see `model.fusion.step_network`."""

    def step(self, inputs: Arrays) -> Arrays: ...

    def revise(self, inputs: Arrays) -> Arrays: ...


def blocks(config: FusionConfig) -> list[int]:
    """Nodes per utterance of each block of cached keys and values: of the alignment one block a modality, of the
    context and graph layers one each."""
    modalities = len(config.inputs)
    found = [] if "alignment" in config.without else [1] * modalities
    return found + [modalities] * (config.layers + ("context" not in config.without))


class GraphState:
    """What is kept of one conversation: a ring of its last W utterances."""

    def __init__(self, config: FusionConfig) -> None:
        window, heads = config.window, config.heads
        self.past = [
            np.zeros((heads, window * nodes, config.hidden // heads), np.float32)
            for nodes in blocks(config)
            for _ in range(2)
        ]
        """Keys and values of each block, [H, W · nodes, h]."""
        self.tail = np.zeros((window, config.hidden + len(config.emotions)), np.float32)
        """Pooled state, and what the experts added to the logits before the temperature."""
        self.present = np.zeros((window, len(config.inputs)), bool)
        self.slot = np.zeros(window, np.int64)
        self.index = np.full(window, EMPTY, np.int64)
        self.count = 0
        """How many utterances have been labelled, which is the number of the next one."""

    @property
    def nbytes(self) -> int:
        arrays = [*self.past, self.tail, self.present, self.slot, self.index]
        return sum(values.nbytes for values in arrays)

    def append(self, row: GraphRow) -> None:
        """Put what an utterance left into the ring, in the place of the oldest. Raises ValueError for another width."""
        place, start = row.index % len(self.index), 0
        for pair in zip(self.past[::2], self.past[1::2], strict=True):
            heads, nodes, width = pair[0].shape
            each = nodes // len(self.index)
            size = 2 * each * heads * width
            new = row.values[start : start + size].reshape(each, 2, heads, width).transpose(1, 2, 0, 3)
            for ring, values in zip(pair, new, strict=True):
                ring[:, place * each : (place + 1) * each] = values
            start += size
        self.tail[place] = row.values[start:]
        self.slot[place], self.index[place], self.present[place] = row.slot, row.index, row.present
        self.count = row.index + 1


@dataclass(frozen=True)
class Labels:
    """Output of the network for one new utterance of each conversation."""

    emotion: Array
    """[B, C] calibrated logits."""
    sentiment: Array
    """[B, S] logits."""
    contribution: Array
    """[B, M] share of each modality in the pooled state; sums to 1."""
    influence: Array
    """[B, W + 1] attention of the last graph layer on each utterance in sight, the new one last; sums to 1."""
    index: NDArray[np.int64]
    """[B, W + 1] the utterances' numbers."""
    present: NDArray[np.bool_]
    """[B, M]"""
    expert_logits: Array
    """[B, E, C] what each expert adds to the logits, calibrated like them."""
    rows: list[GraphRow]
    """What each utterance leaves for those after it."""


class FusionStep:
    """The network as functions of (states, utterances)."""

    def __init__(self, config: FusionConfig, weights: Mapping[str, Array], engine: Engine) -> None:
        """weights: the tensors of `FusionGCN` by name, of which the experts' and the conformal threshold are read."""
        self.config = config
        self.conformal_threshold = float(weights["conformal_threshold"])
        self._experts: Arrays = {name: weights[name] for name in ("expert_weight", "expert_prior")}
        self._engine = engine
        self._revises = "revision" not in config.without

    def new_state(self) -> GraphState:
        return GraphState(self.config)

    def restore(self, rows: Sequence[GraphRow]) -> GraphState:
        """The state of a conversation from the rows of its last W utterances."""
        state = self.new_state()
        for row in rows:
            state.append(row)
        return state

    def step(self, states: Sequence[GraphState], utterances: Sequence[UtteranceFeatures]) -> Labels:
        """Label the next utterance of each conversation. The states stay as they are: `GraphState.append` the rows."""
        inputs = self._read(utterances)
        number = np.array([state.count for state in states])
        index = _batch([state.index for state in states])
        inputs |= self._experts | {"index": number, "past_index": index}
        inputs["past_slot"] = _batch([state.slot for state in states])
        inputs["past_present"] = _batch([state.present for state in states])
        for n in range(len(states[0].past)):
            inputs[f"past_{n}"] = _batch([state.past[n] for state in states])
        out = self._engine.step(inputs)
        present, values = inputs["present"], out.pop("row")
        each = zip(number.tolist(), utterances, present.tolist(), values, strict=True)
        rows = [GraphRow(n, utterance.slot, tuple(here), row) for n, utterance, here, row in each]
        indices = np.concatenate([index, number[:, None]], 1)
        return Labels(index=indices, present=present, rows=rows, **out)  # type: ignore[arg-type]

    def revise(self, states: Sequence[GraphState], numbers: Sequence[int]) -> tuple[Array, Array]:
        """Final logits [B, C] and [B, S] of an utterance of each conversation, from what has been heard up to now."""
        places = [(state, number % self.config.window) for state, number in zip(states, numbers, strict=True)]
        inputs: Arrays = {"index": np.array(numbers), "row": np.stack([state.tail[at] for state, at in places])}
        if self._revises:
            inputs["slot"] = np.array([state.slot[at] for state, at in places])
            inputs["past_slot"] = _batch([state.slot for state in states])
            inputs["past_index"] = _batch([state.index for state in states])
            inputs["past_row"] = _batch([state.tail for state in states])
        out = self._engine.revise(inputs)
        return out["emotion"], out["sentiment"]  # type: ignore[return-value]

    def _read(self, utterances: Sequence[UtteranceFeatures]) -> Arrays:
        """Features [B, D_m] by modality, presence [B, M], slots [B], expert posteriors [B, E, C]."""
        config, batch = self.config, len(utterances)
        inputs: Arrays = {}
        for name, width in config.inputs.items():
            values = np.zeros((batch, width), np.float32)
            for b, utterance in enumerate(utterances):
                if name in utterance.features:
                    values[b] = utterance.features[name]
            inputs[f"feature_{name}"] = values
        posteriors = np.zeros((batch, len(config.experts), len(config.emotions)), np.float32)
        for b, utterance in enumerate(utterances):
            for e, name in enumerate(config.experts):
                if name in utterance.expert_posteriors:
                    posteriors[b, e] = utterance.expert_posteriors[name]
        inputs["expert_posteriors"] = posteriors
        inputs["present"] = np.array([[name in each.features for name in config.inputs] for each in utterances])
        inputs["slot"] = np.array([utterance.slot for utterance in utterances])
        return inputs


def _batch(values: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """[...] of each conversation -> [B, ...]; that of one is not copied."""
    return values[0][None] if len(values) == 1 else np.stack(values)
