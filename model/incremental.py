"""Labelling while a conversation goes on: one utterance at a time, many conversations at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from model.dialogue import GraphRow, GraphState, Heard, collate, graph_row, stack
from model.experts import MODALITY_OF
from model.fusion import EMPTY, FusionGCN
from model.traced import traced


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
        self._forward, self._revise = traced(self.model)

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
        labels = self._forward(batch, past)
        logits, said = labels.emotion[:, 0], labels.said[:, 0]
        emotion, sentiment = logits.softmax(-1), labels.sentiment[:, 0].softmax(-1)
        judgements = self._judgements(starts, 0, emotion, sentiment)
        moved = 0.5 * (emotion[:, None] - (logits[:, None] - said).softmax(-1)).abs().sum(-1)  # [B, E]
        shares = self._contributions(labels.contribution[:, 0], batch.present[:, 0], moved, said.any(-1))
        influences = _strongest(torch.cat([past.index, batch.index], 1), labels.influence[:, 0], batch.index)
        rows = [graph_row(labels, batch, b) for b in range(len(states))]
        for judgement, share, influence in zip(judgements, shares, influences, strict=True):
            judgement.contribution.update(share)
            judgement.influences.update(influence)
        finals: dict[int, Judgement] = {}
        if keep:
            for state, row in zip(states, rows, strict=True):
                state.add(row)
            due = [b for b, number in enumerate(starts) if number >= self.config.revision]
            numbers = [starts[b] - self.config.revision for b in due]
            finals = dict(zip(due, self._revised([states[b] for b in due], numbers), strict=True))
        return [Step(judgements[b], finals.get(b), row) for b, row in enumerate(rows)]

    @torch.inference_mode()
    def revise(self, state: GraphState, number: int) -> Judgement:
        """The final label of utterance `number`, from what has been heard up to now."""
        return self._revised([state], [number])[0]

    def finish(self, state: GraphState) -> list[Judgement]:
        """The final labels still owed when the conversation ends."""
        return [self.revise(state, n) for n in range(max(0, state.count - self.config.revision), state.count)]

    def _revised(self, states: list[GraphState], numbers: list[int]) -> list[Judgement]:
        if not states:
            return []
        reads = self.config.hidden + len(self.config.emotions)  # the pooled states and experts' say, at the rows' end
        rows = torch.stack([state.rows[:, -reads:] for state in states])
        slot, index = (torch.stack([getattr(state, name) for state in states]) for name in ("slot", "index"))
        places = torch.tensor(numbers)[:, None] % self.config.window
        emotion, sentiment = self._revise(rows, slot, index, places)
        return self._judgements(numbers, 1, emotion[:, 0].softmax(-1), sentiment[:, 0].softmax(-1))

    def _contributions(
        self, pooled: torch.Tensor, present: torch.Tensor, moved: torch.Tensor, spoke: torch.Tensor
    ) -> list[dict[str, float]]:
        """Shares by modality. pooled, present [B, M] of the graph's nodes; moved, spoke [B, E] of the experts."""
        moved = moved / moved.sum(-1, keepdim=True).clamp(min=1.0)
        columns = (each.tolist() for each in (pooled, present, moved, spoke))
        return [self._shares(*each) for each in zip(*columns, strict=True)]

    def _shares(
        self, pooled: list[float], present: list[bool], moved: list[float], spoke: list[bool]
    ) -> dict[str, float]:
        left = 1 - sum(moved)
        shares = {
            name: share * left
            for name, share, here in zip(self.config.modalities, pooled, present, strict=True)
            if here
        }
        for name, share, opines in zip(self.config.experts, moved, spoke, strict=True):
            if opines:
                modality = MODALITY_OF.get(name, name)
                shares[modality] = shares.get(modality, 0.0) + share
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()} if total else shares

    def _judgements(
        self, numbers: list[int], revision: int, emotion: torch.Tensor, sentiment: torch.Tensor
    ) -> list[Judgement]:
        """emotion [B, C], sentiment [B, S] probabilities."""
        candidates = (emotion >= self.model.conformal_threshold).sum(-1).tolist()
        return [
            Judgement(
                number,
                revision,
                dict(zip(self.config.emotions, emotions, strict=True)),
                dict(zip(self.config.sentiments, sentiments, strict=True)),
                held != 1,
                {},
                {},
            )
            for number, emotions, sentiments, held in zip(
                numbers, emotion.tolist(), sentiment.tolist(), candidates, strict=True
            )
        ]


def _strongest(
    index: torch.Tensor, influence: torch.Tensor, own: torch.Tensor, most: int = 5
) -> list[dict[int, float]]:
    """The earlier utterances with the most attention, of at least 1 %. index, influence [B, K]; own [B, 1]."""
    weight = influence.masked_fill((index == EMPTY) | (index == own), 0)
    order = np.argsort(-weight.numpy(), axis=1, kind="stable")[:, :most]
    numbers, shares = (np.take_along_axis(each.numpy(), order, 1).tolist() for each in (index, weight))
    return [
        {number: share for number, share in zip(*row, strict=True) if share >= 0.01}
        for row in zip(numbers, shares, strict=True)
    ]
