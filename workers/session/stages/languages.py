"""The language of each speaker of a session, by which it is decided whether the text encoder reads the words."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from model.encoders.spoken_language import INITIAL_BELIEF, Belief
from model.encoders.transcription import Transcription

MIN_DETECTABLE_S = 2.0  # of speech; in less, a recognizer often hears a language that is not spoken


class SpokenLanguages:
    """Gathers evidence utterance by utterance, in their order, for each speaker."""

    def __init__(self, known: Collection[str], settled: str | None = None, declared: str | None = None) -> None:
        """known: languages that the text encoder reads, empty for all; settled: the one that is spoken, if given;
        declared: the one that a transcript says it is in, from which its words may still differ."""
        self._known, self._settled = tuple(known), settled
        is_foreign = declared is not None and declared not in self._known
        self._first = Belief(1 - INITIAL_BELIEF, {declared: 1.0}) if declared and is_foreign else Belief()
        self._beliefs: dict[str, Belief] = {}

    def expected(self, speaker: str) -> str | None:
        """The language in which to recognize the speaker's next utterance; None: the recognizer has to find out."""
        belief = self._beliefs.get(speaker)
        if self._settled is not None or belief is None:
            return self._settled
        return self.language(belief, {})

    def judge(self, speaker: str, transcription: Transcription) -> Belief:
        """The belief after an utterance of the speaker; nothing is kept of it."""
        if self._settled is not None:
            unread = self._known and self._settled not in self._known
            return Belief(0.0, {self._settled: 1.0}) if unread else Belief(1.0)
        before = self._beliefs.get(speaker, self._first)
        return before.after(transcription.languages or {}, self._known) if self._known else Belief(1.0)

    def language(self, belief: Belief, probabilities: Mapping[str, float]) -> str | None:
        """The language to recognize an utterance in, given the belief and the utterance's own probabilities; None: its
        likeliest."""
        mine = [name for name in self._known if name in probabilities] or self._known
        if belief.foreign is None and mine:
            return max(mine, key=lambda name: probabilities.get(name, 0.0))
        return belief.foreign

    def is_guess(self, speaker: str, transcription: Transcription, seconds: float) -> bool:
        """True for words in a language that the text encoder does not read, detected in little speech of a speaker of
        whom nothing else is known."""
        unread = bool(self._known) and bool(transcription.languages) and transcription.language not in self._known
        return unread and seconds < MIN_DETECTABLE_S and self.expected(speaker) is None

    def keep(self, speaker: str, belief: Belief) -> dict[str, Belief]:
        """Remember the belief after an utterance; returns those of all speakers at that moment."""
        self._beliefs[speaker] = belief
        return dict(self._beliefs)

    def restore(self, beliefs: Mapping[str, Belief]) -> None:
        """Go on with what another process has kept."""
        self._beliefs = dict(beliefs)
