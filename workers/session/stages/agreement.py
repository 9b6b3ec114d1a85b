"""The part of a growing transcript that will not change any more: LocalAgreement-2.

Macháček, Dabre, Bojar (2023), "Turning Whisper into a Real-Time Transcription System", arXiv 2307.14743: words are
stable once two consecutive hypotheses agree on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

ENDINGS = ".,;:!?…。，、！？"


@dataclass
class Agreement:
    """Consecutive hypotheses of one utterance. A word is what stands between spaces."""

    committed: list[str] = field(default_factory=list)
    """Words that two consecutive hypotheses agreed on."""
    rest: list[str] = field(default_factory=list)
    """Words of the latest hypothesis after these."""

    @property
    def stable(self) -> str:
        """The committed words. Only ever grows at its end."""
        return " ".join(self.committed)

    @property
    def text(self) -> str:
        """All words so far; begins with `stable`."""
        return " ".join([*self.committed, *self.rest])

    def add(self, hypothesis: str) -> None:
        """Take the next hypothesis, and commit the words after the committed ones that it shares with the last one.

        Words are compared without case and punctuation. Where the hypothesis has other words in the place of committed
        ones, only its words from there on count, by their position.
        """
        rest = hypothesis.split()[len(self.committed) :]
        same = (_normal(word) == _normal(before) for word, before in zip(rest, self.rest, strict=False))
        agreed = sum(takewhile(bool, same))
        if agreed and agreed == len(rest):  # a hypothesis ends like a sentence wherever the sound was cut
            rest[-1] = rest[-1].rstrip(ENDINGS) or rest[-1]
        self.committed, self.rest = self.committed + rest[:agreed], rest[agreed:]


def _normal(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())
