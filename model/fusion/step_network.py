"""`FusionGCN` as functions of flat tensors, for one new utterance of each conversation: what is exported, and what
PyTorch runs where there is no export.

Shapes: B conversations of S states, M modalities, E experts, C emotions, P = W + 1 places, d hidden width, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.fusion.config import EMPTY, FusionConfig
from model.fusion.layers import KeyValue, by_head
from model.fusion.network import FusionGCN, InSight, Labels, Utterances
from model.fusion.step import ArrayEngine, Arrays, FusionStep, blocks, functions, places


class StepNetwork(nn.Module):
    """The provisional label of an utterance, what it leaves, and the final label of the utterance R before it."""

    def __init__(self, network: FusionGCN, in_place: bool = False) -> None:
        """in_place: it writes what the utterance leaves into the states itself (`row` alone has to be returned)."""
        super().__init__()
        self.network, self.in_place = network, in_place
        provisional = ("emotion", "sentiment", "contribution", "influence", "expert_logits")
        left = ("row", "keys") if network.has("revision") and not in_place else ("row",)
        self.outputs = (*provisional, "final_emotion", "final_sentiment", *left)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """inputs: all states [S, ...] (`model.fusion.step.shapes`); `state` [B] int64, the numbers of those of these
        conversations; `feature_NAME` [B, D_m] of each modality, `present` [B, M] bool, `slot` and `index` [B] int64,
        `expert_posteriors` [B, E, C], `expert_weight` [E], `expert_prior` [E, C] -> by `outputs`: [B, C], [B, S],
        [B, M], [B, K], [B, E, C]; of the utterance R before, if there is one, [B, C] and [B, S]; the row [B, n] and
        the revision's keys [B, 2d], as `model.fusion.step.write_rows` reads them.
        """
        network, config, state = self.network, self.network.config, inputs["state"]
        index, slot = inputs["index"][:, None], inputs["slot"][:, None]
        utterances = Utterances(
            {name: inputs[f"feature_{name}"][:, None] for name in config.inputs},
            *(inputs[name][:, None] for name in ("present", "slot", "index", "expert_posteriors")),
            experts=(inputs["expert_weight"], inputs["expert_prior"]),
        )
        seen = in_place(inputs, config) if self.in_place else beside(inputs, config)
        labels: Labels = network(utterances, in_sight=seen)
        before = index - config.revision
        place = before % places(config)
        row_before, slot_before = labels.rows, slot
        if config.revision:
            row_before = inputs["past_row"][state[:, None], place]
            slot_before = inputs["past_slot"][state[:, None], place]
        left, revised = [torch.cat([*(keys.flatten(1) for keys in labels.keys), labels.rows[:, 0]], -1)], None
        if network.has("revision"):
            new = network.revision_keys(labels.rows)
            left.append(new[:, 0])
            revised = seen.keys(len(blocks(config)), by_head(new, config.heads)), seen.slot, seen.index
        final = network.revise(row_before, slot_before, before, revised)
        if self.in_place:
            inputs["past_row"][state, inputs["index"] % places(config)] = labels.rows[:, 0]
            left = left[:1]
        each = (labels.emotion, labels.sentiment, labels.contribution, labels.influence, labels.expert_logits, *final)
        return *(values[:, 0] for values in each), *left


def _rings(n: int, config: FusionConfig) -> tuple[str, str]:
    """Names of the n-th keys and values of a state; the last are those of the revision."""
    return ("revised_0", "revised_1") if n == len(blocks(config)) else (f"past_{2 * n}", f"past_{2 * n + 1}")


def beside(inputs: dict[str, Tensor], config: FusionConfig) -> InSight:
    """[B, K]: the utterances before, and the new one last, K = P + 1; the states stay as they are. inputs: as of
    `StepNetwork.forward`."""
    state = inputs["state"]

    def keys(n: int, own: KeyValue) -> KeyValue:
        past = (inputs[name].index_select(0, state) for name in _rings(n, config))
        key, value = (torch.cat(both, 2) for both in zip(past, own, strict=True))
        return key, value

    def joined(name: str, own: Tensor) -> Tensor:
        return torch.cat([inputs[name].index_select(0, state), own[:, None]], 1)

    present, slot = joined("past_present", inputs["present"]), joined("past_slot", inputs["slot"])
    index = torch.cat([_numbers(inputs["index"], config), inputs["index"][:, None]], 1)
    return InSight(keys, present, slot, index)


def in_place(inputs: dict[str, Tensor], config: FusionConfig) -> InSight:
    """The new utterance in its place among those before, K = P: less to copy, where the states may be written to.
    inputs: as of `StepNetwork.forward`; those of the states [S, …] are changed."""
    state, ring = inputs["state"], places(config)
    place = inputs["index"] % ring

    def keys(n: int, own: KeyValue) -> KeyValue:
        for name, new in zip(_rings(n, config), own, strict=True):
            size, heads, _, width = inputs[name].shape
            inputs[name].view(size, heads, ring, -1, width)[state, :, place] = new
        key, value = (inputs[name].index_select(0, state) for name in _rings(n, config))
        return key, value

    def joined(name: str, own: Tensor) -> Tensor:
        inputs[name][state, place] = own
        return inputs[name].index_select(0, state)

    present, slot = joined("past_present", inputs["present"]), joined("past_slot", inputs["slot"])
    own = torch.arange(ring, device=state.device) == place[:, None]
    return InSight(keys, present, slot, torch.where(own, inputs["index"][:, None], _numbers(inputs["index"], config)))


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
            key, value = (
                inputs[name].index_select(0, state) for name in _rings(len(blocks(network.config)), network.config)
            )
            seen = (key, value), slots, _numbers(inputs["count"], network.config)
        return tuple(logits[:, 0] for logits in network.revise(row, slot, index, seen))


def _numbers(count: Tensor, config: FusionConfig) -> Tensor:
    """Number of the utterance in each place of the ring of conversations with `count` [B] utterances, EMPTY for none
    and for one that no label sees any more: [B, P]."""
    ring = torch.arange(places(config), device=count.device)
    age = (count[:, None] - 1 - ring) % len(ring) + 1  # 1 for the last; that of the place to be filled next is P
    return torch.where(age <= count[:, None].clamp(max=config.window), count[:, None] - age, EMPTY)


class RestoreNetwork(nn.Module):
    """Keys of the revision, which a state holds of an utterance besides its row."""

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
