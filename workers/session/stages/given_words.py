"""The words of a transcript that the user gave, dealt out to utterances in place of ASR."""

from __future__ import annotations

from model.encoders.transcription import Transcription
from stream.block import Utterance
from workers.session.services import SessionPlan


class GivenWords:
    """Each word is dealt out once, in the order in which utterances end."""

    def __init__(self, plan: SessionPlan) -> None:
        self._transcript, self._speakers = plan.transcript, plan.speakers
        self._left_out = {"lines_left_out": plan.lines_left_out} if plan.lines_left_out else {}

    def take(self, utterance: Utterance, speaker: str) -> Transcription:
        """The words of an utterance; no later one gets them. None without a transcript."""
        return self._words(utterance, speaker, preview=False)

    def preview(self, utterance: Utterance, speaker: str) -> Transcription:
        """The words of an utterance that goes on or may have ended; they are still to be dealt out."""
        return self._words(utterance, speaker, preview=True)

    def _words(self, utterance: Utterance, speaker: str, preview: bool) -> Transcription:
        transcript = self._transcript
        if transcript is None:
            return Transcription()
        channel = utterance.channel if self._speakers == "channel" else None
        # Names that RTTM or --names made up say nothing of the transcript's speakers.
        known = speaker if speaker in transcript.speakers else None
        exact = known is not None and self._speakers == "turns"
        return Transcription(transcript.consume(utterance.start, utterance.end, channel, known, exact, preview))

    @property
    def counts(self) -> dict[str, int]:
        """Words of the transcript, those that no utterance got, and lines of given files that could not be used."""
        if self._transcript is None:
            return self._left_out
        return self._left_out | {
            "transcript_words": self._transcript.words,
            "transcript_words_unspoken": self._transcript.unused,
        }

    @property
    def mismatch(self) -> str | None:
        """An error where no word at all was dealt out."""
        words = self._transcript.words if self._transcript is not None else 0
        if self._transcript is None or words != self._transcript.unused:
            return None
        return f"the transcript does not match: none of its {words} words falls on speech"

    def snapshot(self) -> tuple[int, list[int]] | None:
        """All words before the first number are dealt out, but for those of the list."""
        return None if self._transcript is None else self._transcript.snapshot()

    def restore(self, given: tuple[int, list[int]] | None) -> None:
        """Go on after the words that another process dealt out."""
        if self._transcript is not None and given is not None:
            self._transcript.restore(*given)
