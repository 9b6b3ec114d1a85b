"""One conversation's memory in front of and inside the network: speaker slots, running prosody, the last W rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from model.fusion import EMPTY, FusionConfig, Labels, Past, Utterances
from model.prosody import Array, ProsodyPrior, Voice


@dataclass(frozen=True)
class Heard:
    """One utterance as the network reads it."""

    features: dict[str, Array]
    """Embeddings of the modalities that are present."""
    slot: int
    opinions: dict[str, Array] = field(default_factory=dict)
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

    def hear(
        self,
        speaker: str,
        embeddings: dict[str, Array],
        prosody: Array | None,
        opinions: dict[str, Array] | None = None,
    ) -> Heard:
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
        return Heard(features, self._slots[speaker], opinions or {})


@dataclass(frozen=True)
class GraphRow:
    """What one labelled utterance leaves for those after it."""

    index: int
    slot: int
    present: tuple[bool, ...]
    values: Array
    """[row_width] float32."""


@dataclass
class GraphState:
    """Ring buffer of the last W rows of one conversation. Constant size."""

    config: FusionConfig
    width: int
    rows: torch.Tensor = field(init=False)
    present: torch.Tensor = field(init=False)
    slot: torch.Tensor = field(init=False)
    index: torch.Tensor = field(init=False)
    count: int = field(init=False, default=0)
    """How many utterances have been labelled, which is the number of the next one."""

    def __post_init__(self) -> None:
        window = self.config.window
        self.rows = torch.zeros(window, self.width)
        self.present = torch.zeros(window, len(self.config.inputs), dtype=torch.bool)
        self.slot = torch.zeros(window, dtype=torch.long)
        self.index = torch.full((window,), EMPTY, dtype=torch.long)

    def add(self, row: GraphRow) -> None:
        """Append the next row over the oldest."""
        place = row.index % self.config.window
        self.rows[place] = torch.from_numpy(row.values)
        self.present[place] = torch.tensor(row.present)
        self.slot[place] = row.slot
        self.index[place] = row.index
        self.count = row.index + 1


def collate(conversations: list[list[Heard]], config: FusionConfig, start: list[int]) -> Utterances:
    """Pad conversations to one batch; `start[b]` is the number of the first utterance of conversation b."""
    batch, length = len(conversations), max(map(len, conversations))
    features = {name: torch.zeros(batch, length, width) for name, width in config.inputs.items()}
    present = torch.zeros(batch, length, len(config.inputs), dtype=torch.bool)
    slot = torch.zeros(batch, length, dtype=torch.long)
    index = torch.full((batch, length), EMPTY, dtype=torch.long)
    opinions = torch.zeros(batch, length, len(config.experts), len(config.emotions))
    for b, utterances in enumerate(conversations):
        for t, heard in enumerate(utterances):
            for e, name in enumerate(config.experts):
                if name in heard.opinions:
                    opinions[b, t, e] = torch.tensor(heard.opinions[name])
            slot[b, t], index[b, t] = heard.slot, start[b] + t
            for m, name in enumerate(config.inputs):
                if name in heard.features:
                    features[name][b, t] = torch.from_numpy(heard.features[name])
                    present[b, t, m] = True
    return Utterances(features, present, slot, index, opinions)


def stack(states: list[GraphState]) -> Past:
    """The pasts of several conversations as one batch."""
    return Past(
        torch.stack([state.rows for state in states]),
        torch.stack([state.present for state in states]),
        torch.stack([state.slot for state in states]),
        torch.stack([state.index for state in states]),
    )


def graph_row(labels: Labels, utterances: Utterances, b: int, t: int = 0) -> GraphRow:
    """The row that utterance t of conversation b leaves."""
    present = tuple(utterances.present[b, t].tolist())
    values = labels.rows[b, t].detach().numpy().copy()
    return GraphRow(int(utterances.index[b, t]), int(utterances.slot[b, t]), present, values)
