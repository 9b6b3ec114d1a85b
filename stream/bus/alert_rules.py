"""Alert rules over the labels of sessions: read from TOML, evaluated against events."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream.errors import InputError
from stream.events import Alert, Emotion, Event, SessionEnded, SessionStarted, SpeakerMerged


class RuleError(InputError, ValueError):
    """Unusable rules or webhook address."""


class Rule(BaseModel):
    """A condition: `utterances` consecutive utterances of one speaker, each labelled with `emotion`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(pattern=r"\w", max_length=100)
    emotion: str = Field(min_length=1, max_length=200)
    speaker: str = Field("*", max_length=200)
    """Shell pattern of the speaker's name, case-sensitive."""
    above: float = Field(0.0, ge=0, lt=1, allow_inf_nan=False)
    """Minimum probability of the emotion, exclusive."""
    utterances: int = Field(1, ge=1, le=100)
    cooldown: float = Field(60.0, ge=0, allow_inf_nan=False)
    """Seconds of media before the same speaker of a session can trigger the rule again."""
    certain: bool = False
    """Uncertain labels do not count."""

    @property
    def slug(self) -> str:
        """The name as used in event ids, ASCII."""
        return quote(re.sub(r"\W+", "-", self.name.casefold()).strip("-"))

    def met_by(self, label: Emotion) -> bool:
        """True if this single label satisfies the rule's emotion, probability and certainty."""
        return (
            label.emotion == self.emotion
            and label.probabilities[self.emotion] > self.above
            and not (self.certain and label.uncertain)
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rule: list[Rule] = Field(min_length=1)


def read_rules(file: Path) -> list[Rule]:
    """The `[[rule]]` tables of a TOML file. Raises RuleError, and OSError for a file that cannot be read."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleError(f"{file}: not valid TOML ({error})") from None
    try:
        rules = _File.model_validate(values).rule
    except ValidationError as error:
        first = error.errors()[0]
        raise RuleError(f"{file}: {_place(values, first['loc'])}{first['msg'].lower()}") from None
    try:
        check_names(rules)
    except RuleError as error:
        raise RuleError(f"{file}: {error}") from None
    return rules


def check_names(rules: Sequence[Rule]) -> None:
    """Raises RuleError for a rule whose name cannot be told from an earlier one's in ids of alerts."""
    slugs = [rule.slug for rule in rules]
    for number, rule in enumerate(rules):
        if rule.slug in slugs[:number]:
            raise RuleError(f"rule {number + 1} ({rule.name!r}): another rule has the same name")


def _place(values: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """The location of a mistake, such as "rule 2 ('angry customer'): above: "."""
    match location:
        case ("rule", int(number), *rest):
            table = values["rule"][number]
            name = f" ({table['name']!r})" if isinstance(table, dict) and "name" in table else ""
            return f"rule {number + 1}{name}: " + "".join(f"{part}: " for part in rest)
        case _:
            return "".join(f"[[{part}]]: " for part in location)


class _Match(NamedTuple):
    """An utterance whose label satisfies a rule."""

    utterance: int
    probability: float
    start: float
    end: float


@dataclass
class _Tally:
    """State of one rule for one speaker."""

    run: list[_Match] = field(default_factory=list)
    """The latest consecutive matches, at most as many as the rule needs."""
    last_miss: int = -1
    """Number of the last utterance that did not match."""
    alerted_at: float = -math.inf
    """Media time of the last alert."""


@dataclass
class _Session:
    """Rule state of one session."""

    names: dict[str, str] = field(default_factory=dict)
    """Final name of every speaker that was merged into another."""
    tallies: dict[tuple[str, str], _Tally] = field(default_factory=dict)
    """State for each (rule, speaker)."""


class AlertMonitor:
    """Evaluates rules against the events of any number of sessions, each session's events in order.

    Only the label at the end of speech counts; interim labels and later revisions do not. An utterance without a label
    neither counts nor interrupts a run.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._sessions: dict[str, _Session] = {}

    def unreachable_rules(self, started: SessionStarted) -> list[Rule]:
        """Rules that can never match in a session, because its label set lacks their emotion."""
        return [rule for rule in self._rules if rule.emotion not in started.emotions]

    def alerts_for(self, event: Event) -> list[Alert]:
        """Alerts triggered by an event."""
        session = self._sessions.setdefault(event.session, _Session())
        match event:
            case Emotion(trigger="speech_ended", revision=0):
                alerts = [self._label(rule, session, event) for rule in self._rules]
            case SpeakerMerged():
                alerts = self._merge(session, event)
            case SessionEnded():
                del self._sessions[event.session]
                return []
            case _:
                return []
        return [alert for alert in alerts if alert]

    def _label(self, rule: Rule, session: _Session, label: Emotion) -> Alert | None:
        speaker = session.names.get(label.speaker, label.speaker)
        tally = session.tallies.setdefault((rule.slug, speaker), _Tally())
        if rule.met_by(label):
            probability = label.probabilities[rule.emotion]
            tally.run.append(_Match(label.utterance, probability, label.audio_start, label.audio_end))
            del tally.run[: -rule.utterances]
        else:
            tally.run.clear()
            tally.last_miss = label.utterance
        return _alert_if_met(rule, label.session, speaker, tally)

    def _merge(self, session: _Session, merged: SpeakerMerged) -> list[Alert | None]:
        into = session.names.get(merged.into, merged.into)
        if into == merged.speaker:
            return []
        for name, other in session.names.items():
            session.names[name] = into if other == merged.speaker else other
        session.names[merged.speaker] = into
        alerts = []
        for rule in self._rules:
            target = session.tallies.setdefault((rule.slug, into), _Tally())
            source = session.tallies.pop((rule.slug, merged.speaker), _Tally())
            target.last_miss = max(target.last_miss, source.last_miss)
            target.alerted_at = max(target.alerted_at, source.alerted_at)
            matches = sorted(match for match in target.run + source.run if match.utterance > target.last_miss)
            target.run = matches[-rule.utterances :]
            alerts.append(_alert_if_met(rule, merged.session, into, target))
        return alerts


def _alert_if_met(rule: Rule, session: str, speaker: str, tally: _Tally) -> Alert | None:
    if len(tally.run) < rule.utterances or not fnmatchcase(speaker, rule.speaker):
        return None
    first, last = tally.run[0], tally.run[-1]
    if last.end <= tally.alerted_at or last.end - tally.alerted_at < rule.cooldown:
        return None
    tally.alerted_at = last.end
    return Alert(
        id=f"{session}:{last.utterance}:alert:{rule.slug}",
        session=session,
        rule=rule.name,
        speaker=speaker,
        emotion=rule.emotion,
        audio_start=first.start,
        audio_end=last.end,
        utterances=[match.utterance for match in tally.run],
        probability=min(match.probability for match in tally.run),
    )
