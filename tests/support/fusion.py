"""A small fusion network's configuration, and random conversations for it."""

from __future__ import annotations

import numpy as np
import torch

from model.fusion.config import FusionConfig
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.incremental import Prediction
from model.fusion.network import FusionGCN

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


def close(one: Prediction | None, other: Prediction | None) -> bool:
    """True if two engines say the same, to 1e-5 of a probability."""
    if one is None or other is None:
        return one is other
    names = one.emotion.keys() | one.sentiment.keys()
    mine, theirs = ({**each.emotion, **each.sentiment} for each in (one, other))
    same = all(abs(mine[name] - theirs[name]) < 1e-5 for name in names)
    return same and all(abs(share - other.contribution[name]) < 1e-4 for name, share in one.contribution.items())


def random_network(config: FusionConfig) -> FusionGCN:
    """A network of random weights, in which no bias, relation or expert is without effect."""
    torch.manual_seed(3)
    network = FusionGCN(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.expert_weight.copy_(torch.tensor([0.4, 0.2]))
    network.expert_prior.copy_(torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]))
    network.revision_temperature.fill_(0.8)
    return network
