"""Configuration of the fusion network. Imports no PyTorch, so that labelling need not load it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from model.encoders.prosody import ProsodyPrior
from model.encoders.text import TextConfig

EMPTY = -1  # index of padding, and of a cache row that holds no utterance yet
CERTAIN_FROM = 0.5  # in place of the fitted probability that checkpoints of older versions lack
MODULES = ("alignment", "gate", "context", "adaptive", "relations", "slots", "revision")
"""Modules that can be left out of the network for comparison (ablation)."""

LIMITS = {"hidden": 16_384, "heads": 256, "layers": 64, "window": 10_000, "slots": 10_000}
"""Upper limits of a configuration's sizes, so that a damaged one is refused instead of filling the memory."""


@dataclass(frozen=True)
class FusionConfig:
    """Architecture of the network; stored as config.json beside the weights. Raises ValueError when it is invalid."""

    label_set: str
    emotions: tuple[str, ...]
    sentiments: tuple[str, ...]
    modalities: tuple[str, ...]
    """Modalities in the order of the modality axis. (Not a mapping: config.json sorts its keys.)"""
    widths: tuple[int, ...]
    """Width of each modality's embedding, in the order of `modalities`."""
    hidden: int = 128
    heads: int = 4
    layers: int = 2
    window: int = 20
    """W: number of earlier utterances that a label may use."""
    revision: int = 2
    """R: number of later utterances that the final label may use."""
    slots: int = 8
    """Number of speaker-slot embeddings, given in order of first appearance; later speakers share the last."""
    dropout: float = 0.3
    without: tuple[str, ...] = ()
    """Names of `MODULES` that are left out."""
    text: TextConfig = field(default_factory=TextConfig)
    """Encoder of the modality "text"."""
    reader: TextConfig | None = None
    """Encoder of the expert "reader", which reads the words in their context; None: there is no such expert."""
    prosody: ProsodyPrior | None = None
    """Prior that normalises the modality "audio", if it is prosody."""
    experts: tuple[str, ...] = ()
    """Encoders with an emotion posterior of their own, pooled with the network's after its heads."""

    @property
    def context(self) -> int:
        """Number of earlier utterances that the text encoders read along."""
        return max(self.text.context, self.reader.context if self.reader else 0)

    def __post_init__(self) -> None:
        # JSON knows neither tuples nor nested dataclasses; this class is read back from config.json.
        def restore(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        restore("emotions", tuple(self.emotions))
        restore("sentiments", tuple(self.sentiments))
        restore("modalities", tuple(self.modalities))
        restore("widths", tuple(self.widths))
        restore("without", tuple(self.without))
        restore("experts", tuple(self.experts))
        for name in ("text", "reader"):
            if isinstance(getattr(self, name), dict):
                restore(name, TextConfig(**getattr(self, name)))
        prior: Any = self.prosody
        if isinstance(prior, dict):
            restore("prosody", ProsodyPrior(**{key: tuple(values) for key, values in prior.items()}))
        for name, largest in LIMITS.items():
            if type(getattr(self, name)) is not int or not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be a whole number from 0 to {largest}, not {getattr(self, name)!r}")
        if not 0 <= self.revision < self.window:
            raise ValueError(f"revision must lie in 0 … window - 1, not {self.revision} of {self.window}")
        if strangers := set(self.without) - set(MODULES):
            raise ValueError(f"no module {', '.join(sorted(strangers))}; there are {', '.join(MODULES)}")

    @cached_property
    def inputs(self) -> dict[str, int]:
        """Width by modality, in the order of the modality axis."""
        return dict(zip(self.modalities, self.widths, strict=True))
