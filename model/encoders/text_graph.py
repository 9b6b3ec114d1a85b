"""MiniLM and MPNet by ONNX Runtime: a graph without weights, to which those of the model's own file are bound when it
is loaded, with a LoRA adapter merged and, for the graph of integers, quantized. Imports neither PyTorch nor
`transformers`.

The graphs are made by `model.training.export_text`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Array = NDArray[np.float32]

FOLDER = Path(__file__).parent / "weights" / "text"
ARCHITECTURES = {"all-MiniLM-L6-v2": "minilm", "all-mpnet-base-v2": "mpnet"}
"""Name of the graph of each model of the manifest that has one; MiniLM has one of integers, too."""
TRANSPOSED = ".T"
LARGEST = 63  # of a weight: two products with 8 bits fit into 16, as processors without VNNI add them
PLAIN_LORA = {"peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False}


def graph_file(architecture: str, integers: bool) -> str:
    """Name of a graph's file."""
    return f"{architecture}{'.int8' if integers else ''}.onnx"


class TextGraph:
    """Token means of the hidden layers. Thread-safe."""

    def __init__(self, folder: Path, adapter: Path | None, integers: bool, architecture: str = "minilm") -> None:
        """folder: of the model; adapter: a PEFT folder. integers: products of 8 bits (weights by channel, activations
        as they come), three times as fast. Raises ValueError for an adapter that is not a plain LoRA."""
        import onnxruntime  # sessions use names of `model.encoders.text` without it

        from model.encoders.onnx_session import options_of_one_thread, session_of

        weights: dict[str, Array] = load_file(folder / "model.safetensors")
        if adapter is not None:
            weights |= _merged(weights, adapter)
        options = options_of_one_thread()
        self._bound = _bindings(weights, integers)  # ONNX Runtime reads them where they are
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in self._bound.values()]
        options.add_external_initializers(list(self._bound), values)
        self._session = session_of(FOLDER / graph_file(architecture, integers), options)
        self._inputs = {given.name for given in self._session.get_inputs()}

    def __call__(self, inputs: dict[str, NDArray[np.int64]], pool: NDArray[np.bool_]) -> Array:
        """Token ids, attention mask and types [n, L], mask of the tokens that count [n, L] -> [n, layers, width]."""
        known = {name: values for name, values in inputs.items() if name in self._inputs}  # MPNet has no types
        found: Array = self._session.run(None, {**known, "pool": pool})[0]
        return found


def _merged(weights: dict[str, Array], adapter: Path) -> dict[str, Array]:
    """The matrices that an adapter changes: W + alpha / r · B A (Hu et al. 2021, arXiv 2106.09685)."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if other := [name for name, value in PLAIN_LORA.items() if config.get(name) != value] or config["rank_pattern"]:
        raise ValueError(f"{adapter}: not a plain LoRA ({', '.join(other)})")
    low_rank = load_file(adapter / "adapter_model.safetensors")
    merged = {}
    for name in (name for name in low_rank if name.endswith("lora_A.weight")):
        matrix = re.sub(r"^base_model\.model\.(.*)\.lora_A\.weight$", r"\1.weight", name)
        update = low_rank[name.replace("lora_A", "lora_B")] @ low_rank[name]
        merged[matrix] = weights[matrix] + np.float32(config["lora_alpha"] / config["r"]) * update
    return merged


def _bindings(weights: dict[str, Array], integers: bool) -> dict[str, NDArray[np.generic]]:
    """Values of a graph's constants by name."""
    bound: dict[str, NDArray[np.generic]] = {}
    for name, values in weights.items():
        if name.startswith("pooler.") or name == "embeddings.position_ids":
            continue
        if not re.fullmatch(r"encoder\.layer\..*\.weight", name) or values.ndim != 2:
            bound[name] = values
        elif not integers:
            bound[name + TRANSPOSED] = np.ascontiguousarray(values.T)
        else:
            scale = np.maximum(np.abs(values).max(1) / LARGEST, 1e-12).astype(np.float32)  # by output channel
            bound[name + TRANSPOSED + "_quantized"] = np.ascontiguousarray(
                np.rint(values / scale[:, None]).astype(np.int8).T
            )
            bound[name + TRANSPOSED + "_scale"] = scale
            bound[name + TRANSPOSED + "_zero_point"] = np.zeros(len(scale), np.int8)
    return bound
