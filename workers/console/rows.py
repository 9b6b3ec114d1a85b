"""Rows of a terminal's table, one an utterance: its latest label, and its words so far while somebody talks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from rich.text import Text

from stream.appearance import appearance
from stream.events import Emotion, Event, UtteranceFailed, UtterancePartial

BAR = 8  # characters of a full bar


@dataclass(frozen=True)
class Row:
    """One utterance; at least one of the two is there."""

    label: Emotion | None = None
    partial: UtterancePartial | None = None
    """The last words so far, while the utterance goes on."""

    @property
    def latest(self) -> Emotion | UtterancePartial:
        """The event that has its speaker, start and words."""
        event = self.partial or self.label
        assert event is not None
        return event

    @property
    def words(self) -> Text:
        """The words, those that may still change dim and italic. Text, not str: "[laughter]" is no markup."""
        text = self.latest.text if self.latest.text is not None else "…"
        stable = len(text) if self.partial is None else len(self.partial.stable)
        return Text.assemble(text[:stable], (text[stable:], "dim italic"))


def update(rows: OrderedDict[int, Row], event: Event, limit: int) -> None:
    """Take an event into the rows, by utterance, of which the last `limit` are kept."""
    match event:
        case UtterancePartial():
            rows[event.utterance] = replace(rows.get(event.utterance, Row()), partial=event)
        case Emotion():
            known = rows.get(event.utterance, Row())
            rows[event.utterance] = Row(event, known.partial if event.trigger == "interval" else None)
        case UtteranceFailed() if (known := rows.pop(event.utterance, Row())).label is not None:
            rows[event.utterance] = Row(known.label)
        case _:
            pass
    if len(rows) > limit:
        rows.popitem(last=False)


def verdict(label: Emotion) -> tuple[Text, Text, Text]:
    """Emotion with its symbol ("?" where it is uncertain, italic while provisional), its probability as a bar, and the
    sentiment. Only symbol and bar are colored: the ground of a terminal is not known, and words must read on it."""
    look, probability = appearance(label.emotion), label.probabilities[label.emotion]
    name = label.emotion + ("?" if label.uncertain else "")
    bar = ("█" * round(probability * BAR)).ljust(BAR, "·")
    return (
        Text.assemble((look.symbol, look.dark), " ", (name, "" if label.final else "italic")),
        Text.assemble((bar, look.dark), f" {probability:.2f}"),
        Text(label.sentiment),
    )
