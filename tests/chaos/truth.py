"""What a session left in the durable log, held against an undisturbed run of the same conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise

import redis

from stream.bus.keys import Keys
from stream.events import Degraded, Emotion, Event, SessionEnded, UtteranceFailed, UtteranceHeard, parse

SAME = 1e-4  # by which two probabilities may differ: batches of another size are summed up in another order


def durable_log(url: str, session: str) -> list[Event]:
    """Every entry of the session's Stream as it stands there, whatever is double."""
    client = redis.Redis.from_url(url, decode_responses=True)
    return [parse(entry["event"]) for _, entry in client.xrange(Keys(session).events)]  # type: ignore[union-attr]


def once(events: Sequence[Event]) -> list[Event]:
    """As a consumer sees them that drops ids it has seen."""
    return list({event.id: event for event in reversed(events)}.values())[::-1]


@dataclass
class Verdict:
    """Counts over sessions."""

    sessions: int = 0
    utterances: int = 0
    lost: int = 0
    """With neither a label nor a failure."""
    failed: int = 0
    """With a failure that says why, where the undisturbed run has a label."""
    doubled: int = 0
    """Events that stand in the log twice, with one id."""
    contradicted: int = 0
    """Of these, labels that say something else the second time."""
    disordered: int = 0
    """Labels that come before the one of an earlier utterance."""
    different: int = 0
    """Labels, provisional or final, that an undisturbed run gives otherwise, of the same modalities."""
    poorer: int = 0
    """Provisional labels that had to do with fewer modalities, as their events say."""
    final_lost: int = 0
    """Labelled, but never finally."""
    unended: int = 0
    """Sessions without their end."""
    errors: int = 0
    """Sessions whose end names an error."""
    restarts: int = 0
    """Processes that went on with a session."""
    notes: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Count another session in."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def clean(self) -> bool:
        """Nothing happened that no consumer should see."""
        broken = self.unended + self.errors + self.final_lost
        return not (self.lost + self.contradicted + self.disordered + self.different + broken)


def judge(log: Sequence[Event], truth: Sequence[Event] | None) -> Verdict:
    """One session. truth: the same conversation undisturbed; None where there is none (a live source)."""
    seen, verdict = once(log), Verdict(sessions=1)
    session = log[0].session if log else "?"
    verdict.doubled = len(log) - len(seen)
    verdict.contradicted = _contradictions(log)
    provisional, final = labels(seen, 0), labels(seen, 1)
    failed = {event.utterance for event in seen if isinstance(event, UtteranceFailed)}
    numbers = [event.utterance for event in seen if isinstance(event, Emotion) and event.trigger == "speech_ended"]
    verdict.disordered = sum(after < before for before, after in pairwise(numbers))
    end = next((event for event in seen if isinstance(event, SessionEnded)), None)
    verdict.restarts = sum(isinstance(e, Degraded) and "another process goes on" in e.reason for e in seen)
    verdict.unended, verdict.errors = int(end is None), int(end is not None and end.reason.startswith("error"))
    if verdict.unended or verdict.errors:
        verdict.notes.append(f"{session}: {end.reason if end else 'no end'}")
    known = labels(truth, 0) if truth is not None else None
    expected = set(known) if known is not None else _begun(seen) | set(range(end.utterances if end else 0))
    verdict.utterances = len(expected)
    verdict.lost = len(expected - set(provisional) - failed)
    verdict.failed = len((failed - _failed(truth)) - set(provisional))
    verdict.final_lost = len(set(provisional) - set(final)) if end is not None else 0
    if known is not None and truth is not None:
        for mine, theirs in ((provisional, known), (final, labels(truth, 1))):
            for number in mine.keys() & theirs.keys():
                if set(mine[number].modalities.used) < set(theirs[number].modalities.used):
                    verdict.poorer += mine is provisional
                elif not _alike(mine[number], theirs[number]):
                    verdict.different += 1
                    verdict.notes.append(
                        f"{session}: {mine[number].id} is {_short(mine[number])}, not {_short(theirs[number])}"
                    )
        verdict.different += len(provisional.keys() - known.keys())
    return verdict


def labels(events: Sequence[Event], revision: int) -> dict[int, Emotion]:
    """By utterance."""
    return {
        e.utterance: e for e in events if isinstance(e, Emotion) and e.revision == revision and e.trigger != "interval"
    }


def _failed(events: Sequence[Event] | None) -> set[int]:
    return {event.utterance for event in events or () if isinstance(event, UtteranceFailed)}


def _begun(events: Sequence[Event]) -> set[int]:
    return {e.utterance for e in events if isinstance(e, UtteranceHeard | Emotion | UtteranceFailed)}


def _contradictions(log: Sequence[Event]) -> int:
    said: dict[str, Emotion] = {}
    wrong: Counter[str] = Counter()
    for event in log:
        if isinstance(event, Emotion) and event.trigger != "interval":
            first = said.setdefault(event.id, event)
            wrong[event.id] += not _alike(first, event)
    return wrong.total()


def _alike(one: Emotion, other: Emotion) -> bool:
    heard = (one.speaker, one.audio_start, one.audio_end, one.text) == (
        other.speaker, other.audio_start, other.audio_end, other.text,
    )  # fmt: skip
    far = max(abs(one.probabilities[name] - other.probabilities[name]) for name in one.probabilities)
    return heard and far <= SAME


def _short(event: Emotion) -> str:
    return f"{event.speaker} {event.audio_start}-{event.audio_end} {event.emotion} {event.modalities.used}"
