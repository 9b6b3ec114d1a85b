"""Labelling while a conversation goes on: one utterance at a time, many conversations at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from model.dialogue import GraphRow, GraphState, Heard, collate, graph_row, stack
from model.experts import MODALITY_OF
from model.fusion import EMPTY, FusionGCN


@dataclass(frozen=True)
class Judgement:
    """What the network says of one utterance at one revision."""

    number: int
    """The utterance's place in the graph, from 0."""
    revision: int
    """0 provisional, 1 final."""
    emotion: dict[str, float]
    """Calibrated probabilities; sum to 1."""
    sentiment: dict[str, float]
    uncertain: bool
    """The conformal prediction set does not hold exactly one label."""
    contribution: dict[str, float]
    """Share of each modality, summing to 1; empty for a revision. What an expert moves of the probabilities (total
    variation) is its modality's; the rest is shared out as the graph pools its nodes."""
    influences: dict[int, float]
    """Attention paid to earlier utterances (by number, the strongest five); empty for a revision."""


@dataclass(frozen=True)
class Step:
    """The outcome of one utterance: its own provisional label, the final label now due, and the row it leaves."""

    judgement: Judgement
    final: Judgement | None
    row: GraphRow


class Labeller:
    """The trained network as a function from (state, utterance) to labels. Holds no conversation itself."""

    def __init__(self, model: FusionGCN) -> None:
        self.model = model.eval()
        self.config = model.config

    def new_state(self) -> GraphState:
        return GraphState(self.config, self.model.row_width)

    @torch.inference_mode()
    def step(self, states: list[GraphState], utterances: list[Heard], keep: bool = True) -> list[Step]:
        """Label the next utterance of each conversation, together; O(W) work each.

        The states move on by one, unless the utterances are not to be kept: they are still going on.
        """
        starts = [state.count for state in states]
        batch = collate([[heard] for heard in utterances], self.config, starts)
        past = stack(states)
        labels = self.model(batch, past)
        index = torch.cat([past.index, batch.index], 1)
        emotion, sentiment = labels.emotion[:, 0].softmax(-1), labels.sentiment[:, 0].softmax(-1)
        steps = []
        for b, state in enumerate(states):
            number = starts[b]
            row = graph_row(labels, batch, b)
            judgement = self._judgement(number, 0, emotion[b], sentiment[b])
            shares = zip(self.config.modalities, labels.contribution[b, 0].tolist(), row.present, strict=True)
            graph = {name: share for name, share, present in shares if present}
            judgement.contribution.update(self._contribution(graph, labels.emotion[b, 0], labels.said[b, 0]))
            judgement.influences.update(_strongest(index[b], labels.influence[b, 0], number))
            final = None
            if keep:
                state.add(row)
                due = number - self.config.revision
                final = self.revise(state, due) if due >= 0 else None
            steps.append(Step(judgement, final, row))
        return steps

    @torch.inference_mode()
    def revise(self, state: GraphState, number: int) -> Judgement:
        """The final label of utterance `number`, from what has been heard up to now."""
        place = torch.tensor([[number % self.config.window]])
        emotion, sentiment = self.model.revise(state.rows[None], state.slot[None], state.index[None], place)
        return self._judgement(number, 1, emotion[0, 0].softmax(-1), sentiment[0, 0].softmax(-1))

    def finish(self, state: GraphState) -> list[Judgement]:
        """The final labels still owed when the conversation ends."""
        return [self.revise(state, n) for n in range(max(0, state.count - self.config.revision), state.count)]

    def _contribution(self, graph: dict[str, float], logits: torch.Tensor, said: torch.Tensor) -> dict[str, float]:
        """Shares by modality. logits [C]; said [E, C], of which an expert without an opinion has zeros."""
        moved = 0.5 * (logits.softmax(-1) - (logits - said).softmax(-1)).abs().sum(-1)
        moved = moved / max(1.0, float(moved.sum()))
        shares = {name: share * (1 - float(moved.sum())) for name, share in graph.items()}
        for name, words, share in zip(self.config.experts, said, moved.tolist(), strict=True):
            if words.any():
                modality = MODALITY_OF.get(name, name)
                shares[modality] = shares.get(modality, 0.0) + share
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()} if total else shares

    def _judgement(self, number: int, revision: int, emotion: torch.Tensor, sentiment: torch.Tensor) -> Judgement:
        candidates = int((emotion >= self.model.conformal_threshold).sum())
        return Judgement(
            number,
            revision,
            dict(zip(self.config.emotions, emotion.tolist(), strict=True)),
            dict(zip(self.config.sentiments, sentiment.tolist(), strict=True)),
            candidates != 1,
            {},
            {},
        )


def _strongest(index: torch.Tensor, influence: torch.Tensor, number: int, most: int = 5) -> dict[int, float]:
    """The earlier utterances with the most attention, of at least 1 %. index, influence [K]."""
    earlier = (index != EMPTY) & (index != number)
    order = np.argsort(-influence.masked_fill(~earlier, 0).numpy(), kind="stable")[:most]
    return {int(index[k]): float(influence[k]) for k in order if earlier[k] and influence[k] >= 0.01}
