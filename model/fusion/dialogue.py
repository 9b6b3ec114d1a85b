"""What the network reads of an utterance and what that leaves; a conversation's speaker slots and running prosody."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from model.encoders.prosody import Array, ProsodyPrior, Voice


@dataclass(frozen=True)
class UtteranceFeatures:
    """One utterance as the network reads it."""

    features: dict[str, Array]
    """Embeddings of the modalities that are present."""
    slot: int
    expert_posteriors: dict[str, Array] = field(default_factory=dict)
    """Posteriors [C] of the experts that have one."""


class SpeakerMemory:
    """Gives each speaker a slot, and its prosody relative to what that speaker has sounded like so far.

    Bounded: with `window` + 2 slots, a slot that is taken over was last heard outside of every window.
    """

    def __init__(self, prior: ProsodyPrior | None, window: int) -> None:
        self._prior = prior
        self._places = window + 2
        self._slots: dict[str, int] = {}  # least recently heard first
        self._voices: dict[str, Voice] = {}

    def add(
        self,
        speaker: str,
        embeddings: dict[str, Array],
        prosody: Array | None,
        expert_posteriors: dict[str, Array] | None = None,
    ) -> UtteranceFeatures:
        """Take in one utterance, in conversation order. `prosody`: [7] raw columns, or None."""
        if speaker in self._slots:
            self._slots[speaker] = self._slots.pop(speaker)
        elif len(self._slots) < self._places:
            self._slots[speaker] = len(self._slots)
        else:
            longest_silent = next(iter(self._slots))
            self._slots[speaker] = self._slots.pop(longest_silent)
            self._voices.pop(longest_silent, None)
        features = dict(embeddings)
        if prosody is not None and self._prior is not None:
            voice = self._voices.setdefault(speaker, Voice.unheard())
            features["audio"] = voice.describe(prosody, self._prior)
        return UtteranceFeatures(features, self._slots[speaker], expert_posteriors or {})

    def dump(self) -> tuple[dict[str, int], dict[str, Array]]:
        """The speakers' slots, least recently heard first, and their voices' statistics [21]."""
        voices = {name: np.concatenate([v.count, v.total, v.square]) for name, v in self._voices.items()}
        return dict(self._slots), voices

    def restore(self, slots: dict[str, int], voices: dict[str, Array]) -> None:
        """Remember what another memory dumped."""
        self._slots = dict(slots)
        self._voices = {name: Voice(*statistics.reshape(3, -1)) for name, statistics in voices.items()}


@dataclass(frozen=True)
class GraphRow:
    """What one labelled utterance leaves for those after it."""

    index: int
    slot: int
    present: tuple[bool, ...]
    values: Array
    """Keys and values of every attending layer, the pooled state, the experts' say: float32."""
