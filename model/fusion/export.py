"""Export of a checkpoint's network to ONNX, which then labels without PyTorch. Needs the extra `train`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model.fusion.network import FusionGCN
from model.fusion.onnx_engine import SOURCE, digest
from model.fusion.step import shapes
from model.fusion.step_network import modules

OPSET = 20  # the first with Gelu as one operator

Inputs = dict[str, torch.Tensor]


def export(network: FusionGCN, folder: Path) -> list[Path]:
    """Write the graph of each of `model.fusion.step.functions` into a checkpoint's folder, beside config.json and the
    weights; returns the files."""
    source, written = digest(folder), list[Path]()
    network = network.eval()
    for name, module in modules(network).items():
        axes = {axis: torch.export.Dim(axis) for axis in ("batch", "states", "experts")}
        inputs = _examples(network, name)
        free: dict[str, dict[int, Any]] = {
            key: {0: axes["states" if key.startswith(("past_", "revised_")) else "batch"]} for key in inputs
        }
        if name == "step":
            free |= {"expert_posteriors": {0: axes["batch"], 1: axes["experts"]}}
            free |= {key: {0: axes["experts"]} for key in ("expert_weight", "expert_prior")}
        program = to_onnx(module.eval(), inputs, free, module.outputs)
        program.model.metadata_props[SOURCE] = source
        written.append(folder / f"{name}.onnx")
        program.save(str(written[-1]))
    return written


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


def _examples(network: FusionGCN, name: str, batch: int = 2, states: int = 3, experts: int = 2) -> Inputs:
    """Inputs of the right kinds; the numbers of conversations, of states and of experts stay free."""
    config = network.config
    modalities, classes = len(config.inputs), len(config.emotions)
    index = torch.full((batch,), config.window, dtype=torch.int64)
    past = {name: torch.from_numpy(np.zeros((states, *shape), kind)) for name, (shape, kind) in shapes(config).items()}
    numbers: Inputs = {"state": torch.arange(batch), "index": index}
    of_revision = {key: values for key, values in past.items() if key.startswith("revised_")}
    if name == "restore":
        return {"row": torch.randn(batch, config.hidden + classes)}
    if name == "revise":
        return numbers | {"count": index + 1} | of_revision | {key: past[key] for key in ("past_row", "past_slot")}
    features = {f"feature_{key}": torch.randn(batch, width) for key, width in config.inputs.items()}
    of_experts = {
        "expert_posteriors": torch.full((batch, experts, classes), 1 / classes),
        "expert_weight": torch.ones(experts),
        "expert_prior": torch.full((experts, classes), 1 / classes),
    }
    present = torch.ones(batch, modalities, dtype=torch.bool)
    return numbers | features | of_experts | {"present": present, "slot": index * 0} | past
