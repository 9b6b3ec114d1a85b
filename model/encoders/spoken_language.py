"""Belief that a speaker speaks a language which the text encoder knows.

Detectors are unreliable on single short utterances. So the evidence is accumulated for each speaker with a hidden
Markov model of two states, "known" and "another" (forward algorithm: Rabiner 1989, eq. 19 to 21): a speaker mostly
stays in one language from utterance to utterance, and each utterance adds the detector's probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

INITIAL_BELIEF = 0.9  # probability of a known language before a speaker's first utterance
P_SAME_LANGUAGE = 0.95  # probability that the next utterance is in the same language
KNOWN_LOG_ODDS = 0.5  # natural log odds that each utterance adds for a known language: doubtful words are used
MIN_PROBABILITY = 1e-3  # floor of a language's probability: detectors are overconfident
BELIEF_MARGIN = 1e-4  # distance of the belief from 0 and 1, so that later utterances can still change it
MIN_WORDS = 4  # of a text whose detection counts in full; chosen on the training sets of MELD and EmoryNLP
EVIDENCE_DECAY = 0.8  # factor on the evidence for other languages, from one utterance to the next
MAX_OTHER_LANGUAGES = 5  # whose evidence is stored


@dataclass(frozen=True)
class Belief:
    """Belief about a speaker's language after the utterances so far."""

    known: float = INITIAL_BELIEF
    """Probability that the speaker speaks a language that the encoder knows."""
    others: dict[str, float] = field(default_factory=dict)
    """Decayed evidence for each other language."""

    @property
    def foreign(self) -> str | None:
        """The most likely language, if the encoder does not know it; else None."""
        return max(self.others, key=self.others.__getitem__) if self.known < 0.5 and self.others else None

    def after(self, detected: Mapping[str, float], known: Collection[str]) -> Belief:
        """The belief after one more utterance.

        detected: probability of each language, empty without evidence; known: codes of the encoder's languages.
        """
        if not detected:
            return self
        known_share = max([p for name, p in detected.items() if name in known], default=0.0)
        rivals = {name: p for name, p in detected.items() if name not in known}
        before = P_SAME_LANGUAGE * self.known + (1 - P_SAME_LANGUAGE) * INITIAL_BELIEF
        evidence = math.log(max(known_share, MIN_PROBABILITY) / max(MIN_PROBABILITY, *rivals.values(), 0.0))
        odds = math.log(before / (1 - before)) + evidence + KNOWN_LOG_ODDS
        belief = 1 / (1 + math.exp(-odds))
        others = {
            name: round(EVIDENCE_DECAY * self.others.get(name, 0.0) + rivals.get(name, 0.0), 4)
            for name in self.others.keys() | rivals.keys()
        }
        strongest = sorted(others, key=others.__getitem__, reverse=True)[:MAX_OTHER_LANGUAGES]
        bounded = min(max(belief, BELIEF_MARGIN), 1 - BELIEF_MARGIN)
        return Belief(bounded, {name: others[name] for name in strongest if others[name] > 0})


def languages_of(text: str) -> dict[str, float]:
    """Weight of each language for a text, from py3langid's probabilities; {} for a text without letters.

    Below `MIN_WORDS` words the probabilities are flattened: few words are weak evidence.
    """
    if not any(character.isalpha() for character in text):
        return {}
    share = min(1.0, len(text.split()) / MIN_WORDS)
    flattened = {name: p**share for name, p in _identifier().rank(text)}
    return {name: weight for name, weight in flattened.items() if weight >= MIN_PROBABILITY}


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
