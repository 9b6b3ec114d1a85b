"""Export of a checkpoint's network to ONNX, which then labels without PyTorch. Needs the extra `train`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.fusion.network import FusionGCN
from model.fusion.onnx_engine import SOURCE, digest
from model.fusion.step import blocks
from model.fusion.step_network import ReviseNetwork, StepNetwork

OPSET = 20  # the first with Gelu as one operator

Inputs = dict[str, torch.Tensor]


def export(network: FusionGCN, folder: Path) -> None:
    """Write `step.onnx` and `revise.onnx` into the checkpoint's folder, in which config.json and the weights lie.

    A network without a revision needs the second all the same: it applies the heads.
    """
    source = digest(folder)
    network = network.eval()
    for name, module in (("step", StepNetwork(network)), ("revise", ReviseNetwork(network))):
        batch, experts = torch.export.Dim("batch", min=1), torch.export.Dim("experts")
        inputs = _examples(network, name)
        shapes: dict[str, dict[int, Any]] = {key: {0: batch} for key in inputs}
        if name == "step":
            shapes |= {"expert_posteriors": {0: batch, 1: experts}}
            shapes |= {key: {0: experts} for key in ("expert_weight", "expert_prior")}
        program = to_onnx(module.eval(), inputs, shapes, module.outputs)
        program.model.metadata_props[SOURCE] = source
        program.save(str(folder / f"{name}.onnx"))


def to_onnx(
    module: nn.Module, inputs: Inputs, shapes: dict[str, dict[int, Any]] | None, outputs: Sequence[str]
) -> torch.onnx.ONNXProgram:
    """The graph of a module that takes tensors by name; shapes: the free axes, by input and axis; None: none."""
    log = logging.getLogger("torch.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself and packages that we do not need
        log.setLevel(logging.ERROR)
        program = torch.onnx.export(
            module, (), kwargs={"inputs": inputs}, input_names=list(inputs), output_names=list(outputs),
            dynamo=True, dynamic_shapes={"inputs": shapes} if shapes else None, opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces of this machine
    return program


def _examples(network: FusionGCN, name: str, batch: int = 2, experts: int = 2) -> Inputs:
    """Inputs of the right kinds; the numbers of conversations and of experts stay free."""
    config = network.config
    window, modalities, classes = config.window, len(config.inputs), len(config.emotions)
    index = torch.full((batch,), window, dtype=torch.int64)
    past: Inputs = {
        "past_slot": torch.zeros(batch, window, dtype=torch.int64),
        "past_index": torch.arange(window).repeat(batch, 1),
    }
    if name == "revise":
        row = torch.randn(batch, config.hidden + classes)
        if not network.has("revision"):
            return {"index": index, "row": row}
        return {"index": index, "row": row, "slot": index * 0, **past, "past_row": row[:, None].repeat(1, window, 1)}
    features = {f"feature_{key}": torch.randn(batch, width) for key, width in config.inputs.items()}
    of_experts = {
        "expert_posteriors": torch.full((batch, experts, classes), 1 / classes),
        "expert_weight": torch.ones(experts),
        "expert_prior": torch.full((experts, classes), 1 / classes),
    }
    each = [nodes for nodes in blocks(config) for _ in range(2)]
    cached = [torch.randn(batch, config.heads, window * nodes, config.hidden // config.heads) for nodes in each]
    known = {f"past_{n}": values for n, values in enumerate(cached)}
    return (
        features | {"present": torch.ones(batch, modalities, dtype=torch.bool), "slot": index * 0, "index": index}
        | of_experts | past | {"past_present": torch.ones(batch, window, modalities, dtype=torch.bool)} | known
    )  # fmt: skip
