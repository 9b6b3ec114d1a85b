"""Masking what identifies people within words: numbers, addresses, names as far as they are known.

Recognizers of Microsoft's Presidio, asked one by one, and patterns of ours for what speech recognizers write: numbers
digit by digit, addresses with "at" and "dot", names as people introduce themselves. Nothing here asks the network.
Other names are found only where a spaCy model for English is installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from model.encoders.transcription import Transcription

LEAST = 0.3  # Presidio's scores: below are patterns that match too much
REGIONS = ("US", "GB", "IE", "CA", "AU", "NZ", "IN", "DE", "AT", "CH", "FR", "ES", "IT", "NL")  # of numbers without +
FIGURE = (
    r"(?:\d|(?:zero|oh|nought|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven"
    r"|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|double|triple)(?!\w))"
)
NUMBER = rf"(?<!\w)\+?{FIGURE}(?:[\s().,+/-]*{FIGURE}){{2,}}(?!\w)"
"""Three figures suffice: people pause within their numbers, and each piece is an utterance then."""
SPOKEN_ADDRESS = (
    r"(?<!\w)[\w.+-]+(?:\s(?:dot|point|underscore|dash|hyphen|plus)\s[\w-]+)*\s?(?:\bat\b|@)\s?"
    r"[\w-]+(?:\s(?:dot|point)\s[\w-]+)+"
)
INTRODUCED = (
    r"(?<=\b(?:name is|name's|called|call me|this is|i am|i'm|mister|missus|doctor|mr\.?|mrs\.?|ms\.?|miss|dr\.?)\s)"
    r"(?-i:[A-Z][\w'-]+(?:\s[A-Z][\w'-]+)*)"
)
"""Written with capitals."""
NAMED = r"(?<=\b(?:my (?:first |last |full )?name is|my name's|my surname is)\s)[\w'-]+"
"""Also where a recognizer writes no capitals."""


class Span(NamedTuple):
    """A stretch of text that is masked, and as what."""

    start: int
    end: int
    kind: str
    score: float


def available() -> bool:
    """True where Presidio is installed (extra `mask`)."""
    return importlib.util.find_spec("presidio_analyzer") is not None


class Masker:
    """Puts <PHONE_NUMBER>, <PERSON> and the like in the place of what they are."""

    def __init__(self, names: Iterable[str] = (), model: str | None = None) -> None:
        """names: people that are known, whole or in part; model: of spaCy, None = one that is installed, if any."""
        from presidio_analyzer import Pattern, PatternRecognizer
        from presidio_analyzer import predefined_recognizers as known

        def pattern(kind: str, *expressions: str, score: float = 0.5) -> Any:
            return PatternRecognizer(kind, patterns=[Pattern(kind, each, score) for each in expressions])

        people = sorted({part for name in names for part in (name, *name.split()) if len(part) > 1}, key=len)[::-1]
        self._recognizers = [
            known.PhoneRecognizer(supported_regions=REGIONS),
            known.CreditCardRecognizer(),
            known.IbanRecognizer(),
            known.IpRecognizer(),
            known.UsSsnRecognizer(),
            # Presidio's own recognizer of addresses fetches a list of domains from the network.
            PatternRecognizer("EMAIL_ADDRESS", patterns=known.EmailRecognizer.PATTERNS),
            pattern("EMAIL_ADDRESS", SPOKEN_ADDRESS),
            pattern("NUMBER", NUMBER, score=LEAST),
            pattern("PERSON", INTRODUCED, NAMED),
            *([PatternRecognizer("PERSON", deny_list=people)] if people else []),
        ]
        self._spacy = _spacy(model)
        self._masked = lru_cache(64)(self._mask)  # an utterance's words are told several times

    def __call__(self, transcription: Transcription) -> Transcription:
        """The words as they may be told. Those with times are left out where they are not those of the text."""
        return self._masked(transcription)

    def find(self, text: str) -> list[Span]:
        """Spans to be masked, in order, without overlaps."""
        found = [
            Span(result.start, result.end, result.entity_type, result.score)
            for recognizer in self._recognizers
            for result in recognizer.analyze(text, recognizer.supported_entities, None)
            if result.score >= LEAST
        ]
        if self._spacy is not None:
            people = (entity for entity in self._spacy(text).ents if entity.label_ == "PERSON")
            found += [Span(entity.start_char, entity.end_char, "PERSON", 0.8) for entity in people]
        merged: list[Span] = []
        for span in sorted(found):
            if merged and span.start < merged[-1].end:
                last = merged.pop()
                kind = max(last, span, key=lambda each: (each.score, each.end - each.start)).kind
                span = Span(last.start, max(last.end, span.end), kind, max(last.score, span.score))
            merged.append(span)
        return merged

    def _mask(self, transcription: Transcription) -> Transcription:
        masked = text = " ".join(transcription.text.split())
        spans = self.find(text)
        for span in reversed(spans):
            masked = f"{masked[: span.start]}<{span.kind}>{masked[span.end :]}"
        pieces = [word.text.strip() for word in transcription.words]
        if " ".join(pieces) != text:
            return Transcription(masked)
        starts = [0, *accumulate(len(piece) + 1 for piece in pieces)]
        words = []
        for word, start, end in zip(transcription.words, starts, starts[1:], strict=False):
            hit = next((span for span in spans if start < span.end and span.start < end - 1), None)
            if hit is None:
                words.append(word)
            elif start <= hit.start or not words:  # its first word stands for all, with the time of all
                words.append(replace(word, text=f"<{hit.kind}>"))
            else:
                probability = min(words[-1].probability, word.probability)
                words[-1] = replace(words[-1], end=word.end, probability=probability)
        return Transcription(masked, tuple(words))


def _spacy(model: str | None) -> Any:
    import spacy

    if model is None:
        model = next((name for name in spacy.util.get_installed_models() if name.startswith("en_")), None)
    return None if model is None else spacy.load(model)
