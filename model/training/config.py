"""Configuration files of training runs: model/configs/*.toml, or the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError, with_config

from model.encoders.text import TextConfig
from model.errors import InputError
from model.fusion.config import MODULES
from model.training.adapt import AdapterRecipe
from model.training.teaching import Teaching
from model.training.train import Recipe

CONFIGS = Path(__file__).parents[1] / "configs"
LEFT_OUT = (*MODULES, "coarse", "consistency", "alignment_loss", "noise", "prosody", "experts", "tuning", "teacher")
"""Values of `--without`: the network's modules, and parts of training."""


class ConfigError(InputError, ValueError):
    """An invalid configuration."""


@with_config(extra="forbid")
@dataclass(frozen=True)
class Network:
    """The fusion-GCN's size; see `model.fusion.config.FusionConfig`."""

    hidden: int = 128
    heads: int = 4
    layers: int = 2
    window: int = 20
    revision: int = 2
    slots: int = 8
    dropout: float = 0.3


@with_config(extra="forbid")
@dataclass(frozen=True)
class TrainingConfig:
    """All settings of a training run, without the data."""

    data: str
    """Folder with train.csv and dev.csv; a relative path is below $UNDERTONE_DATA."""
    seeds: int = 5
    modalities: tuple[str, ...] = ("text", "audio")
    text: TextConfig = field(default_factory=TextConfig)
    """Encoder of the modality "text"."""
    reader: TextConfig | None = None
    """Encoder of the expert "reader", which reads the words in context; None: there is no such expert."""
    adapter: AdapterRecipe | None = None
    """Recipe that tunes both encoders; None: no tuning, and no reader."""
    teacher: Teaching | None = None
    """Checkpoints that teach the expert "reader" and the graph; None: they learn from labels alone."""
    network: Network = field(default_factory=Network)
    recipe: Recipe = field(default_factory=Recipe)
    without: tuple[str, ...] = ()
    """Modules of the network that are left out."""


def load_config(name: str) -> TrainingConfig:
    """Load a TOML file, or a shipped configuration by its name. Raises ConfigError."""
    file = CONFIGS / f"{name}.toml" if (CONFIGS / f"{name}.toml").is_file() else Path(name)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        config: TrainingConfig = TypeAdapter(TrainingConfig).validate_python(values)
        return config
    except FileNotFoundError:
        shipped = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.toml")))
        raise ConfigError(f"no configuration {name!r}: neither a file nor one of {shipped}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML ({error})") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def leave_out(config: TrainingConfig, parts: Sequence[str]) -> TrainingConfig:
    """The same run without `parts`, names of `LEFT_OUT` (ablation). Raises ConfigError."""
    if strangers := set(parts) - set(LEFT_OUT):
        raise ConfigError(f"cannot leave out {', '.join(sorted(strangers))}; there are {', '.join(LEFT_OUT)}")
    recipe = config.recipe
    if "coarse" in parts:  # the consistency loss needs the coarse head
        recipe = replace(recipe, sentiment_weight=0.0, consistency_weight=0.0)
    if "consistency" in parts:
        recipe = replace(recipe, consistency_weight=0.0)
    if "alignment_loss" in parts:
        recipe = replace(recipe, alignment_weight=0.0)
    if "noise" in parts:
        recipe = replace(recipe, noise_share=0.0, rewritten_share=0.0)
    adapter = None if "tuning" in parts else config.adapter
    if adapter is not None and "teacher" in parts:
        adapter = replace(adapter, sentence_teachers=())
    modalities = tuple(name for name in config.modalities if not (name == "audio" and "prosody" in parts))
    return replace(
        config,
        recipe=recipe,
        modalities=modalities,
        reader=None if {"tuning", "experts"} & set(parts) else config.reader,
        adapter=adapter,
        teacher=None if "teacher" in parts else config.teacher,
        without=(*config.without, *(part for part in parts if part in MODULES)),
    )
