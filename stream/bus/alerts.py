"""Alerts: rules over the labels of all sessions, each alert published once and handed to a webhook."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, WatchError

from stream.bus.connection import connect
from stream.bus.keys import PREFIX
from stream.bus.publisher import RETENTION_S
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.events import Alert, Emotion, Event, SessionEnded, SessionStarted, SpeakerMerged

MAX_ALERTS = 10_000  # alerts kept, roughly
MAX_WAITING = 1_000  # alerts that wait for a slow webhook before the oldest are given up and counted
RETRY_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # seconds between the tries to reach a webhook
MAX_RETRY_AFTER_S = 600.0  # seconds a webhook's Retry-After may ask for
WEBHOOK_TIMEOUT_S = 10.0  # seconds a webhook may take to answer


class RuleError(ValueError):
    """Rules or a webhook that cannot be used; the message is one line for the user."""

    exit_code, http_status = 2, 422


class Rule(BaseModel):
    """So many utterances of one speaker in a row, each labelled with an emotion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(pattern=r"\w", max_length=100)
    emotion: str = Field(min_length=1)
    speaker: str = "*"
    """Shell pattern; upper and lower case differ."""
    above: float = Field(0.0, ge=0, lt=1, allow_inf_nan=False)
    """The probability of the emotion is higher than this."""
    utterances: int = Field(1, ge=1, le=100)
    cooldown: float = Field(60.0, ge=0, allow_inf_nan=False)
    """Seconds of media before the same speaker of a session sets it off again."""
    certain: bool = False
    """Uncertain labels do not count."""

    @property
    def slug(self) -> str:
        """The name as it stands in ids, ASCII."""
        return quote(re.sub(r"\W+", "-", self.name.casefold()).strip("-"))

    def met_by(self, label: Emotion) -> bool:
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
        raise RuleError(f"{file}: not TOML ({error})") from None
    try:
        rules = _File.model_validate(values).rule
    except ValidationError as error:
        first = error.errors()[0]
        raise RuleError(f"{file}: {_place(values, first['loc'])}{first['msg'].lower()}") from None
    slugs = [rule.slug for rule in rules]
    for number, rule in enumerate(rules):
        if rule.slug in slugs[:number]:
            raise RuleError(f"{file}: rule {number + 1} ({rule.name!r}): there is one of that name already")
    return rules


def _place(values: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """Where a file is wrong, as "rule 2 ('angry customer'): above: "."""
    match location:
        case ("rule", int(number), *rest):
            table = values["rule"][number]
            name = f" ({table['name']!r})" if isinstance(table, dict) and "name" in table else ""
            return f"rule {number + 1}{name}: " + "".join(f"{part}: " for part in rest)
        case _:
            return "".join(f"[[{part}]]: " for part in location)


class _Met(NamedTuple):
    """An utterance that met a rule."""

    utterance: int
    probability: float
    start: float
    end: float


@dataclass
class _Tally:
    """What a rule knows of a speaker."""

    run: list[_Met] = field(default_factory=list)
    """The last utterances that met it in a row, no more than it needs."""
    broken: int = -1
    """The last utterance that did not."""
    alerted: float = -math.inf
    """Media time of the last alert."""


@dataclass
class _Session:
    names: dict[str, str] = field(default_factory=dict)
    """Speakers that turned out to be another."""
    tallies: dict[tuple[str, str], _Tally] = field(default_factory=dict)
    """By rule and speaker."""


def alerts_stream(prefix: str) -> str:
    """The Stream and the channel of all sessions' alerts."""
    return f"{prefix}:alerts"


def marker(prefix: str, alert_id: str) -> str:
    """The key that says who has published an alert, and what the keys of webhooks' claims begin with."""
    # The braces are Redis Cluster's hash tag: on the node of the Stream, for their transaction.
    return f"{prefix}:alert:{{{alerts_stream(prefix)}}}:{alert_id}"


class Watchdog:
    """Holds rules against the events of any number of sessions, each session's in order.

    What counts is the label given as the speaker stops; interim and later labels do not. An utterance without a label
    neither counts nor breaks a run.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._sessions: dict[str, _Session] = {}

    def unknown(self, started: SessionStarted) -> list[Rule]:
        """Rules that a session can never meet: its labels do not have their emotion."""
        return [rule for rule in self._rules if rule.emotion not in started.emotions]

    def event(self, event: Event) -> list[Alert]:
        """The alerts that an event sets off."""
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
            tally.run.append(_Met(label.utterance, probability, label.audio_start, label.audio_end))
            del tally.run[: -rule.utterances]
        else:
            tally.run.clear()
            tally.broken = label.utterance
        return _due(rule, label.session, speaker, tally)

    def _merge(self, session: _Session, merged: SpeakerMerged) -> list[Alert | None]:
        into = session.names.get(merged.into, merged.into)
        if into == merged.speaker:
            return []
        for name, other in session.names.items():
            session.names[name] = into if other == merged.speaker else other
        session.names[merged.speaker] = into
        alerts = []
        for rule in self._rules:
            mine = session.tallies.setdefault((rule.slug, into), _Tally())
            theirs = session.tallies.pop((rule.slug, merged.speaker), _Tally())
            mine.broken = max(mine.broken, theirs.broken)
            mine.alerted = max(mine.alerted, theirs.alerted)
            mine.run = sorted(met for met in mine.run + theirs.run if met.utterance > mine.broken)[-rule.utterances :]
            alerts.append(_due(rule, merged.session, into, mine))
        return alerts


def _due(rule: Rule, session: str, speaker: str, tally: _Tally) -> Alert | None:
    if len(tally.run) < rule.utterances or not fnmatchcase(speaker, rule.speaker):
        return None
    first, last = tally.run[0], tally.run[-1]
    if last.end <= tally.alerted or last.end - tally.alerted < rule.cooldown:
        return None
    tally.alerted = last.end
    return Alert(
        id=f"{session}:{last.utterance}:alert:{rule.slug}",
        session=session,
        rule=rule.name,
        speaker=speaker,
        emotion=rule.emotion,
        audio_start=first.start,
        audio_end=last.end,
        utterances=[met.utterance for met in tally.run],
        probability=min(met.probability for met in tally.run),
    )


class Announcer:
    """Publishes alerts on the Stream and the channel `PREFIX:alerts`, each once within a day however many announce it.

    Waits (1 … 60 s) while Redis is away. For a webhook alerts are claimed apart: who only publishes takes none from it.
    """

    def __init__(
        self, url: str, prefix: str = PREFIX, webhook: Webhook | None = None, clock: Clock = MonotonicClock()
    ) -> None:
        self._client, self._clock = connect(url), clock
        self._prefix = prefix
        self._webhook = webhook
        self._name = secrets.token_hex(8)  # so that a try whose answer was lost is known as ours

    async def announce(self, alert: Alert) -> bool:
        """Publish an alert and queue it for the webhook; False when another has published it.

        Raises AuthenticationError or NoPermissionError, which waiting cannot mend.
        """
        pause = 1.0
        while True:
            try:
                published = await self._publish(alert)
                if self._webhook and await self._claim(f"{marker(self._prefix, alert.id)}:{self._webhook.digest}"):
                    self._webhook.post(alert)
                return published
            except (AuthenticationError, NoPermissionError):
                raise
            except (RedisError, OSError):
                await self._clock.sleep(pause)
                pause = min(60.0, 2 * pause)

    async def _publish(self, alert: Alert) -> bool:
        """Marker, Stream and channel in one transaction: whoever dies halfway leaves nothing that looks done."""
        mark, payload, name = marker(self._prefix, alert.id), alert.wire(), alerts_stream(self._prefix)
        fields: Any = {"id": alert.id, "type": alert.type, "event": payload}
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(mark)
            if (publisher := await pipe.get(mark)) is not None:
                return bool(publisher == self._name)
            # Each goes after a day, though others follow it; XADD bounds either the age or the number.
            oldest: Any = await pipe.xrange(name, count=1)
            yesterday = round(1000 * (self._clock.date() - RETENTION_S))
            pipe.multi()
            pipe.set(mark, self._name, ex=RETENTION_S)
            if oldest and int(oldest[0][0].partition("-")[0]) < yesterday:
                pipe.xadd(name, fields, minid=yesterday, approximate=False)
            else:
                pipe.xadd(name, fields, maxlen=MAX_ALERTS, approximate=True)
            pipe.expire(name, RETENTION_S)
            pipe.publish(name, payload)
            try:
                await pipe.execute()
            except WatchError:
                return False
            return True

    async def _claim(self, key: str) -> bool:
        taken = await self._client.set(key, self._name, nx=True, ex=RETENTION_S)
        return bool(taken or await self._client.get(key) == self._name)

    async def aclose(self) -> None:
        await self._client.aclose()


class Webhook:
    """POSTs alerts to an address, in order, from a bounded queue, so that a slow one delays nothing.

    `X-Undertone-Signature` is sha256=HMAC-SHA256(secret, `X-Undertone-Timestamp` + "." + body). `X-Undertone-Id` is
    the same in every try: drop what you have seen. Connection errors, 429 and 5xx are tried again, eight times in
    all; another answer is final. Messages name the host only: the rest of such an address is often a secret.
    """

    def __init__(self, url: str, secret: str, tell: Callable[[str], None], clock: Clock = MonotonicClock()) -> None:
        """Raises RuleError for an address that is none."""
        try:
            parts = urlsplit(url)
            self._host = parts.hostname or ""
        except ValueError:
            self._host = ""
        if not self._host or parts.scheme not in ("http", "https"):
            raise RuleError("webhook: an address as https://host/path is needed")
        self.digest = hashlib.sha256(url.encode()).hexdigest()[:12]
        """Tells webhooks apart without giving their address away."""
        self.dropped = 0
        """Alerts given up because the queue was full."""
        self._url, self._clock = url, clock
        self._secret = secret.encode()
        self._tell = tell
        self._queue: asyncio.Queue[Alert] = asyncio.Queue(MAX_WAITING)
        self._worker: asyncio.Task[None] | None = None

    def post(self, alert: Alert) -> None:
        """Queue an alert."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        if self._queue.full():
            oldest = self._queue.get_nowait()
            self._queue.task_done()
            self.dropped += 1
            self._tell(f"webhook {self._host} is too slow: {oldest.id} dropped, {self.dropped} so far")
        self._queue.put_nowait(alert)

    async def _work(self) -> None:
        while True:
            alert = await self._queue.get()
            if trouble := await self._deliver(alert):
                self._tell(f"webhook {self._host}: {alert.id} not delivered: {trouble}")
            self._queue.task_done()

    async def _deliver(self, alert: Alert) -> str:
        """Try until it is taken; returns what kept it from that, or ""."""
        trouble = ""
        for pause in (*RETRY_PAUSES_S, None):
            asked = 0.0
            try:
                answer = await asyncio.to_thread(self._send, alert)
            except (requests.ConnectionError, requests.Timeout) as error:
                trouble = type(error).__name__
            except requests.RequestException as error:
                return type(error).__name__
            else:
                if 200 <= answer.status_code < 300:
                    return ""
                trouble = f"HTTP {answer.status_code}"
                if answer.status_code != 429 and answer.status_code < 500:
                    return trouble
                asked = _retry_after(answer.headers.get("Retry-After", ""), self._clock.date())
            if pause is not None:
                await self._clock.sleep(max(pause, asked))
        return f"{trouble}, tried {len(RETRY_PAUSES_S) + 1} times"

    def _send(self, alert: Alert) -> requests.Response:
        body, timestamp = alert.wire().encode(), str(int(self._clock.date()))
        signature = hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Undertone-Id": alert.id,
            "X-Undertone-Signature": f"sha256={signature}",
            "X-Undertone-Timestamp": timestamp,
        }
        # Streamed and closed: what a stranger answers is not read.
        with requests.post(
            self._url, data=body, headers=headers, timeout=WEBHOOK_TIMEOUT_S, allow_redirects=False, stream=True
        ) as answer:
            return answer

    async def aclose(self, timeout: float = 10.0) -> None:
        """Wait until everything is delivered; after `timeout` seconds give the rest up and say how much that is."""
        try:
            await asyncio.wait_for(self._queue.join(), timeout)
        except TimeoutError:
            self._tell(f"webhook {self._host}: {self._queue.qsize() + 1} alerts not delivered")
        if self._worker is not None:
            await cancelled(self._worker)


def _retry_after(header: str, date: float) -> float:
    """Seconds, from a number or an HTTP date; 0 when it is neither."""
    try:
        seconds = float(header) if header.strip().isdigit() else parsedate_to_datetime(header).timestamp() - date
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(MAX_RETRY_AFTER_S, max(0.0, seconds))
