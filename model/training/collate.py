"""Padding of conversations to one batch."""

from __future__ import annotations

import torch

from model.fusion.config import EMPTY, FusionConfig
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.network import Utterances


def collate(conversations: list[list[UtteranceFeatures]], config: FusionConfig, start: list[int]) -> Utterances:
    """Pad B conversations to one batch [B, T, …]; start: [B] number of the first utterance of each."""
    batch, length = len(conversations), max(map(len, conversations))
    features = {name: torch.zeros(batch, length, width) for name, width in config.inputs.items()}
    present = torch.zeros(batch, length, len(config.inputs), dtype=torch.bool)
    slot = torch.zeros(batch, length, dtype=torch.long)
    index = torch.full((batch, length), EMPTY, dtype=torch.long)
    expert_posteriors = torch.zeros(batch, length, len(config.experts), len(config.emotions))
    for b, utterances in enumerate(conversations):
        for t, utterance in enumerate(utterances):
            for e, name in enumerate(config.experts):
                if name in utterance.expert_posteriors:
                    expert_posteriors[b, t, e] = torch.tensor(utterance.expert_posteriors[name])
            slot[b, t], index[b, t] = utterance.slot, start[b] + t
            for m, name in enumerate(config.inputs):
                if name in utterance.features:
                    features[name][b, t] = torch.from_numpy(utterance.features[name])
                    present[b, t, m] = True
    return Utterances(features, present, slot, index, expert_posteriors)
