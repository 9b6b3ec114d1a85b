"""The graphs of MiniLM's and MPNet's architectures in model/encoders/weights/text, without weights: `python -m
model.training.export_text`. Needs the extra `train`, and no weights: those are bound when a graph is loaded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import external_data_helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

from model.encoders.text_graph import TRANSPOSED, graph_file
from model.fusion.export import to_onnx

MODELS = {
    "minilm": (
        BertModel,
        BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
    ),
    "mpnet": (MPNetModel, MPNetConfig(vocab_size=30527, max_position_embeddings=514, layer_norm_eps=1e-5)),
}


class _Layers(nn.Module):
    """Token means of every hidden layer."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        kind, config = MODELS[architecture]
        self.encoder = kind._from_config(config, attn_implementation="eager", add_pooling_layer=False)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor]:
        pool = inputs.pop("pool").float()
        hidden = self.encoder(**inputs, output_hidden_states=True).hidden_states
        share = (pool / pool.sum(1, keepdim=True))[:, None]  # [n, 1, L]
        return (torch.cat([share @ states for states in hidden], 1),)


def export_text(folder: Path, architecture: str) -> list[Path]:
    """Write the graph of an architecture, and for MiniLM that of integers; returns the files."""
    torch.manual_seed(0)
    module, batch, tokens = _Layers(architecture).eval(), torch.export.Dim("batch"), torch.export.Dim("tokens")
    for parameter in module.parameters():
        nn.init.normal_(parameter)  # equal ones would be merged
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if architecture == "minilm" else [])]
    inputs = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    inputs["pool"] = torch.ones(2, 16, dtype=torch.bool)
    program = to_onnx(module, inputs, {name: {0: batch, 1: tokens} for name in inputs}, ["layers"])
    folder.mkdir(parents=True, exist_ok=True)
    kinds = (False, True) if architecture == "minilm" else (False,)
    files = [folder / graph_file(architecture, integers) for integers in kinds]
    with tempfile.TemporaryDirectory() as work:
        whole, quantized = Path(work) / "whole.onnx", Path(work) / "quantized.onnx"
        program.save(str(whole))
        graph = onnx.load(whole)
        _name_weights(graph, module)
        onnx.save(graph, whole)
        if True in kinds:
            quantize_dynamic(
                whole, quantized, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True
            )
        for path, file in zip((whole, quantized), files, strict=False):
            graph = onnx.load(path)
            _empty(graph, module)
            onnx.save(graph, file)
    return files


def _name_weights(graph: onnx.ModelProto, module: _Layers) -> None:
    """Matrices are called as in the model's file, with `TRANSPOSED` behind it, as the exporter has turned them."""
    matrices = {name: values.numpy() for name, values in module.encoder.state_dict().items() if values.ndim == 2}
    renamed = {}
    for initializer in graph.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.ndim == 2 and not initializer.name.startswith("encoder."):
            found = [n for n, m in matrices.items() if m.T.shape == values.shape and np.array_equal(m.T, values)]
            renamed[initializer.name] = found[0] + TRANSPOSED
        elif initializer.name.startswith("encoder."):
            renamed[initializer.name] = initializer.name.removeprefix("encoder.")
    for initializer in graph.graph.initializer:
        initializer.name = renamed.get(initializer.name, initializer.name)
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _empty(graph: onnx.ModelProto, module: _Layers) -> None:
    """Take the values of the weights away."""
    weights = tuple(name.removeprefix("encoder.") for name, _ in module.named_parameters())
    for initializer in graph.graph.initializer:
        if initializer.name.startswith(weights):
            initializer.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(initializer), initializer.name))
            external_data_helper.set_external_data(initializer, location="bound when it is loaded")
            initializer.ClearField("raw_data")


if __name__ == "__main__":
    for architecture in MODELS:
        for path in export_text(Path(__file__).parents[1] / "encoders" / "weights" / "text", architecture):
            print(path)
