"""`FusionGCN` as functions of flat tensors, for one new utterance of each conversation: what is exported, and what
PyTorch runs where there is no export.

Shapes: B conversations, M modalities, E experts, C emotions, W window, d hidden width, H heads, h = d / H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.fusion.network import FusionGCN, Past, Utterances
from model.fusion.step import Arrays, FusionStep, blocks


class StepNetwork(nn.Module):
    """The provisional label, and the row that the utterance leaves."""

    outputs = ("emotion", "sentiment", "contribution", "influence", "expert_logits", "row")

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: `feature_NAME` [B, D_m] of each modality, `present` [B, M] bool, `slot` and `index` [B] int64,
        `expert_posteriors` [B, E, C], `expert_weight` [E], `expert_prior` [E, C]; of the past `past_N`
        [B, H, W · nodes, h] (keys and values of each of `blocks`), `past_present` [B, W, M],
        `past_slot` and `past_index` [B, W] -> by `outputs`: [B, C], [B, S], [B, M], [B, W + 1], [B, E, C], and the row
        [B, n], in the order in which `GraphState.append` reads it.
        """
        network = self.network
        past = [(inputs[f"past_{2 * n}"], inputs[f"past_{2 * n + 1}"]) for n in range(len(blocks(network.config)))]
        utterances = Utterances(
            {name: inputs[f"feature_{name}"][:, None] for name in network.config.inputs},
            *(inputs[name][:, None] for name in ("present", "slot", "index", "expert_posteriors")),
            experts=(inputs["expert_weight"], inputs["expert_prior"]),
        )
        known = Past(past, inputs["past_present"], inputs["past_slot"], inputs["past_index"])
        labels = network(utterances, past=known)
        # [B, H, nodes, h] of keys and values -> by node.
        kept = [torch.stack(pair).permute(1, 3, 0, 2, 4).flatten(1) for pair in labels.keys]
        row = torch.cat([*kept, labels.rows[:, 0]], -1)
        each = (labels.emotion, labels.sentiment, labels.contribution, labels.influence, labels.expert_logits)
        return *(values[:, 0] for values in each), row


class ReviseNetwork(nn.Module):
    """The final label."""

    outputs = ("emotion", "sentiment")

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: `row` [B, d + C] and `index` [B] of the utterance; where there is a revision its `slot` [B], and of
        the utterances in sight `past_row` [B, W, d + C], `past_slot` and `past_index` [B, W] -> logits [B, C], [B, S].
        """
        index, row = inputs["index"][:, None], inputs["row"][:, None]
        if not self.network.has("revision"):
            labels = self.network.revise(row, torch.zeros_like(index), index)
        else:
            seen = inputs["past_row"], inputs["past_slot"], inputs["past_index"]
            labels = self.network.revise(row, inputs["slot"][:, None], index, seen)
        return tuple(logits[:, 0] for logits in labels)


class TorchEngine:
    """`model.fusion.step.Engine` by PyTorch, for a network without an export."""

    def __init__(self, network: FusionGCN) -> None:
        self._step, self._revise = StepNetwork(network).eval(), ReviseNetwork(network).eval()

    def step(self, inputs: Arrays) -> Arrays:
        return _run(self._step, inputs)

    def revise(self, inputs: Arrays) -> Arrays:
        return _run(self._revise, inputs)


def step_of(network: FusionGCN) -> FusionStep:
    """A network as it comes from training, for labelling by PyTorch."""
    return FusionStep(network.config, network.weights(), TorchEngine(network))


@torch.inference_mode()
def _run(module: StepNetwork | ReviseNetwork, inputs: Arrays) -> Arrays:
    found = module({name: torch.from_numpy(values) for name, values in inputs.items()})
    return {name: values.numpy() for name, values in zip(module.outputs, found, strict=True)}
