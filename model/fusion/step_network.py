"""`FusionGCN` as functions of flat tensors, for one new utterance of each conversation: what is exported, and what
PyTorch runs where there is no export.

Shapes: B conversations of S states, M modalities, E experts, C emotions, P = W + 1 places, d hidden width, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.fusion.config import EMPTY, FusionConfig
from model.fusion.layers import KeyValue, by_head, joined
from model.fusion.network import FusionGCN, Labels, Past, Utterances
from model.fusion.step import ArrayEngine, Arrays, FusionStep, blocks, functions, places


class StepNetwork(nn.Module):
    """The provisional label of an utterance, what it leaves, and the final label of the utterance R before it."""

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network
        provisional = ("emotion", "sentiment", "contribution", "influence", "expert_logits")
        left = ("row", "keys") if network.has("revision") else ("row",)
        self.outputs = (*provisional, "final_emotion", "final_sentiment", *left)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: all states [S, ...] (`model.fusion.step.shapes`); `state` [B] int64, the numbers of those of these
        conversations; `feature_NAME` [B, D_m] of each modality, `present` [B, M] bool, `slot` and `index` [B] int64,
        `expert_posteriors` [B, E, C], `expert_weight` [E], `expert_prior` [E, C] -> by `outputs`: [B, C], [B, S],
        [B, M], [B, P + 1], [B, E, C]; of the utterance R before, if there is one, [B, C] and [B, S]; the row [B, n] and
        the revision's keys [B, 2d], as `model.fusion.step.write_rows` reads them.
        """
        network, config, state = self.network, self.network.config, inputs["state"]
        index, slot = inputs["index"][:, None], inputs["slot"][:, None]
        past_slot = inputs["past_slot"].index_select(0, state)
        number = _numbers(inputs["index"], config)
        utterances = Utterances(
            {name: inputs[f"feature_{name}"][:, None] for name in config.inputs},
            *(inputs[name][:, None] for name in ("present", "slot", "index", "expert_posteriors")),
            experts=(inputs["expert_weight"], inputs["expert_prior"]),
        )
        keys = [_keys(inputs, f"past_{2 * n}", f"past_{2 * n + 1}") for n in range(len(blocks(config)))]
        labels: Labels = network(
            utterances, past=Past(keys, inputs["past_present"].index_select(0, state), past_slot, number)
        )
        each = (labels.emotion, labels.sentiment, labels.contribution, labels.influence, labels.expert_logits)
        before = index - config.revision
        place = before % number.shape[1]
        row_before, slot_before = labels.rows, slot
        if config.revision:
            row_before, slot_before = inputs["past_row"][state[:, None], place], past_slot.gather(1, place)
        left, seen = [torch.cat([*(keys.flatten(1) for keys in labels.keys), labels.rows[:, 0]], -1)], None
        if network.has("revision"):
            new = network.revision_keys(labels.rows)
            left.append(new[:, 0])
            revised = joined(_keys(inputs, "revised_0", "revised_1"), by_head(new, config.heads))
            seen = revised, torch.cat([past_slot, slot], 1), torch.cat([number, index], 1)
        final = network.revise(row_before, slot_before, before, seen)
        return *(values[:, 0] for values in (*each, *final)), *left


class ReviseNetwork(nn.Module):
    """The final label of an utterance, from all that has been heard up to now."""

    outputs = ("emotion", "sentiment")

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: all states, `past_row`, `past_slot` and `revised_N` [S, ...] (`model.fusion.step.shapes`); `state`
        [B] int64, the numbers of those of these conversations, `count` [B] of their utterances, `index` [B] of that in
        question -> logits [B, C], [B, S].
        """
        network, state, index = self.network, inputs["state"], inputs["index"][:, None]
        slots = inputs["past_slot"].index_select(0, state)
        place = index % slots.shape[1]
        row, slot = inputs["past_row"][state[:, None], place], slots.gather(1, place)
        seen = None
        if network.has("revision"):
            seen = _keys(inputs, "revised_0", "revised_1"), slots, _numbers(inputs["count"], network.config)
        return tuple(logits[:, 0] for logits in network.revise(row, slot, index, seen))


def _keys(inputs: dict[str, Tensor], key: str, value: str) -> KeyValue:
    """Cached keys and values of these conversations, [B, H, K, h]."""
    return inputs[key].index_select(0, inputs["state"]), inputs[value].index_select(0, inputs["state"])


def _numbers(count: Tensor, config: FusionConfig) -> Tensor:
    """Number of the utterance in each place of the ring of conversations with `count` [B] utterances, EMPTY for none
    and for one that no label sees any more: [B, P]."""
    ring = torch.arange(places(config), device=count.device)
    age = (count[:, None] - 1 - ring) % len(ring) + 1  # 1 for the last; that of the place to be filled next is P
    return torch.where(age <= count[:, None].clamp(max=config.window), count[:, None] - age, EMPTY)


class RestoreNetwork(nn.Module):
    """What a state holds of an utterance besides its row: the keys of the revision."""

    outputs = ("keys",)

    def __init__(self, network: FusionGCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: `row` [B, d + C], the end of each utterance's row -> [B, 2d]."""
        return (self.network.revision_keys(inputs["row"]),)


def modules(network: FusionGCN) -> dict[str, Any]:
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
