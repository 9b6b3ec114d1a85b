"""A small fusion network's configuration, and random conversations for it."""

from __future__ import annotations

import numpy as np

from model.fusion.config import FusionConfig
from model.fusion.dialogue import UtteranceFeatures

CONFIG = FusionConfig(
    "meld",
    ("neutral", "joy", "anger"),
    ("negative", "neutral", "positive"),
    ("text", "audio", "visual"),
    (12, 6, 5),
    hidden=16,
    heads=2,
    window=6,
    revision=2,
    experts=("voice", "face"),
)


def conversation(seed: int, length: int) -> list[UtteranceFeatures]:
    rng = np.random.default_rng(seed)
    heard = []
    for _ in range(length):
        kept = [name for name in CONFIG.inputs if rng.random() > 0.25]
        features = {name: rng.normal(size=CONFIG.inputs[name]).astype(np.float32) for name in kept}
        said = [name for name in CONFIG.experts if rng.random() > 0.5]
        opinions = {name: rng.dirichlet(np.ones(3)).astype(np.float32) for name in said}
        heard.append(UtteranceFeatures(features, int(rng.integers(3)), opinions))
    return heard
