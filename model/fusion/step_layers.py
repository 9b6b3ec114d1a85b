"""The layers of `model.fusion.step`: those of `model.fusion.layers` for one new utterance, its past being cached.

Shapes: B conversations, M modalities, d hidden width, H heads, P places of the ring, K = P · M nodes in sight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.fusion.config import FusionConfig

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
CLOSED = np.float32(-1e9)  # so far below any score that exp() gives exactly 0


class Alignment:
    """`model.fusion.layers.CrossModalAlignment` for one new utterance."""

    def __init__(self, config: FusionConfig, weights: Weights) -> None:
        d, modalities, gated = config.hidden, len(config.inputs), "gate" not in config.without
        self._d, self._heads = d, config.heads
        self._pairs = [(m, n) for m in range(modalities) for n in range(modalities) if m != n]
        self._asked, self._gates = [], {}
        for m in range(modalities):
            matrix, bias = joined(weights, (f"alignment.query.{m}", f"alignment.key_value.{m}"))
            matrix, bias = scaled(matrix, bias, d, config.heads)
            gates = [f"alignment.gate.{m}_from_{n}" for k, n in self._pairs if k == m and gated]
            states = [weights[f"{gate}.weight"][:, :d] for gate in gates]  # the half of a gate that reads the state
            self._asked.append(
                (np.concatenate([matrix, *states]), np.concatenate([bias, *(weights[f"{g}.bias"] for g in gates)]))
            )
            for gate, n in zip(gates, (n for k, n in self._pairs if k == m), strict=False):
                self._gates[m, n] = np.ascontiguousarray(weights[f"{gate}.weight"][:, d:])
        self.matrices = [*(matrix for matrix, _ in self._asked), *self._gates.values()]

    def ask(self, states: Array) -> tuple[Array, Array, Array]:
        """states [B, M, d] -> queries [B, M, d], keys [B, M, 2d], the state's half of each gate [B, M, (M - 1) · d]."""
        asked = np.stack([linear(states[:, m], *layer) for m, layer in enumerate(self._asked)], 1)
        return asked[..., : self._d], asked[..., self._d : 3 * self._d], asked[..., 3 * self._d :]

    def __call__(self, states: Array, query: Array, keys: Array, gates: Array, seen: NDArray[np.bool_]) -> Array:
        """keys [B, P, M, 2d], seen [B, P, M] -> [B, M, d]."""
        split = (*keys.shape[:3], 2, self._heads, -1)
        key, value = keys.reshape(split).transpose(3, 0, 2, 4, 1, 5)  # each [B, M, H, P, d/H]
        q = query.reshape(*query.shape[:2], self._heads, -1).swapaxes(1, 2)[:, None]  # [B, 1, H, M, d/H]
        bias = np.where(seen, np.float32(0), CLOSED).swapaxes(1, 2)[:, :, None, None]
        context = softmax(q @ key.swapaxes(-1, -2) + bias) @ value  # [B, from, H, to, d/H]
        context = context.transpose(0, 1, 3, 2, 4).reshape(*context.shape[:2], -1, self._d)
        context *= np.logical_or.reduce(seen, 1)[..., None, None]  # where nothing is in sight, no context
        out, at = states.copy(), dict.fromkeys(range(states.shape[1]), 0)
        for m, n in self._pairs:
            heard = context[:, n, m]
            if self._gates:
                closing = gates[:, m, at[m] : at[m] + self._d] + linear(heard, self._gates[m, n])
                heard, at[m] = heard / (1 + np.exp(-closing)), at[m] + self._d
            out[:, m] += heard
        return out


class Update:
    """`model.fusion.layers.NodeUpdate` for the nodes of one new utterance."""

    def __init__(self, config: FusionConfig, weights: Weights, name: str) -> None:
        d, edges, self.name = config.hidden, f"{name}.edges", name
        self._heads, self._d = config.heads, d
        adaptive, typed = "adaptive" not in config.without, name == "context" or "relations" not in config.without
        matrix, bias = normed(weights, f"{name}.norm", (f"{edges}.query", f"{edges}.key_value"))
        matrix, bias = scaled(matrix, bias, d, config.heads if adaptive else 0)
        self._asked = matrix, bias
        relations = 6 if name == "revision" else 12
        known = len(weights[f"{edges}.relation_bias"])
        # The context layer knows two relations (same or cross modality); untyped edges are all of the first.
        which = np.arange(relations) % known if typed else np.zeros(relations, int)
        self.table = weights[f"{edges}.relation_bias"][which].T * np.float32(adaptive)  # [H, relations]
        self._relation_value = weights[f"{edges}.relation_value"][which] / np.float32(config.heads)  # mean over heads
        self.decay = np.log1p(np.exp(weights[f"{edges}.decay"])) * np.float32(adaptive)
        self._initial = np.float32(1 / (1 + np.exp(-weights[f"{name}.initial"])))
        self._widen = normed(weights, f"{name}.feed_forward.0", (f"{name}.feed_forward.1",))
        self._narrow = joined(weights, (f"{name}.feed_forward.4",))
        self.matrices = [matrix for matrix, _ in (self._asked, self._widen, self._narrow)]

    def ask(self, nodes: Array) -> Array:
        """nodes [..., d] -> query, key and value side by side [..., 3d]."""
        return linear(normalised(nodes), *self._asked)

    def __call__(
        self, nodes: Array, first: Array, query: Array, keys: Array, bias: Array, counted: Array
    ) -> tuple[Array, Array]:
        """nodes [B, Q, d], keys [B, K, 2d], bias [B, H, Q, K], counted [B, Q, K, relations] -> [B, Q, d], weights."""
        key, value = keys.reshape(*keys.shape[:2], 2, self._heads, -1).transpose(2, 0, 3, 1, 4)  # [B, H, K, d/H]
        q = query.reshape(*query.shape[:2], self._heads, -1).swapaxes(1, 2)
        weights = softmax(q @ key.swapaxes(-1, -2) + bias)
        message = (weights @ value).swapaxes(1, 2).reshape(nodes.shape)
        per_relation = (np.add.reduce(weights, 1)[:, :, None] @ counted)[:, :, 0]
        message = message + per_relation @ self._relation_value
        nodes = nodes + ((1 - self._initial) * message + self._initial * first)
        return nodes + linear(gelu(linear(normalised(nodes), *self._widen)), *self._narrow), weights


def linear(x: Array, matrix: Array, bias: Array | None = None) -> Array:
    """x [..., in], matrix [out, in] -> [..., out]."""
    rows = x.reshape(-1, x.shape[-1])
    count, width = rows.shape[0], matrix.shape[0]
    if count <= 3:  # BLAS packs a matrix before it multiplies with it: for a few rows more work than the product
        out = np.empty((count, width), np.float32)
        for n in range(count):
            np.dot(matrix, rows[n], out[n])
    else:
        out = rows @ matrix.T
    if bias is not None:
        out += bias
    return out.reshape(*x.shape[:-1], width)


def joined(weights: Weights, names: Sequence[str]) -> tuple[Array, Array]:
    """Several linear layers of the same input as one."""
    matrices, biases = ([weights[f"{name}.{part}"] for name in names] for part in ("weight", "bias"))
    return np.ascontiguousarray(np.concatenate(matrices)), np.concatenate(biases)


def normed(weights: Weights, norm: str, names: Sequence[str]) -> tuple[Array, Array]:
    """`_joined` behind a layer norm, whose scale and shift go into the layers."""
    matrix, bias = joined(weights, names)
    shifted: Array = bias + matrix @ weights[f"{norm}.bias"]
    return matrix * weights[f"{norm}.weight"], shifted


def scaled(matrix: Array, bias: Array, d: int, heads: int) -> tuple[Array, Array]:
    """With attention's 1 / sqrt(d / H) in the rows that make the query, which come first; 0 heads: no query at all."""
    scale = np.ones(len(matrix), np.float32)
    scale[:d] = np.sqrt(heads / d)
    return matrix * scale[:, None], bias * scale


def normalised(x: Array) -> Array:
    """Layer norm without its scale and shift; as PyTorch's, with epsilon 1e-5."""
    width = np.float32(x.shape[-1])
    centred = x - np.add.reduce(x, -1, keepdims=True) / width  # `mean` spends more on Python than on the sum
    variance = np.vecdot(centred, centred)[..., None] / width
    result: Array = centred / np.sqrt(variance + np.float32(1e-5))
    return result


def softmax(x: Array) -> Array:
    odds: Array = np.exp(x - np.maximum.reduce(x, -1, keepdims=True))
    odds /= np.add.reduce(odds, -1, keepdims=True)
    return odds


def gelu(x: Array) -> Array:
    """With the error function after Abramowitz and Stegun 7.1.26 (error below 1.5e-7), which NumPy has not."""
    size: Array = np.abs(x) * np.float32(0.5**0.5)
    t: Array = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * size)
    tail = np.float32(1.061405429) * t
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += np.float32(factor)
        tail *= t
    likeness = 1 - tail * np.exp(-size * size)  # erf(size)
    result: Array = np.float32(0.5) * (x + np.abs(x) * likeness)
    return result
