"""One utterance's step through the fusion network, with everything before it cached. Imports no PyTorch.

The network itself is `model.fusion.network.FusionGCN`, given one new utterance of each conversation and the keys and
values of its past; here is what a conversation keeps, and how a batch is made of several. Who computes is an `Engine`:
ONNX Runtime from a checkpoint's exported graphs (`model.fusion.onnx_engine`), or PyTorch (`model.fusion.step_network`).

Shapes: B conversations, M modalities, E experts, C emotions, d hidden width, H heads, W window, h = d / H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.fusion.config import CERTAIN_FROM, FusionConfig
from model.fusion.dialogue import GraphRow, UtteranceFeatures

Array = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
Indices = NDArray[np.int64]


class Engine(Protocol):
    """Holds the states of conversations by number, and computes on them."""

    def step(self, states: Indices, inputs: Arrays) -> Arrays:
        """Outputs of `model.fusion.step_network.StepNetwork` for the next utterance of each of the states [B].

        What the utterance leaves lies in its state from then on, where no label before `GraphState.count` + 1 sees it.
        """

    def revise(self, states: Indices, inputs: Arrays) -> Arrays:
        """Outputs of `model.fusion.step_network.ReviseNetwork` for an utterance of each of the states [B]."""

    def write(self, states: Indices, rows: Sequence[GraphRow]) -> None:
        """Put what an utterance left into each of the states [B]. Raises ValueError for rows of another network."""

    def new(self) -> int:
        """The number of an unused state."""

    def free(self, state: int) -> None:
        """The state may be given to another conversation."""

    def nbytes(self) -> int:
        """Bytes of one state."""


def blocks(config: FusionConfig) -> list[int]:
    """Nodes per utterance of each block of cached keys and values: of the alignment one block a modality, of the
    context and graph layers one each."""
    modalities = len(config.inputs)
    found = [] if "alignment" in config.without else [1] * modalities
    return found + [modalities] * (config.layers + ("context" not in config.without))


def functions(config: FusionConfig) -> tuple[str, ...]:
    """Names of the functions of a network that an engine runs (`model.fusion.step_network`)."""
    return ("step", "revise") if "revision" in config.without else ("step", "revise", "restore")


def places(config: FusionConfig) -> int:
    """Utterances in a state's ring: the W before, and the one that is being labelled."""
    return config.window + 1


def shapes(config: FusionConfig) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Shape and kind of each array of a state: P = W + 1 places in a ring; utterance n has place n mod P.

    `past_N`: keys and values of each of `blocks`, [H, P · nodes, h]. `past_row`: pooled state, and what the experts
    added to the logits before the temperature, [P, d + C]. `past_present` [P, M]; `past_slot` [P], of the speaker.
    `revised_N`: keys and values of the revision, if there is one, [H, P, h].
    """
    count, width = places(config), config.hidden // config.heads
    each = [nodes for nodes in blocks(config) for _ in range(2)]
    rings = {f"past_{n}": nodes for n, nodes in enumerate(each)}
    if "revision" not in config.without:
        rings |= {"revised_0": 1, "revised_1": 1}
    return {name: ((config.heads, count * nodes, width), np.float32) for name, nodes in rings.items()} | {
        "past_row": ((count, config.hidden + len(config.emotions)), np.float32),
        "past_present": ((count, len(config.inputs)), np.bool_),
        "past_slot": ((count,), np.int64),
    }


class States:
    """States of conversations in arrays [S, ...] of this machine's memory, which grow by doubling."""

    def __init__(self, config: FusionConfig) -> None:
        self.arrays: Arrays = {name: np.zeros((0, *shape), kind) for name, (shape, kind) in shapes(config).items()}
        self._unused: list[int] = []

    def new(self) -> int:
        if not self._unused:
            size = len(self.arrays["past_slot"])
            more = max(1, size)
            for name, values in self.arrays.items():
                self.arrays[name] = np.concatenate([values, np.zeros((more, *values.shape[1:]), values.dtype)])
            self._unused.extend(reversed(range(size, size + more)))
        return self._unused.pop()

    def free(self, state: int) -> None:
        self._unused.append(state)

    def nbytes(self) -> int:
        return sum(values[:1].nbytes for values in self.arrays.values())


def write_rows(arrays: dict[str, Any], config: FusionConfig, states: Any, of: dict[str, Any]) -> None:
    """Write the row of an utterance into each of the states [B]; arrays [S, ...] by `shapes`, of NumPy or PyTorch.

    of: `index`, `slot` [B], `present` [B, M], `row` [B, n] and, if there is a revision, its `keys` [B, 2d].
    """
    ring = places(config)
    place, row, start = of["index"] % ring, of["row"], 0

    def put(key: str, value: str, new: Any) -> None:
        """new: keys and values side by side of each node, [B, nodes · 2d]."""
        for name, values in ((key, 0), (value, 1)):
            size, heads, _, width = arrays[name].shape
            by_place = arrays[name].reshape(size, heads, ring, -1, width)
            by_node = new.reshape(len(new), -1, 2, heads, width)[:, :, values]
            by_place[states, :, place] = by_node.swapaxes(1, 2)

    for n, nodes in enumerate(blocks(config)):
        size = 2 * nodes * config.hidden
        put(f"past_{2 * n}", f"past_{2 * n + 1}", row[:, start : start + size])
        start += size
    if "revised_0" in arrays:
        put("revised_0", "revised_1", of["keys"])
    arrays["past_row"][states, place] = row[:, start:]
    arrays["past_slot"][states, place] = of["slot"]
    arrays["past_present"][states, place] = of["present"]


class ArrayEngine:
    """An `Engine` whose states are NumPy arrays."""

    def __init__(self, config: FusionConfig, run: Callable[[str, Arrays], Arrays]) -> None:
        """run: each of `functions(config)`, from arrays by name to arrays by name."""
        self._config, self._states, self._run = config, States(config), run
        self.new, self.free, self.nbytes = self._states.new, self._states.free, self._states.nbytes

    def step(self, states: Indices, inputs: Arrays) -> Arrays:
        out = self._run("step", self._states.arrays | inputs | {"state": states})
        write_rows(self._states.arrays, self._config, states, inputs | out)
        return out

    def revise(self, states: Indices, inputs: Arrays) -> Arrays:
        return self._run("revise", self._states.arrays | inputs | {"state": states})

    def write(self, states: Indices, rows: Sequence[GraphRow]) -> None:
        of: Arrays = {name: np.array([getattr(row, name) for row in rows]) for name in ("index", "slot", "present")}
        of["row"] = np.stack([row.values for row in rows])
        if "restore" in functions(self._config):
            tail = self._states.arrays["past_row"].shape[-1]
            of |= self._run("restore", {"row": of["row"][:, -tail:]})
        write_rows(self._states.arrays, self._config, states, of)


class GraphState:
    """State of one conversation. Its arrays are the engine's, which frees them when nobody holds this object."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.number = engine, engine.new()
        self.count = 0
        """Number of utterances that have been labelled, and so the number of the next one."""

    def __del__(self) -> None:
        self._engine.free(self.number)

    @property
    def nbytes(self) -> int:
        return self._engine.nbytes()


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
    """[B, P or P + 1] attention of the last graph layer on each place of the ring; on the utterance itself in its place
    or, if the engine does not write in place, last."""
    present: NDArray[np.bool_]
    """[B, M]"""
    expert_logits: Array
    """[B, E, C] what each expert adds to the logits, calibrated like them."""
    rows: list[GraphRow]
    """One for each utterance: all that later ones need of it."""
    final: tuple[Array, Array]
    """Final logits [B, C] and [B, S] of the utterance R before each, if there is one."""


class FusionStep:
    """The network as functions of (states, utterances)."""

    def __init__(self, config: FusionConfig, weights: Mapping[str, Array], engine: Engine) -> None:
        """weights: the tensors of `FusionGCN` by name, of which `expert_weight` [E], `expert_prior` [E, C] and
        `certain_from` [] are read, float32."""
        self.config = config
        self.certain_from = float(weights.get("certain_from", CERTAIN_FROM))
        self.experts: Arrays = {name: weights[name] for name in ("expert_weight", "expert_prior")}
        if not config.experts:  # ONNX Runtime cannot add up none: one that never says anything takes their place
            self.experts = {
                "expert_weight": np.zeros(1, np.float32),
                "expert_prior": np.ones((1, len(config.emotions)), np.float32),
            }
        self._engine = engine

    def new_state(self) -> GraphState:
        return GraphState(self._engine)

    def restore(self, rows: Sequence[GraphRow]) -> GraphState:
        """The state of a conversation from the rows of its last W utterances. Raises ValueError for rows of another
        network."""
        state = self.new_state()
        if rows:
            self._engine.write(np.full(len(rows), state.number), rows)
            state.count = rows[-1].index + 1
        return state

    def step(self, states: Sequence[GraphState], utterances: Sequence[UtteranceFeatures]) -> Labels:
        """Label the next utterance of each conversation. It counts, and later ones see it, once `count` is raised."""
        inputs = self.read(utterances) | {"index": np.array([state.count for state in states])}
        out = self._engine.step(np.array([state.number for state in states]), inputs)
        present = inputs["present"]
        each = zip(states, utterances, present.tolist(), out["row"], strict=True)
        rows = [GraphRow(state.count, utterance.slot, tuple(here), row) for state, utterance, here, row in each]
        final = out["final_emotion"], out["final_sentiment"]
        names = ("emotion", "sentiment", "contribution", "influence", "expert_logits")
        labels = {name: out[name] for name in names}
        labels["expert_logits"] = labels["expert_logits"][:, : len(self.config.experts)]
        return Labels(**labels, present=present, rows=rows, final=final)

    def revise(self, states: Sequence[GraphState], numbers: Sequence[int]) -> tuple[Array, Array]:
        """Final logits [B, C] and [B, S] of an utterance of each conversation, from what has been heard up to now."""
        inputs: Arrays = {"index": np.array(numbers), "count": np.array([state.count for state in states])}
        out = self._engine.revise(np.array([state.number for state in states]), inputs)
        return out["emotion"], out["sentiment"]

    def read(self, utterances: Sequence[UtteranceFeatures]) -> Arrays:
        """Inputs of a step: features, presence and posteriors of utterances [B], and the experts' parameters; names and
        shapes as in `model.fusion.step_network.StepNetwork`."""
        config, batch, inputs = self.config, len(utterances), dict(self.experts)
        for name, width in config.inputs.items():
            values = np.zeros((batch, width), np.float32)
            for b, utterance in enumerate(utterances):
                if name in utterance.features:
                    values[b] = utterance.features[name]
            inputs[f"feature_{name}"] = values
        posteriors = np.zeros((batch, len(self.experts["expert_weight"]), len(config.emotions)), np.float32)
        for b, utterance in enumerate(utterances):
            for e, name in enumerate(config.experts):
                if name in utterance.expert_posteriors:
                    posteriors[b, e] = utterance.expert_posteriors[name]
        inputs["expert_posteriors"] = posteriors
        inputs["present"] = np.array([[name in each.features for name in config.inputs] for each in utterances])
        inputs["slot"] = np.array([utterance.slot for utterance in utterances])
        return inputs
