"""Checkpoints: a folder with config.json, model.safetensors and a model card, in Hugging Face's layout.

The tuned encoders of the words, where there are any, are PEFT folders within: `adapter` and `reader` (`model.text`).
`seeds` has the weights of the run's other seeds, for intervals; they are never served.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

from model.fusion import FusionGCN
from model.text import Tuned

SHIPPED = Path(__file__).parent / "checkpoints"
EXPERTS = "experts.json"


class CheckpointError(Exception):
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


def shipped() -> list[str]:
    """The names of the checkpoints in the package."""
    return sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) if SHIPPED.exists() else []


def load_checkpoint(name: str) -> FusionGCN:
    """Load a checkpoint for labelling. Only safetensors are read. Raises CheckpointError."""
    folder = resolve(name)
    try:
        # huggingface_hub prints that the weights are local, to a stdout that carries our events.
        with contextlib.redirect_stdout(io.StringIO()):
            model: FusionGCN = FusionGCN.from_pretrained(str(folder), strict=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: not a checkpoint of this version ({reason})") from None
    return model.eval()


def load_with_media(name: str) -> FusionGCN:
    """A checkpoint with the experts for voice and face that its experts.json names, as live sessions use it.

    The file has, by expert, the fitted "weight" and the "prior" by emotion. Raises CheckpointError.
    """
    model, path = load_checkpoint(name), resolve(name) / EXPERTS
    if path.is_file():
        try:
            for expert, fitted in json.loads(path.read_text(encoding="utf-8")).items():
                model.join(expert, fitted["weight"], fitted["prior"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: not a file of experts ({type(error).__name__}: {error})") from None
    return model


def tuned_of(name: str) -> Tuned:
    """The tuned encoders that come with a checkpoint."""
    folders = (resolve(name) / part for part in Tuned._fields)
    return Tuned(*(folder if (folder / "adapter_model.safetensors").is_file() else None for folder in folders))


def save_checkpoint(model: FusionGCN, folder: Path, card: str, metrics: dict[str, object]) -> None:
    """Write weights, configuration, metrics.json and the model card."""
    model.save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
