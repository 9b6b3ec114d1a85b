"""Checkpoints: a folder with config.json, model.safetensors and a model card, in Hugging Face's layout.

Tuned text encoders, where there are any, are PEFT folders inside it: `adapter` and `reader` (`model.encoders.text`).
`seeds` has the weights of the run's other seeds, for intervals over seeds, and the readers of other seeds, which teach;
they are never served.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from model.device import Device
from model.encoders.text import Tuned
from model.errors import InputError
from model.fusion.config import FusionConfig
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.onnx_engine import OnnxEngine, digest
from model.fusion.step import Engine, FusionStep, functions

if TYPE_CHECKING:  # labelling alone needs no PyTorch
    from model.fusion.network import FusionGCN

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "checkpoints"
EXPERTS = "experts.json"
IDENTITY_DIGITS = 12  # hexadecimal; two checkpoints of one name seldom meet


class CheckpointError(InputError):
    """A checkpoint that cannot be used; the message is one line for the user."""


def resolve(name: str) -> Path:
    """The folder of a checkpoint: a path, or the name of one that is shipped ("meld"). Raises CheckpointError."""
    for folder in (Path(name), SHIPPED / name):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    names = ", ".join(shipped())
    raise CheckpointError(
        f"no checkpoint {name!r}: neither a folder with config.json and model.safetensors nor shipped ({names})"
    )


def identity(name: str) -> str:
    """A checkpoint's name and the beginning of the SHA-256 of what is served of it, as "meld@0123456789ab": equal on
    all machines, and without the folder that it lies in. Raises CheckpointError."""
    folder, digest = resolve(name).resolve(), hashlib.sha256()
    parts = (folder / "config.json", folder / "model.safetensors", folder / EXPERTS)
    tuned = (path for part in Tuned._fields for path in sorted((folder / part).glob("*")))
    for path in (path for path in (*parts, *tuned) if path.is_file()):
        with path.open("rb") as file:
            digest.update(str(path.relative_to(folder)).encode() + hashlib.file_digest(file, "sha256").digest())
    return f"{folder.name}@{digest.hexdigest()[:IDENTITY_DIGITS]}"


def shipped() -> list[str]:
    """The names of the checkpoints in the package."""
    return sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) if SHIPPED.exists() else []


def load_checkpoint(name: str) -> FusionGCN:
    """Load a checkpoint's network as it was trained. Only safetensors are read. Raises CheckpointError."""
    from model.fusion.network import FusionGCN

    folder = resolve(name)
    try:
        _configuration(folder)
        # huggingface_hub prints that the weights are local, to a stdout that carries our events.
        with contextlib.redirect_stdout(io.StringIO()):
            model: FusionGCN = FusionGCN.from_pretrained(str(folder), strict=True)
    except Exception as error:
        raise _unusable(folder, error) from None
    return model.eval()


def networks_of(name: str) -> list[FusionGCN]:
    """The network of a checkpoint, and those of its other seeds where it has them. Raises CheckpointError."""
    import torch

    from model.fusion.network import FusionGCN

    networks = [load_checkpoint(name)]
    for file in sorted((resolve(name) / "seeds").glob("*.safetensors")):
        other = FusionGCN(networks[0].config)
        weights = load_file(file)
        other.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()})
        networks.append(other.eval())
    return networks


def load_step(name: str, device: Device = "cpu") -> FusionStep:
    """Load a checkpoint for labelling, together with the voice and face experts that its experts.json names.

    That file maps each expert to its fitted "weight" and its "prior" by emotion. Raises CheckpointError, also where the
    device cannot be used.
    """
    folder = resolve(name)
    try:
        config = _configuration(folder)
        weights = load_file(folder / "model.safetensors")
        weights = {name: values.astype(np.float32) for name, values in weights.items()}
        if fitted := _fitted(folder):
            config, weights = _with_experts(config, weights, fitted)
        step = FusionStep(config, weights, _engine(config, folder, device))
        # Fails now, and not at the first utterance, if other weights have wrong shapes.
        step.step([step.new_state()], [UtteranceFeatures({}, 0)])
    except Exception as error:
        raise _unusable(folder, error) from None
    return step


def load_config(name: str) -> FusionConfig:
    """A checkpoint's configuration, with the experts that its experts.json joins. Raises CheckpointError."""
    folder = resolve(name)
    try:
        config = _configuration(folder)
        return replace(config, experts=(*config.experts, *_fitted(folder)))
    except Exception as error:
        raise _unusable(folder, error) from None


def _engine(config: FusionConfig, folder: Path, device: Device) -> Engine:
    """PyTorch on a GPU; on a CPU ONNX Runtime where the checkpoint carries an export of just these weights."""
    if device == "cuda":
        from model.fusion.device_engine import DeviceEngine

        return DeviceEngine(load_checkpoint(str(folder)), config, device)
    if all((folder / f"{name}.onnx").is_file() for name in functions(config)):
        engine = OnnxEngine(config, folder)
        if engine.source() == {digest(folder)}:
            return engine
        log.warning("%s: its ONNX graphs are of other weights: `undertone models export` makes them anew", folder)
    from model.fusion.step_network import torch_engine

    return torch_engine(load_checkpoint(str(folder)))


def _fitted(folder: Path) -> dict[str, dict[str, Any]]:
    """Contents of experts.json, by expert; empty without one."""
    path = folder / EXPERTS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _configuration(folder: Path) -> FusionConfig:
    """Read config.json and compare it with the shapes of the weights, before a network of any size is built.

    Raises ValueError when they do not fit.
    """
    config = FusionConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    shapes = {f"projection.{name}.1.weight": [config.hidden, width] for name, width in config.inputs.items()}
    shapes["slot.weight"] = [config.slots, config.hidden]
    with safe_open(folder / "model.safetensors", "np") as weights:
        for name, shape in shapes.items():
            if (found := weights.get_slice(name).get_shape()) != shape:
                raise ValueError(f"{name} is {found}, and the configuration says {shape}")
    return config


Weights = dict[str, NDArray[np.float32]]


def _with_experts(
    config: FusionConfig, weights: Weights, fitted: dict[str, dict[str, Any]]
) -> tuple[FusionConfig, Weights]:
    """Add experts whose weight and prior (by emotion) were fitted after training (`model.fusion.experts`)."""
    priors = [[expert["prior"][emotion] for emotion in config.emotions] for expert in fitted.values()]
    weight = np.append(weights["expert_weight"], [expert["weight"] for expert in fitted.values()])
    prior = np.concatenate([weights["expert_prior"], np.reshape(priors, (-1, len(config.emotions)))])
    joined = {"expert_weight": weight.astype(np.float32), "expert_prior": prior.astype(np.float32)}
    return replace(config, experts=(*config.experts, *fitted)), weights | joined


def _unusable(folder: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(f"{folder}: not a checkpoint of this version ({reason})")


def tuned_of(name: str) -> Tuned:
    """The tuned encoders of a checkpoint. Raises CheckpointError."""
    folders = (resolve(name) / part for part in Tuned._fields)
    return Tuned(*(folder if (folder / "adapter_model.safetensors").is_file() else None for folder in folders))


def save_checkpoint(model: FusionGCN, folder: Path, card: str, metrics: dict[str, object]) -> None:
    """Write weights, configuration, metrics.json and the model card."""
    model.save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
