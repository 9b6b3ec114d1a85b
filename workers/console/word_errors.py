"""Word error rate: the words that a session hears against a script of what is said."""

from __future__ import annotations

from pathlib import Path

from model.metrics import plain_words, word_error_rate
from stream.events import Emotion, Event, UtteranceHeard
from stream.speech.transcript import read_transcript
from stream.speech.turns import AnnotationError


class WordScore:
    """A display that compares the words of a session's utterances, in order of their start, with a script's."""

    def __init__(self, script: Path, recording: str) -> None:
        """script: STM, VTT, SRT, TXT or CSV; recording: the media file's name in an STM. Raises AnnotationError."""
        self._name = script.name
        self._script = plain_words(" ".join(cue.text for cue in read_transcript(script, recording).cues))
        if not self._script:
            raise AnnotationError(f"{script}: holds no words")
        self._utterances: dict[int, UtteranceHeard] = {}
        self._labelled: set[int] = set()

    def event(self, event: Event) -> None:
        if isinstance(event, UtteranceHeard):
            self._utterances[event.utterance] = event
        elif isinstance(event, Emotion) and event.trigger == "speech_ended":
            self._labelled.add(event.utterance)

    def position(self, seconds: float) -> None:
        pass

    def line(self, seconds: float) -> str:
        """Word error rate and labels, in one line; seconds: that the session took."""
        utterances = sorted(self._utterances.values(), key=lambda event: event.audio_start)
        rate = word_error_rate([self._script], [" ".join(event.text or "" for event in utterances)])
        script = f"{self._name} ({len(self._script.split())} words)"
        return f"WER {100 * rate:.1f} % against {script}, {len(self._labelled)} labels, {seconds:.0f} s"
