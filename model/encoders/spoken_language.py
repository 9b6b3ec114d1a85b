"""Evidence that a speaker speaks a language which an encoder of words knows.

An utterance proves little by itself: of short ones recognizers guess the language. So the evidence is gathered for each
speaker with a hidden Markov chain of two states, "known" and "another" (forward algorithm: Rabiner 1989, eq. 19 to 21):
who spoke a known language mostly speaks it in the next utterance, and each utterance adds what a detector says of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

AT_FIRST = 0.9  # probability that a speaker of whom nothing was heard speaks a known language
STAYS = 0.95  # probability that the next utterance is in the same language
FAVOUR = 0.5  # natural log of the odds that each utterance adds for a known language: what is doubtful is read
FLOOR = 1e-3  # the least probability of a language; detectors are surer than they are right
SURE = 1e-4  # the belief stays so far from 0 and 1, else no utterance could turn it
PROVING = 4  # words; chosen on the training sets of MELD and EmoryNLP
FADES = 0.8  # of the evidence for each other language, from one utterance to the next


@dataclass(frozen=True)
class Belief:
    """Belief about a speaker's language after an utterance."""

    known: float = AT_FIRST
    """Probability that the words are in a language that the encoder knows."""
    others: dict[str, float] = field(default_factory=dict)
    """Evidence for other languages, fading."""

    @property
    def foreign(self) -> str | None:
        """The language, where it is one that the encoder does not know."""
        return max(self.others, key=self.others.__getitem__) if self.known < 0.5 and self.others else None

    def after(self, detected: Mapping[str, float], known: Collection[str]) -> Belief:
        """The belief after one more utterance.

        heard: probability of each language, none where the utterance shows nothing; known: those of the encoder.
        """
        if not detected:
            return self
        known_share = max([p for name, p in detected.items() if name in known], default=0.0)
        rivals = {name: p for name, p in detected.items() if name not in known}
        before = STAYS * self.known + (1 - STAYS) * AT_FIRST
        evidence = math.log(max(known_share, FLOOR) / max(FLOOR, *rivals.values(), 0.0))
        odds = math.log(before / (1 - before)) + evidence + FAVOUR
        belief = 1 / (1 + math.exp(-odds))
        others = {
            name: round(FADES * self.others.get(name, 0.0) + rivals.get(name, 0.0), 4)
            for name in self.others.keys() | rivals.keys()
        }
        strongest = sorted(others, key=others.__getitem__, reverse=True)[:5]
        return Belief(min(max(belief, SURE), 1 - SURE), {name: others[name] for name in strongest if others[name] > 0})


def languages_of(text: str) -> dict[str, float]:
    """Weight of each language for a text, by py3langid's probabilities; {} for a text without letters.

    Of a text of less than `PROVING` words they are flattened: few words prove little.
    """
    if not any(character.isalpha() for character in text):
        return {}
    share = min(1.0, len(text.split()) / PROVING)
    flattened = {name: p**share for name, p in _identifier().rank(text)}
    return {name: weight for name, weight in flattened.items() if weight >= FLOOR}


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
