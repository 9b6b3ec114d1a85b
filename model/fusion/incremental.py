"""Incremental labelling: one utterance at a time, many conversations at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.experts import MODALITY_OF
from model.fusion.step import Array, FusionStep, GraphState, places

MAX_INFLUENCES = 5  # earlier utterances that a prediction names


@dataclass(frozen=True)
class Prediction:
    """Output of the network for one utterance at one revision."""

    number: int
    """Number of the utterance in the graph, from 0."""
    revision: int
    """0 provisional, 1 final."""
    emotion: dict[str, float]
    """Calibrated probabilities; sum to 1."""
    sentiment: dict[str, float]
    uncertain: bool
    """The most likely emotion is less probable than labels that are mostly right (`certain_from`)."""
    contribution: dict[str, float]
    """Share of each modality, summing to 1; empty for a revision. The change of the probabilities by an expert (total
    variation) counts for its modality; the rest is divided by the weights with which the graph pools its nodes."""
    influences: dict[int, float]
    """Attention to earlier utterances by number, the strongest `MAX_INFLUENCES`; empty for a revision."""


@dataclass(frozen=True)
class StepResult:
    """Result of one utterance: its provisional label, the final label that is now due, and the row to cache."""

    prediction: Prediction
    final: Prediction | None
    row: GraphRow


class IncrementalLabeller:
    """The trained network as a function from (state, utterance) to labels. Holds no state of a conversation itself."""

    def __init__(self, network: FusionStep) -> None:
        self.config = network.config
        self._network = network

    def new_state(self) -> GraphState:
        """State of a conversation without utterances."""
        return self._network.new_state()

    def restore(self, rows: Sequence[GraphRow]) -> GraphState:
        """Rebuild the state of a conversation from the rows of its last W utterances."""
        return self._network.restore(rows)

    def step(
        self, states: Sequence[GraphState], utterances: Sequence[UtteranceFeatures], commit: bool = True
    ) -> list[StepResult]:
        """Label the next utterance of each conversation as one batch; O(W) work each.

        commit: append the utterances to the states; False for a preview of utterances that still go on.
        """
        starts = [state.count for state in states]
        labels = self._network.step(states, utterances)
        emotion = softmax(labels.emotion)
        predictions = self._predictions(starts, 0, emotion, softmax(labels.sentiment))
        without = softmax(labels.emotion[:, None] - labels.expert_logits)
        moved = 0.5 * np.abs(emotion[:, None] - without).sum(-1)  # [B, E]
        shares = self._contributions(
            labels.contribution, labels.present, moved, np.logical_or.reduce(labels.expert_logits, -1)
        )
        influences = _strongest(labels.influence, starts, places(self.config))
        for prediction, share, influence in zip(predictions, shares, influences, strict=True):
            prediction.contribution.update(share)
            prediction.influences.update(influence)
        if not commit:
            return [StepResult(prediction, None, row) for prediction, row in zip(predictions, labels.rows, strict=True)]
        for state in states:
            state.count += 1
        numbers = [start - self.config.revision for start in starts]
        finals = self._predictions(numbers, 1, *map(softmax, labels.final))
        each = zip(predictions, finals, numbers, labels.rows, strict=True)
        return [StepResult(prediction, final if n >= 0 else None, row) for prediction, final, n, row in each]

    def revise(self, state: GraphState, number: int) -> Prediction:
        """The final label of utterance `number`, from all utterances up to now."""
        logits = self._network.revise([state], [number])
        return self._predictions([number], 1, *map(softmax, logits))[0]

    def finish(self, state: GraphState) -> list[Prediction]:
        """The final labels that are still due when the conversation ends."""
        return [self.revise(state, n) for n in range(max(0, state.count - self.config.revision), state.count)]

    def _contributions(
        self, pooled: Array, present: NDArray[np.bool_], moved: Array, has_posterior: NDArray[np.bool_]
    ) -> list[dict[str, float]]:
        """Shares by modality. pooled, present [B, M] of the graph's nodes; moved, has_posterior [B, E] of the
        experts."""
        moved = moved / np.maximum(moved.sum(-1, keepdims=True), 1)
        columns = (values.tolist() for values in (pooled, present, moved, has_posterior))
        return [self._shares(*row) for row in zip(*columns, strict=True)]

    def _shares(
        self, pooled: list[float], present: list[bool], moved: list[float], has_posterior: list[bool]
    ) -> dict[str, float]:
        left = 1 - sum(moved)
        shares = {
            name: share * left
            for name, share, here in zip(self.config.modalities, pooled, present, strict=True)
            if here
        }
        for name, share, here in zip(self.config.experts, moved, has_posterior, strict=True):
            if here:
                modality = MODALITY_OF.get(name, name)
                shares[modality] = shares.get(modality, 0.0) + share
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()} if total else shares

    def _predictions(self, numbers: Sequence[int], revision: int, emotion: Array, sentiment: Array) -> list[Prediction]:
        """emotion [B, C], sentiment [B, S] probabilities."""
        uncertain = (emotion.max(-1) < self._network.certain_from).tolist()
        return [
            Prediction(
                number,
                revision,
                dict(zip(self.config.emotions, emotions, strict=True)),
                dict(zip(self.config.sentiments, sentiments, strict=True)),
                unsure,
                {},
                {},
            )
            for number, emotions, sentiments, unsure in zip(
                numbers, emotion.tolist(), sentiment.tolist(), uncertain, strict=True
            )
        ]


def _strongest(influence: Array, own: Sequence[int], ring: int, limit: int = MAX_INFLUENCES) -> list[dict[int, float]]:
    """The earlier utterances with the most attention, of at least 1 %. influence: by place of the ring; own: B
    numbers."""
    strongest = []
    for shares, present in zip(influence[:, :ring].tolist(), own, strict=True):
        earlier = [(share, place) for place, share in enumerate(shares) if share >= 0.01 and place != present % ring]
        earlier.sort(reverse=True)
        strongest.append({present - 1 - (present - 1 - place) % ring: share for share, place in earlier[:limit]})
    return strongest


def softmax(x: Array) -> Array:
    """[..., C] logits -> probabilities."""
    odds: Array = np.exp(x - np.maximum.reduce(x, -1, keepdims=True))
    odds /= np.add.reduce(odds, -1, keepdims=True)
    return odds
