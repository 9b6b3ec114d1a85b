"""A session's events merged to one entry per utterance, from which every format except JSONL is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream.errors import InputError
from stream.events import (
    Emotion,
    Event,
    EventsMissed,
    SessionEnded,
    SessionStarted,
    SpeakerMerged,
    UtteranceFailed,
    UtteranceHeard,
    Word,
)

MIN_INTERVAL_S = 0.001  # several formats do not allow empty intervals


class ExportError(InputError):
    """These events cannot be exported in this format."""


@dataclass(frozen=True)
class Labelled:
    """One utterance with its label. Times in seconds on the media clock; `end` is after `start`."""

    utterance: int
    speaker: str
    """Final name of the speaker, after all `speaker.merged`."""
    start: float
    end: float
    text: str | None
    """Words; None if redacted or not transcribed."""
    words: tuple[Word, ...]
    label: Emotion | None
    """The final label, else the provisional one, else the latest interim one, else None."""
    failed: str | None
    """Reason for a missing label or a missing final label; None if there is none."""


def started(events: Sequence[Event]) -> SessionStarted:
    """The event `session.started`. Raises ExportError unless the events belong to one session and include it."""
    if (found := opening(events)) is None:
        raise ExportError(f"{removed(events)}, session.started among them, which this format needs: csv does not")
    return found


def opening(events: Sequence[Event]) -> SessionStarted | None:
    """The event `session.started`; None if it may be among those that were removed. Raises ExportError as `started`."""
    found = next((event for event in events if isinstance(event, SessionStarted)), None)
    if found is None and removed(events) is None:
        raise ExportError("no session.started among the events: export a session from its first event on")
    session = (found or events[0]).session
    others = {event.session for event in events} - {session}
    if others:
        raise ExportError(f"events of several sessions ({session}, {', '.join(sorted(others))}): export one each")
    return found


def removed(events: Sequence[Event]) -> str | None:
    """A statement on what is missing since Redis had removed it before it was read; None if nothing is."""
    gaps = [event.count for event in events if isinstance(event, EventsMissed)]
    if not gaps:
        return None
    known = sum(count or 0 for count in gaps)
    number = (
        "some events, perhaps," if not known else f"{known} events" if None not in gaps else f"{known} events or more"
    )
    return f"{number} were removed from Redis before they were read"


def duration(events: Sequence[Event]) -> float:
    """Duration of the media in seconds, as far as the events tell. Raises ExportError as `labelled`."""
    durations = [event.duration for event in events if isinstance(event, SessionEnded)]
    return max(durations + [utterance.end for utterance in labelled(events)])


def emotions(events: Sequence[Event]) -> list[str]:
    """The label set in the order of the checkpoint, or those that appear. Raises ExportError as `opening`."""
    begun = opening(events)
    names = list(begun.emotions) if begun is not None else []
    for event in events:
        if isinstance(event, Emotion):
            names += event.probabilities
    return list(dict.fromkeys(names))


def labelled(events: Sequence[Event]) -> list[Labelled]:
    """All utterances in order of their start. Raises ExportError if there are none."""
    utterances: dict[int, UtteranceHeard] = {}
    labels: dict[int, Emotion] = {}
    failures: dict[int, UtteranceFailed] = {}
    for event in events:
        match event:
            case UtteranceHeard():
                utterances[event.utterance] = event
            case Emotion() if event.utterance not in labels or _rank(event) >= _rank(labels[event.utterance]):
                labels[event.utterance] = event
            case UtteranceFailed():
                failures[event.utterance] = event
            case _:
                pass
    names = _merged(events)
    entries = []
    for number in utterances.keys() | labels.keys() | failures.keys():
        label, failure = labels.get(number), failures.get(number)
        if label is not None and label.trigger == "interval" and failure is not None:
            label = None
        known = utterances.get(number) or label or failure
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
    """Sort key: final before provisional before interim labels."""
    return label.final, label.trigger != "interval"


def _merged(events: Sequence[Event]) -> dict[str, str]:
    """Final name of every speaker that was merged into another."""
    into: dict[str, str] = {}
    for event in events:
        if isinstance(event, SpeakerMerged) and event.speaker != event.into:
            into = {speaker: event.into if name == event.speaker else name for speaker, name in into.items()}
            into[event.speaker] = event.into
            into.pop(event.into, None)  # this name is in use again
    return into
