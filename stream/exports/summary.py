"""Summary of a session: shares of speech, emotions, moods, the strongest moments, and the quality of hearing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from stream.appearance import appearance, valence
from stream.events import (
    Alert,
    Degraded,
    Emotion,
    Event,
    Lag,
    SessionEnded,
    SessionStarted,
    UtteranceFailed,
    UtteranceHeard,
)
from stream.exports.labelled import ExportError, Labelled, emotions, labelled

MOOD_BINS = 60
STRONGEST = 5  # moments and turns
MIN_DISTANCE_S = 10.0  # between two moments
PREVIOUS = 5  # emotions of a speaker before the present one
MAX_REASONS = 3  # of a modality that is missing
MAX_NOTICES = 50
NEUTRAL = appearance("neutral")


class Present(BaseModel):
    """The latest label of a speaker."""

    utterance: int
    time: float
    """Start of the utterance, seconds of media."""
    emotion: str
    probability: float
    uncertain: bool
    alternative: str | None
    """The second likeliest emotion; null if there is one alone."""


class Speaker(BaseModel):
    """One speaker. Speech is the sum of utterances, those without a label among them, also where several overlap."""

    name: str
    seconds: float
    """Seconds of speech."""
    share: float
    """Share of the speech of all speakers, 0 … 1."""
    utterances: int
    emotions: dict[str, int]
    """Number of utterances by emotion, of those that there were."""
    valence: float | None
    """Mean over the labeled utterances, -1 … 1; null if there is none."""
    present: Present | None
    previous: list[str]
    """The last five emotions before the present one, oldest first."""


class Mood(BaseModel):
    """A stretch of the session, seconds of media."""

    start: float
    end: float
    valence: float | None
    """Mean over its labeled utterances, weighted by their seconds in it, -1 … 1; null if there is none."""
    utterances: int
    """Labeled utterances that it has a part of."""


class LastUtterance(BaseModel):
    """The latest utterance; its emotion is null while it has no label."""

    utterance: int
    time: float
    speaker: str
    text: str | None
    emotion: str | None


class Moment(BaseModel):
    """A strongly expressed emotion."""

    utterance: int
    time: float
    speaker: str
    text: str | None
    emotion: str
    probability: float


class Turn(BaseModel):
    """A change of one speaker from one utterance to the next."""

    utterance: int
    """The later one."""
    time: float
    speaker: str
    text: str | None
    before: str
    emotion: str
    change: float
    """Valence of the later utterance minus that of the earlier one, -2 … 2."""


class Missing(BaseModel):
    """A modality of the checkpoint that labels had to do without."""

    share: float
    """Share of the labeled utterances, 0 … 1."""
    reasons: list[str]
    """The most common ones, at most three."""


class Notice(BaseModel):
    """A loss, a delay or a recovery, at seconds of media."""

    time: float
    text: str


class Hearing(BaseModel):
    """Quality of what the labels were made from."""

    asr: str | None
    """Speech recognizer; null if there is none, or the session's beginning was removed from Redis."""
    missing: dict[str, Missing]
    """By modality, of those that were missing at all."""
    failed: int
    """Utterances that ended without their final label."""
    notices: list[Notice]
    """The latest 50, oldest first."""


class Summary(BaseModel):
    """Summary of a session, or of its last seconds. Times are seconds of media, those of utterances their start."""

    session: str
    start: float
    end: float
    utterances: int
    unlabelled: int
    uncertain: int
    emotions: dict[str, int]
    """Number of utterances by emotion, of those that there were, in the order of the checkpoint."""
    speakers: list[Speaker]
    """In order of their first utterance."""
    mood: list[Mood]
    """60 equal stretches; none while nothing was heard."""
    last: LastUtterance | None
    moments: list[Moment]
    """The five strongest, strongest first: certain labels other than neutral of finished utterances, by their strength,
    the larger of |valence| and the probability of the emotion (surprise has no valence). None lies within 10 s of a
    stronger one."""
    turns: list[Turn]
    """The five strongest, strongest first: changes of one speaker's emotion from a certain label of a finished
    utterance to the next such, by the difference of their valence."""
    hearing: Hearing
    alerts: list[Alert] | None = None
    """Alerts of the session's own rules among its last seconds; null where the whole session is summarized (they are
    among its events on request)."""


class _Entry(NamedTuple):
    """An utterance with what it counts for."""

    utterance: Labelled
    label: Emotion | None
    valence: float
    seconds: float
    """Within the time that is summarized."""


def summary(events: Sequence[Event], last: float | None = None, end: float | None = None) -> Summary:
    """Summary of a session's events; of one without utterances, zeros and nulls.

    last: seconds of media before the end that are summarized (None: all of them); an utterance counts with the part of
    it that lies within. end: seconds of media that were processed, where that is known to be more than the events tell.

    Raises ExportError if there are no events.
    """
    if not events:
        raise ExportError("no events: nothing to summarize")
    utterances = labelled(events) if any(isinstance(each, _OF_UTTERANCES) for each in events) else []
    durations = [event.duration for event in events if isinstance(event, SessionEnded)]
    end = max([0.0, end or 0.0, *durations, *(utterance.end for utterance in utterances)])
    start = max(0.0, end - last) if last is not None else 0.0
    entries = [_entry(utterance, start) for utterance in utterances if last is None or utterance.end > start]
    labels = [entry.label for entry in entries if entry.label is not None]
    names = emotions(events) if labels else []
    return Summary(
        session=events[0].session,
        start=round(start, 3),
        end=round(end, 3),
        utterances=len(entries),
        unlabelled=len(entries) - len(labels),
        uncertain=sum(label.uncertain for label in labels),
        emotions=_counts(labels, names),
        speakers=_speakers(entries, names),
        mood=_mood(entries, start, end),
        last=_last(entries),
        moments=_moments(entries),
        turns=_turns(entries),
        hearing=_hearing(events, entries, start if last is not None else None),
    )


_OF_UTTERANCES = (UtteranceHeard, Emotion, UtteranceFailed)


def notices(events: Sequence[Event]) -> list[Notice]:
    """All losses, delays and recoveries, in the order of the events."""
    found = []
    for event in events:
        if isinstance(event, Degraded):
            found.append(Notice(time=event.audio_time, text=event.reason))
        elif isinstance(event, Lag):
            found.append(Notice(time=event.audio_time, text=f"{event.seconds:.1f} s behind the source"))
    return found


def second(label: Emotion) -> str | None:
    """The likeliest emotion but the label's own; None if there is no other."""
    others = {emotion: share for emotion, share in label.probabilities.items() if emotion != label.emotion}
    return max(others, key=others.__getitem__) if others else None


def _entry(utterance: Labelled, start: float) -> _Entry:
    label = utterance.label
    worth = valence(label.probabilities) if label is not None else 0.0
    return _Entry(utterance, label, worth, utterance.end - max(start, utterance.start))


def _counts(labels: Sequence[Emotion], names: Sequence[str]) -> dict[str, int]:
    counts = Counter(label.emotion for label in labels)
    return {name: counts[name] for name in names if counts[name]}


def _speakers(entries: Sequence[_Entry], names: Sequence[str]) -> list[Speaker]:
    by_name = defaultdict(list)
    for entry in entries:
        by_name[entry.utterance.speaker].append(entry)
    total = sum(entry.seconds for entry in entries)
    return [_speaker(name, own, total, names) for name, own in by_name.items()]


def _speaker(name: str, entries: Sequence[_Entry], total: float, names: Sequence[str]) -> Speaker:
    """One speaker; total: seconds of speech of all."""
    seconds = sum(entry.seconds for entry in entries)
    labeled = [entry for entry in entries if entry.label is not None]
    labels = [entry.label for entry in entries if entry.label is not None]
    return Speaker(
        name=name,
        seconds=round(seconds, 3),
        share=round(seconds / total, 4),
        utterances=len(entries),
        emotions=_counts(labels, names),
        valence=round(sum(entry.valence for entry in labeled) / len(labeled), 4) if labeled else None,
        present=_present(labels[-1], labeled[-1].utterance) if labels else None,
        previous=[label.emotion for label in labels[-1 - PREVIOUS : -1]],
    )


def _present(label: Emotion, utterance: Labelled) -> Present:
    return Present(
        utterance=utterance.utterance,
        time=utterance.start,
        emotion=label.emotion,
        probability=label.probabilities[label.emotion],
        uncertain=label.uncertain,
        alternative=second(label),
    )


def _mood(entries: Sequence[_Entry], start: float, end: float) -> list[Mood]:
    width = (end - start) / MOOD_BINS
    if width <= 0:
        return []
    edges = [start + number * width for number in range(MOOD_BINS)] + [end]
    weights, sums, counts = ([0.0] * MOOD_BINS for _ in range(3))
    for utterance, label, worth, _ in entries:
        if label is None:
            continue
        first = max(0, min(MOOD_BINS - 1, int((utterance.start - start) / width)))
        last = max(0, min(MOOD_BINS - 1, int((utterance.end - start) / width)))
        for number in range(first, last + 1):
            seconds = min(utterance.end, edges[number + 1]) - max(utterance.start, edges[number])
            if seconds > 0:
                weights[number] += seconds
                sums[number] += seconds * worth
                counts[number] += 1
    return [
        Mood(
            start=round(edges[number], 3),
            end=round(edges[number + 1], 3),
            valence=round(sums[number] / weights[number], 4) if weights[number] else None,
            utterances=int(counts[number]),
        )
        for number in range(MOOD_BINS)
    ]


def _last(entries: Sequence[_Entry]) -> LastUtterance | None:
    if not entries:
        return None
    utterance, label = entries[-1].utterance, entries[-1].label
    return LastUtterance(
        utterance=utterance.utterance,
        time=utterance.start,
        speaker=utterance.speaker,
        text=utterance.text,
        emotion=label.emotion if label is not None else None,
    )


def _certain(entries: Sequence[_Entry]) -> Iterator[tuple[Labelled, Emotion, float]]:
    """Finished utterances with certain labels, and their valence."""
    for utterance, label, worth, _ in entries:
        if label is not None and not label.uncertain and label.trigger != "interval":
            yield utterance, label, worth


def _moments(entries: Sequence[_Entry]) -> list[Moment]:
    strong = [
        (max(abs(worth), label.probabilities[label.emotion]), utterance, label)
        for utterance, label, worth in _certain(entries)
        if appearance(label.emotion) != NEUTRAL
    ]
    chosen: list[Moment] = []
    for _, utterance, label in sorted(strong, key=lambda each: each[0], reverse=True):
        if len(chosen) == STRONGEST:
            break
        if all(abs(utterance.start - other.time) >= MIN_DISTANCE_S for other in chosen):
            chosen.append(
                Moment(
                    utterance=utterance.utterance,
                    time=utterance.start,
                    speaker=utterance.speaker,
                    text=utterance.text,
                    emotion=label.emotion,
                    probability=label.probabilities[label.emotion],
                )
            )
    return chosen


def _turns(entries: Sequence[_Entry]) -> list[Turn]:
    before: dict[str, tuple[str, float]] = {}
    turns = []
    for utterance, label, worth in _certain(entries):
        emotion, earlier = before.get(utterance.speaker, (label.emotion, worth))
        before[utterance.speaker] = label.emotion, worth
        if emotion != label.emotion and (change := round(worth - earlier, 4)):
            turns.append(
                Turn(
                    utterance=utterance.utterance,
                    time=utterance.start,
                    speaker=utterance.speaker,
                    text=utterance.text,
                    before=emotion,
                    emotion=label.emotion,
                    change=change,
                )
            )
    return sorted(turns, key=lambda turn: abs(turn.change), reverse=True)[:STRONGEST]


def _hearing(events: Sequence[Event], entries: Sequence[_Entry], since: float | None) -> Hearing:
    """since: seconds of media from which on notices count; None: all."""
    begun = next((event for event in events if isinstance(event, SessionStarted)), None)
    labels = [entry.label for entry in entries if entry.label is not None]
    reasons: dict[str, list[str | None]] = defaultdict(list)
    for label in labels:
        for modality in label.modalities.missing:
            reasons[modality].append(label.modalities.reasons.get(modality))
    return Hearing(
        asr=begun.encoders.get("asr") if begun is not None else None,
        missing={
            modality: Missing(
                share=round(len(given) / len(labels), 4),
                reasons=[each for each, _ in Counter(filter(None, given)).most_common(MAX_REASONS)],
            )
            for modality, given in sorted(reasons.items())
        },
        failed=sum(entry.utterance.failed is not None for entry in entries),
        notices=[each for each in notices(events) if since is None or each.time >= since][-MAX_NOTICES:],
    )
