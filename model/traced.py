"""The network as frozen TorchScript graphs: the same operations, without Python between them.

An utterance's step is a hundred small operations, and calling each of them from Python costs more than most compute.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from model.fusion import FusionGCN, Labels, Past, Utterances

Forward = Callable[[Utterances, Past], Labels]
Revise = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
WARM = 3  # runs after which TorchScript has made its plans


class _Forward(nn.Module):
    """`FusionGCN.forward` on tensors alone, which is what can be traced."""

    def __init__(self, model: FusionGCN) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: list[Tensor], *rest: Tensor) -> tuple[Tensor, ...]:
        present, slot, index, opinions, *past = rest
        named = dict(zip(self.model.config.inputs, features, strict=True))
        labels = self.model(Utterances(named, present, slot, index, opinions), Past(*past))
        return (
            labels.emotion, labels.sentiment, labels.contribution, labels.influence, labels.rows, labels.aligned,
            labels.said,
        )  # fmt: skip


class _Revise(nn.Module):
    def __init__(self, model: FusionGCN) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor, slot: Tensor, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.revise(rows, slot, index, targets)


@torch.inference_mode()
def traced(model: FusionGCN) -> tuple[Forward, Revise]:
    """The model's forward pass for one new utterance of each of B conversations, and its revision of one."""
    config, batch, window = model.config, 2, model.config.window  # two, so that no axis of one is taken for a constant
    features = [torch.zeros(batch, 1, width) for width in config.inputs.values()]
    present = torch.ones(batch, window + 1, len(config.inputs), dtype=torch.bool)
    number = torch.arange(window + 1).repeat(batch, 1)
    opinions = torch.zeros(batch, 1, len(config.experts), len(config.emotions))
    rows = torch.zeros(batch, window, model.row_width)
    new = (present[:, :1], number[:, :1] * 0, number[:, :1] + window, opinions)
    past = (rows, present[:, 1:], number[:, 1:] * 0, number[:, :window])
    forward = _frozen(_Forward(model), (features, *new, *past))
    revise = _frozen(_Revise(model), (rows, past[2], past[3], number[:, :1]))

    def step(utterances: Utterances, before: Past) -> Labels:
        named = [utterances.features[name] for name in config.inputs]
        mine = (utterances.present, utterances.slot, utterances.index, utterances.opinions)
        return Labels(*forward(named, *mine, before.rows, before.present, before.slot, before.index))

    return step, cast(Revise, revise)


def _frozen(module: nn.Module, example: tuple[object, ...]) -> Callable[..., tuple[Tensor, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that never change here
        graph = torch.jit.freeze(torch.jit.trace(module.eval(), example, check_trace=False))
    for _ in range(WARM):
        graph(*example)
    return cast(Callable[..., tuple[Tensor, ...]], graph)
