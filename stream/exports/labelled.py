"""A session's events as one entry an utterance: what every format but JSONL is written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream.errors import InputError
from stream.events import (
    Emotion,
    Event,
    SessionEnded,
    SessionStarted,
    SpeakerMerged,
    UtteranceFailed,
    UtteranceHeard,
    Word,
)

MIN_INTERVAL_S = 0.001  # seconds; several formats cannot hold an interval of no length


class ExportError(InputError):
    """These events cannot be written in this format."""


@dataclass(frozen=True)
class Labelled:
    """One utterance and what became of it. Times in seconds on the media clock, `end` after `start`."""

    utterance: int
    speaker: str
    """Under the name that stood at the end, after all `speaker.merged`."""
    start: float
    end: float
    text: str | None
    """None when redacted, or when nobody got to the words."""
    words: tuple[Word, ...]
    label: Emotion | None
    """The final label, else the provisional one, else the latest interim one; None when there is none."""
    failed: str | None
    """Why it has no label, or none that is final."""


def started(events: Sequence[Event]) -> SessionStarted:
    """How the session began. Raises ExportError unless the events are those of one whole session."""
    found = next((event for event in events if isinstance(event, SessionStarted)), None)
    if found is None:
        raise ExportError("no session.started among the events: export a session from its first event on")
    others = {event.session for event in events} - {found.session}
    if others:
        raise ExportError(f"events of several sessions ({found.session}, {', '.join(sorted(others))}): export one each")
    return found


def duration(events: Sequence[Event]) -> float:
    """Seconds of media heard, as far as the events tell."""
    said = [event.duration for event in events if isinstance(event, SessionEnded)]
    return max(said + [utterance.end for utterance in labelled(events)])


def emotions(events: Sequence[Event]) -> list[str]:
    """The label set in the checkpoint's order."""
    names = list(started(events).emotions)
    for event in events:
        if isinstance(event, Emotion):
            names += event.probabilities
    return list(dict.fromkeys(names))


def labelled(events: Sequence[Event]) -> list[Labelled]:
    """Every utterance in order of its start. Raises ExportError when there is none."""
    heard: dict[int, UtteranceHeard] = {}
    labels: dict[int, Emotion] = {}
    failures: dict[int, UtteranceFailed] = {}
    for event in events:
        match event:
            case UtteranceHeard():
                heard[event.utterance] = event
            case Emotion() if event.utterance not in labels or _rank(event) >= _rank(labels[event.utterance]):
                labels[event.utterance] = event
            case UtteranceFailed():
                failures[event.utterance] = event
            case _:
                pass
    names = _merged(events)
    entries = []
    for number in heard.keys() | labels.keys() | failures.keys():
        label, failure = labels.get(number), failures.get(number)
        if label is not None and label.trigger == "interval" and failure is not None:
            label = None
        known = heard.get(number) or label or failure
        assert known is not None
        speaker = known.speaker or "unknown"
        entries.append(
            Labelled(
                utterance=number,
                speaker=names.get(speaker, speaker),
                start=known.audio_start,
                end=max(known.audio_end, round(known.audio_start + MIN_INTERVAL_S, 3)),
                text=None if isinstance(known, UtteranceFailed) else known.text,
                words=tuple(known.words) if isinstance(known, UtteranceHeard) else (),
                label=label,
                failed=failure.reason if failure is not None else None,
            )
        )
    if not entries:
        raise ExportError("no utterances among the events: nothing to export")
    return sorted(entries, key=lambda entry: (entry.start, entry.end, entry.utterance))


def _rank(label: Emotion) -> tuple[bool, bool]:
    return label.final, label.trigger != "interval"


def _merged(events: Sequence[Event]) -> dict[str, str]:
    """The last name of every speaker that was merged into another."""
    into: dict[str, str] = {}
    for event in events:
        if isinstance(event, SpeakerMerged) and event.speaker != event.into:
            into = {speaker: event.into if name == event.speaker else name for speaker, name in into.items()}
            into[event.speaker] = event.into
            into.pop(event.into, None)  # a name that is merged into is in use again
    return into
