"""Events of a session as messages of Deepgram's streaming interface, with Undertone's own fields beside them."""

from __future__ import annotations

import string
import uuid
from collections.abc import Sequence
from typing import Any

from stream import __version__
from stream.appearance import valence
from stream.events import (
    Emotion,
    Event,
    SessionEnded,
    SessionStarted,
    SpeakerMerged,
    UtteranceFailed,
    UtteranceHeard,
    UtterancePartial,
    Word,
)
from workers.gateway.deepgram_query import Wanted

Message = dict[str, Any]
MAX_ECHO = 200  # characters of a client's message that are repeated to it
Spoken = UtterancePartial | UtteranceHeard | Emotion | UtteranceFailed


class Replies:
    """Messages for one client, made of its session's events; keeps what an utterance still lacks."""

    def __init__(self, request_id: str, wanted: Wanted) -> None:
        self.session = ""
        """The session's id, set when there is one."""
        self.offset = 0.0
        """Start of the client's stream, in seconds on the session's media clock."""
        self.ended: SessionEnded | None = None
        """The session's last event."""
        self._request_id, self._wanted = request_id, wanted
        self._checkpoint = "undertone"
        self._speakers: dict[str, int] = {}
        self._heard: dict[int, UtteranceHeard] = {}
        self._interim: dict[int, Emotion] = {}
        self._started: set[int] = set()
        self._closed: set[int] = set()
        self._finalizing = False

    def finalize(self) -> None:
        """Mark the next final results: an utterance ends with its speech, and at no other place."""
        self._finalizing = True

    def of(self, event: Event) -> list[Message]:
        """The messages that an event leads to; an event that comes again leads to none."""
        match event:
            case SessionStarted():
                self._checkpoint = event.checkpoint
            case UtterancePartial() if event.utterance not in self._closed:
                return self._begun(event) + (self._interim_results(event) if self._wanted.interim_results else [])
            case UtteranceHeard() if event.utterance not in self._closed:
                self._heard[event.utterance] = event
                return self._begun(event)
            case Emotion() if event.trigger == "interval" and event.utterance not in self._closed:
                self._interim[event.utterance] = event
                return self._begun(event)
            case Emotion() if event.trigger != "interval" and event.utterance not in self._closed:
                return self._begun(event) + self._final_results(event, event)
            case Emotion(trigger="context") if self._wanted.own_messages:
                return [self._revision(event)]
            case UtteranceFailed() if event.utterance not in self._closed:
                return self._final_results(event, None, event.reason)
            case SpeakerMerged() if self._wanted.own_messages:
                return [self._merged(event)]
            case SessionEnded():
                self.ended = event
                return [message for heard in list(self._heard.values()) for message in self._final_results(heard, None)]
        return []

    def metadata(self, sha256: str, created: str, duration: float | None) -> Message:
        """The last message. duration: seconds of sound that came; None: as the session says."""
        if duration is None:
            duration = max(0.0, self.ended.duration - self.offset) if self.ended else 0.0
        model = self._model_id
        ours: Message = {"session": self.session, "ignored": list(self._wanted.ignored)}
        if self.ended is not None:
            ours |= self.ended.model_dump(include={"reason", "utterances", "failed"})
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": sha256,
            "created": created,
            "duration": round(duration, 3),
            "channels": self._wanted.channels,
            "models": [model],
            "model_info": {model: self._model_info},
            "undertone": ours,
        }

    @property
    def _model_info(self) -> Message:
        return {"name": "undertone", "version": __version__, "arch": self._checkpoint}

    @property
    def _model_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"undertone:{self._checkpoint}"))

    def _time(self, seconds: float) -> float:
        """Seconds from the beginning of the client's stream, of a time on the media clock."""
        return round(max(0.0, seconds - self.offset), 3)

    def _channel(self, speaker: str | None) -> list[int]:
        """Number of the speaker's channel, and how many there are."""
        names = self._wanted.names
        return [names.index(speaker) if speaker in names else 0, len(names)]

    def _number(self, speaker: str) -> int:
        """Number of a speaker, in order of appearance."""
        return self._speakers.setdefault(speaker, len(self._speakers))

    def _begun(self, event: UtterancePartial | UtteranceHeard | Emotion) -> list[Message]:
        """The beginning of an utterance, if it is news and the client wants to know."""
        if event.utterance in self._started:
            return []
        self._started.add(event.utterance)
        if not self._wanted.speech_started:
            return []
        start = self._time(event.audio_start)
        return [{"type": "SpeechStarted", "channel": self._channel(event.speaker), "timestamp": start}]

    def _interim_results(self, event: UtterancePartial) -> list[Message]:
        label = self._interim.get(event.utterance)
        words = spread(event.text or "", event.audio_start, event.audio_end)
        return [self._results(event, event.text or "", words, label, self._ours(event, label), is_final=False)]

    def _final_results(self, event: Spoken, label: Emotion | None, failed: str | None = None) -> list[Message]:
        """The last words of an utterance with its label, if it has one, and its end, if the client wants to know."""
        heard = self._heard.pop(event.utterance, None)
        self._interim.pop(event.utterance, None)
        self._closed.add(event.utterance)
        text = "" if heard is None else heard.text or ""
        words = [] if heard is None else heard.words or spread(text, heard.audio_start, heard.audio_end)
        spoken = label or heard or event
        ours = self._ours(spoken, label) | ({} if failed is None else {"failed": failed})
        made = self._results(spoken, text, words, label, ours, is_final=True)
        made["from_finalize"], self._finalizing = self._finalizing, False
        if not self._wanted.utterance_end:
            return [made]
        end = self._time(words[-1].end if words else event.audio_end)
        return [made, {"type": "UtteranceEnd", "channel": made["channel_index"], "last_word_end": end}]

    def _results(
        self, event: Spoken, text: str, words: Sequence[Word], label: Emotion | None, ours: Message, is_final: bool
    ) -> Message:
        sentiment = {} if label is None else _sentiment(label)
        more: Message = dict(sentiment)
        if self._wanted.diarize and event.speaker is not None:
            more["speaker"] = self._number(event.speaker)
        probabilities = [word.probability for word in words]
        alternative = {
            "transcript": text,
            "confidence": round(sum(probabilities) / len(probabilities), 6) if probabilities else 0.0,
            "words": [self._word(word) | more for word in words],
            **sentiment,
        }
        metadata: Message = {
            "request_id": self._request_id, "model_info": self._model_info, "model_uuid": self._model_id,
        }  # fmt: skip
        return {
            "type": "Results",
            "channel_index": self._channel(event.speaker),
            **self._place(event),
            "is_final": is_final,
            "speech_final": is_final,
            "from_finalize": False,
            "channel": {"alternatives": [alternative]},
            "metadata": metadata,
            "undertone": ours,
        }

    def _place(self, event: Spoken) -> Message:
        start = self._time(event.audio_start)
        return {"start": start, "duration": round(max(0.0, self._time(event.audio_end) - start), 3)}

    def _word(self, word: Word) -> Message:
        plain = word.word.lower().strip(string.punctuation + "…“”‘’«»¿¡")
        return {
            "word": plain or word.word,
            "start": self._time(word.start),
            "end": self._time(word.end),
            "confidence": word.probability,
            "punctuated_word": word.word,
        }

    def _ours(self, event: Spoken, label: Emotion | None) -> Message:
        """Undertone's own fields: of the utterance, and of its label if it has one."""
        ours = {"session": self.session, "utterance": event.utterance, "speaker": event.speaker}
        if label is not None:
            ours |= label.model_dump(include={"emotion", "probabilities", "uncertain", "revision", "final"})
        return ours

    def _revision(self, event: Emotion) -> Message:
        return {
            "type": "undertone.Revision",
            "channel_index": self._channel(event.speaker),
            **self._place(event),
            **_sentiment(event),
            "undertone": self._ours(event, event),
        }

    def _merged(self, event: SpeakerMerged) -> Message:
        speaker, into = self._number(event.speaker), self._number(event.into)
        ours = {"session": self.session, "speaker": event.speaker, "into": event.into}
        return {"type": "undertone.SpeakerMerged", "speaker": speaker, "into": into, "undertone": ours}


def error(variant: str, description: str, message: str | None = None) -> Message:
    """Message about a problem. message: the client's message that it was about, of which the beginning is repeated."""
    made = {"type": "Error", "variant": variant, "description": description}
    return made if message is None else made | {"message": message[:MAX_ECHO]}


def configure_failure(request_id: str) -> Message:
    """The answer to every wish to change parameters within a stream."""
    return {
        "type": "ConfigureFailure",
        "request_id": request_id,
        "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
        "description": "parameters cannot be changed within a stream: connect again",
    }


def refusal(status: int, line: str, request_id: str) -> Message:
    """Body of an answer that refuses a connection."""
    codes = {400: "INVALID_QUERY_PARAMETER", 401: "INVALID_AUTH", 403: "INSUFFICIENT_PERMISSIONS",
             422: "INVALID_QUERY_PARAMETER", 429: "TOO_MANY_REQUESTS"}  # fmt: skip
    return {"err_code": codes.get(status, "UNAVAILABLE"), "err_msg": line, "request_id": request_id}


def spread(text: str, start: float, end: float) -> list[Word]:
    """Words without times of their own, evenly over a stretch by their lengths; their probability is not known: 0."""
    parts = text.split()
    total = sum(map(len, parts))
    words, position = [], 0
    for part in parts:
        begin, position = position, position + len(part)
        times = [start + (end - start) * place / total for place in (begin, position)]
        words.append(Word(word=part, start=times[0], end=times[1], probability=0))
    return words


def _sentiment(label: Emotion) -> Message:
    """Sentiment of a label in Deepgram's shape: score from -1 (negative) to 1 (positive)."""
    return {"sentiment": label.sentiment, "sentiment_score": round(valence(label.probabilities), 6)}
