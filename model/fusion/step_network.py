"""`FusionGCN` as functions of flat tensors, for one new utterance of each conversation: what is exported, and what
PyTorch runs where there is no export.

Shapes: B conversations of S states, M modalities, E experts, C emotions, P = W + 1 places, d hidden width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.fusion.config import EMPTY
from model.fusion.network import FusionGCN, Labels, Past, Utterances
from model.fusion.step import LEFT, ArrayEngine, Arrays, FusionStep, blocks, functions, places


class StepNetwork(nn.Module):
    """The provisional label, and what the utterance leaves."""

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network
        labels = ("emotion", "sentiment", "contribution", "influence", "expert_logits")
        self.outputs = (*labels, *LEFT) if network.has("revision") else (*labels, "row")

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: all states, `past_N`, `past_present` and `past_slot` [S, ...] (`model.fusion.step.shapes`); `state`
        [B] int64, the numbers of those of these conversations; `feature_NAME` [B, D_m] of each modality, `present`
        [B, M] bool, `slot` and `index` [B] int64, `expert_posteriors` [B, E, C], `expert_weight` [E], `expert_prior`
        [E, C] -> by `outputs`: [B, C], [B, S], [B, M], [B, P + 1], [B, E, C]; the row [B, n] and the revision's keys
        [B, 2d], as `model.fusion.step.States.write` reads them.
        """
        labels = self.label(inputs)
        each = (labels.emotion, labels.sentiment, labels.contribution, labels.influence, labels.expert_logits)
        row = torch.cat([*(keys.flatten(1) for keys in labels.keys), labels.rows[:, 0]], -1)
        keys = (self.network.revision_keys(labels.rows)[:, 0],) if self.network.has("revision") else ()
        return *(values[:, 0] for values in each), row, *keys

    def label(self, inputs: dict[str, Tensor]) -> Labels:
        """The network's own output for the utterances, T = 1."""
        config, state, index = self.network.config, inputs["state"], inputs["index"][:, None]
        ring = torch.arange(places(config), device=index.device)
        age = (index - 1 - ring) % len(ring) + 1  # [B, P] in utterances; that of the place to be filled is P
        known = Past(
            [(inputs[f"past_{2 * n}"][state], inputs[f"past_{2 * n + 1}"][state]) for n in range(len(blocks(config)))],
            inputs["past_present"][state],
            inputs["past_slot"][state],
            torch.where(age <= index.clamp(max=config.window), index - age, EMPTY),
        )
        utterances = Utterances(
            {name: inputs[f"feature_{name}"][:, None] for name in config.inputs},
            *(inputs[name][:, None] for name in ("present", "slot", "index", "expert_posteriors")),
            experts=(inputs["expert_weight"], inputs["expert_prior"]),
        )
        labels: Labels = self.network(utterances, past=known)
        return labels


class ReviseNetwork(nn.Module):
    """The final label."""

    outputs = ("emotion", "sentiment")

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: all states, `past_row`, `past_slot` and `revised_N` [S, ...] (`model.fusion.step.shapes`); `state`
        [B] int64, the numbers of those of these conversations, `count` [B] of their utterances, `index` [B] of that in
        question -> logits [B, C], [B, S].
        """
        state, index, last = inputs["state"], inputs["index"][:, None], inputs["count"][:, None] - 1
        ring = torch.arange(places(self.network.config), device=index.device)
        place, slots = index % len(ring), inputs["past_slot"][state]
        row, slot = inputs["past_row"][state[:, None], place], slots.gather(1, place)
        seen = None
        if self.network.has("revision"):
            age = (last - ring) % len(ring)  # [B, P] in utterances; that of the place to be filled next is W
            number = torch.where(age <= last.clamp(max=len(ring) - 2), last - age, EMPTY)
            seen = (inputs["revised_0"][state], inputs["revised_1"][state]), slots, number
        return tuple(logits[:, 0] for logits in self.network.revise(row, slot, index, seen))


class RestoreNetwork(nn.Module):
    """What a state holds of an utterance besides its row: the keys of the revision."""

    outputs = ("keys",)

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: `row` [B, d + C], the end of each utterance's row -> [B, 2d]."""
        return (self.network.revision_keys(inputs["row"]),)


def modules(network: FusionGCN) -> dict[str, StepNetwork | ReviseNetwork | RestoreNetwork]:
    """Each of `model.fusion.step.functions` of a network."""
    every = {"step": StepNetwork, "revise": ReviseNetwork, "restore": RestoreNetwork}
    return {name: every[name](network).eval() for name in functions(network.config)}


def torch_engine(network: FusionGCN) -> ArrayEngine:
    """The network by PyTorch on a CPU, for one without an export."""
    by_name = modules(network)

    @torch.inference_mode()
    def run(name: str, inputs: Arrays) -> Arrays:
        module = by_name[name]
        found = module({name: torch.from_numpy(values) for name, values in inputs.items()})
        return {name: values.numpy() for name, values in zip(module.outputs, found, strict=True)}

    return ArrayEngine(network.config, run)


def step_of(network: FusionGCN) -> FusionStep:
    """A network as it comes from training, for labelling by PyTorch."""
    return FusionStep(network.config, network.weights(), torch_engine(network))
