"""Corrected labels of sessions as conversations of a table: the corrected utterances have their right label, and all
others are their context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.data.tables import Dialogue, Row
from model.labels import LABEL_SETS, SENTIMENT, SENTIMENTS, LabelSet
from stream.bus.annotations import Correction
from stream.events import Emotion, Event
from stream.exports.labelled import Labelled, labelled, opening
from workers.errors import UsageError


@dataclass(frozen=True)
class Corrected:
    """A session as a conversation of a table."""

    labels: LabelSet
    dialogue: Dialogue
    corrected: int
    """Utterances with a label: those that were corrected."""
    unusable: list[int]
    """Utterances whose correction is of no use: they are not in the events, or their new label is not the session's."""


def corrected(session: str, events: Sequence[Event], corrections: Sequence[Correction]) -> Corrected:
    """All utterances of a session in order, of which those have a label that were corrected, and at least one is.

    Utterances that failed are left out, unless they were corrected: the graph never had them. Raises UsageError for a
    session that makes no conversation of a table, and ExportError for one without utterances.
    """
    started = opening(events)
    if started is None:
        raise UsageError(f"{session}: its first event is not in Redis any more, and with it the labels that it has")
    if started.redacted:
        raise UsageError(f"{session}: redacted, so there are no words to learn from or to score")
    labels = next((each for each in LABEL_SETS.values() if each.emotions == tuple(started.emotions)), None)
    if labels is None:
        raise UsageError(f"{session}: its labels {', '.join(started.emotions)} are of none of {', '.join(LABEL_SETS)}")
    wanted = {each.utterance: each.emotion for each in corrections if each.emotion in labels.emotions}
    recognized = not (started.encoders.get("asr") or "").startswith("transcript ")
    entries = [entry for entry in labelled(events) if entry.label is not None or entry.utterance in wanted]
    used = {entry.utterance for entry in entries} & wanted.keys()
    if not used:
        raise UsageError(f"{session}: no correction of it is of an utterance in Redis and one of its labels")
    rows = [_row(entry, wanted.get(entry.utterance, ""), labels, recognized) for entry in entries]
    unusable = sorted({each.utterance for each in corrections} - used)
    return Corrected(labels, Dialogue(session, rows), len(used), unusable)


def _row(entry: Labelled, emotion: str, labels: LabelSet, recognized: bool) -> Row:
    """The row of an utterance with its right label, "" for none."""
    sentiment = _sentiment(emotion, labels, entry.label) if emotion else ""
    words = entry.text or ""
    return Row(entry.speaker, words, emotion, sentiment, None, entry.start, entry.end, recognized=recognized)


def _sentiment(emotion: str, labels: LabelSet, label: Emotion | None) -> str:
    """The sentiment of an emotion; MELD's surprise, which may have any, keeps the one that the session gave it."""
    if (labels.name, emotion) == ("meld", "surprise") and label is not None and label.sentiment in SENTIMENTS:
        return label.sentiment
    return SENTIMENT[labels.name].get(emotion, "negative")
