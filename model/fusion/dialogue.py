"""The network's input for one utterance, the cached row that it leaves, and the speaker slots and running prosody
statistics of a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from model.encoders.prosody import Array, ProsodyPrior, VoiceStatistics


@dataclass(frozen=True)
class UtteranceFeatures:
    """Input of the network for one utterance."""

    features: dict[str, Array]
    """Embedding [D_m] float32 of each modality that is present."""
    slot: int
    """Slot of the speaker."""
    expert_posteriors: dict[str, Array] = field(default_factory=dict)
    """Posterior [C] float32 of each expert that has one."""


class SpeakerMemory:
    """Assigns a slot to each speaker, and normalises prosody by the speaker's utterances so far.

    Memory is bounded: with `window` + 2 slots, the speaker whose slot is reused spoke last outside of every window.
    """

    def __init__(self, prior: ProsodyPrior | None, window: int) -> None:
        self._prior = prior
        self._places = window + 2
        self._slots: dict[str, int] = {}  # least recent speaker first
        self._voices: dict[str, VoiceStatistics] = {}

    def add(
        self,
        speaker: str,
        embeddings: dict[str, Array],
        prosody: Array | None,
        expert_posteriors: dict[str, Array] | None = None,
    ) -> UtteranceFeatures:
        """Add the next utterance of the conversation and return the network's input for it.

        embeddings: [D_m] float32 by modality; prosody: [7] float32 raw columns (`model.encoders.prosody.COLUMNS`), or
        None; expert_posteriors: [C] float32 by expert.
        """
        if speaker in self._slots:
            self._slots[speaker] = self._slots.pop(speaker)
        elif len(self._slots) < self._places:
            self._slots[speaker] = len(self._slots)
        else:
            least_recent = next(iter(self._slots))
            self._slots[speaker] = self._slots.pop(least_recent)
            self._voices.pop(least_recent, None)
        features = dict(embeddings)
        if prosody is not None and self._prior is not None:
            voice = self._voices.setdefault(speaker, VoiceStatistics.empty())
            features["audio"] = voice.describe(prosody, self._prior)
        return UtteranceFeatures(features, self._slots[speaker], expert_posteriors or {})

    def dump(self) -> tuple[dict[str, int], dict[str, Array]]:
        """The speakers' slots, least recent speaker first, and the prosody statistics [21] float32 of each."""
        voices = {name: np.concatenate([v.count, v.total, v.square]) for name, v in self._voices.items()}
        return dict(self._slots), voices

    def restore(self, slots: dict[str, int], voices: dict[str, Array]) -> None:
        """Continue from the slots and the statistics [21] that another memory's `dump` returned."""
        self._slots = dict(slots)
        self._voices = {name: VoiceStatistics(*statistics.reshape(3, -1)) for name, statistics in voices.items()}


@dataclass(frozen=True)
class GraphRow:
    """Cached state of one labelled utterance, from which later utterances of the conversation are labelled."""

    index: int
    """Number of the utterance in the conversation, from 0."""
    slot: int
    present: tuple[bool, ...]
    """Modalities that are present, in the order of `FusionConfig.modalities`."""
    values: Array
    """[n] float32: keys and values of every attention layer, the pooled state, the sum of the experts' logits."""
