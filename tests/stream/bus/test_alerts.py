"""Rules, alerts against a real Redis, and a webhook against a real HTTP server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis

from stream.bus import webhook
from stream.bus.alert_rules import AlertMonitor, Rule, RuleError, read_rules
from stream.bus.alerts import AlertPublisher
from stream.bus.connection import BusError, check_alerting
from stream.bus.webhook import Webhook
from stream.clock import VirtualClock
from stream.events import Alert, Emotion, SessionEnded, SpeakerMerged, parse
from tests.support.events import EMOTION
from tests.support.redis_servers import private_server

ANGRY = Rule(name="Angry customer!", emotion="anger", speaker="customer*", above=0.8, utterances=3)


def label(utterance: int, emotion: str = "anger", probability: float = 0.9, **changes: object) -> Emotion:
    update = {
        "id": f"s:{utterance}:0",
        "utterance": utterance,
        "speaker": "customer",
        "audio_start": 10.0 * utterance,
        "audio_end": 10.0 * utterance + 5,
        "emotion": emotion,
        "probabilities": {emotion: probability, "joy" if emotion != "joy" else "anger": 1 - probability},
    }
    return EMOTION.model_copy(update=update | changes)


def merged(speaker: str, into: str) -> SpeakerMerged:
    return SpeakerMerged(id=f"s:merged:{speaker}", session="s", speaker=speaker, into=into)


def utterances(rule: Rule, *events: Emotion | SpeakerMerged) -> list[list[int]]:
    monitor = AlertMonitor([rule])
    return [alert.utterances for event in events for alert in monitor.alerts_for(event)]


def test_so_many_in_a_row_set_it_off() -> None:
    monitor = AlertMonitor([ANGRY])
    heard = [label(0, probability=0.95), label(1, speaker="agent", emotion="joy"), label(2, probability=0.85), label(3)]
    found = [alert for event in heard for alert in monitor.alerts_for(event)]
    assert found == [
        Alert(
            id="s:3:alert:angry-customer", session="s", rule="Angry customer!", speaker="customer", emotion="anger",
            audio_start=0, audio_end=35, utterances=[0, 2, 3], probability=0.85,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    "breaking",
    [label(2, "joy"), label(2, probability=0.8), label(2, "joy", 0.6, probabilities={"joy": 0.1, "anger": 0.9})],
)
def test_an_utterance_that_does_not_meet_it_breaks_the_run(breaking: Emotion) -> None:
    assert utterances(ANGRY, label(0), label(1), breaking, label(3), label(4)) == []
    assert utterances(ANGRY, label(0), label(1), breaking, label(3), label(4), label(5)) == [[3, 4, 5]]


def test_interim_and_later_labels_do_not_count() -> None:
    interim = label(2, trigger="interval")
    final = label(1, trigger="context", revision=1, final=True)
    calmer = label(0, "joy", trigger="context", revision=1, final=True)
    assert utterances(ANGRY, label(0), label(1), interim, final, calmer) == []
    assert utterances(ANGRY, label(0), label(1), calmer, label(2)) == [[0, 1, 2]]


def test_cooldown_is_of_media_time_and_of_one_speaker() -> None:
    rule = ANGRY.model_copy(update={"utterances": 1, "cooldown": 20.0})
    others = [label(n, speaker="customer 2") for n in (5, 6)]
    assert utterances(rule, *(label(n) for n in range(5)), *others) == [[0], [2], [4], [5]]
    assert utterances(rule.model_copy(update={"cooldown": 0.0}), label(0), label(1)) == [[0], [1]]


def test_speaker_pattern_and_certainty() -> None:
    once = ANGRY.model_copy(update={"utterances": 1})
    assert utterances(once, label(0, speaker="agent")) == []
    doubtful = label(0, uncertain=True)
    assert utterances(once, doubtful) == [[0]]
    assert utterances(once.model_copy(update={"certain": True}), doubtful) == []


def test_a_merged_speaker_is_followed() -> None:
    one, two = "customer", "speaker 2"
    assert utterances(ANGRY, label(0), label(1, speaker=two), label(2, speaker=two), merged(two, one)) == [[0, 1, 2]]
    assert utterances(ANGRY, label(0), merged(one, "customer 1"), label(1), label(2)) == [[0, 1, 2]]
    broken = [label(0), label(1), label(2, "joy", speaker=two), merged(two, one), label(3), label(4)]
    assert utterances(ANGRY, *broken) == []
    assert utterances(ANGRY, *broken, label(5)) == [[3, 4, 5]]
    chain = [merged("a", "b"), merged("b", one), label(0, speaker="a"), label(1, speaker="b"), label(2)]
    assert utterances(ANGRY, *chain) == [[0, 1, 2]]
    quiet = ANGRY.model_copy(update={"cooldown": 0.0})
    assert utterances(quiet, label(0), label(1), label(2), merged(two, one)) == [[0, 1, 2]], "once"


def test_sessions_are_apart_and_forgotten_when_over() -> None:
    monitor = AlertMonitor([ANGRY])
    for event in (label(0), label(1), label(2, session="other")):
        assert monitor.alerts_for(event) == []
    monitor.alerts_for(
        SessionEnded(id="s:ended", session="s", reason="x", duration=1, utterances=2, failed=0, counts={})
    )
    assert monitor.alerts_for(label(2)) == []


def test_rules_are_read(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nname = "Злой клиент"\nemotion = "anger"\nabove = 0.8\nutterances = 2\n')
    (rule,) = read_rules(file)
    assert rule == Rule(name="Злой клиент", emotion="anger", above=0.8, utterances=2, cooldown=60)
    assert rule.slug.isascii() and rule.slug


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]\n", "rules.toml: not valid TOML"),
        ("", "rules.toml: [[rule]]: field required"),
        ("rule = 3", "rules.toml: [[rule]]: input should be a valid list"),
        ('[[rule]]\nname = "a"', "rule 1 ('a'): emotion: field required"),
        ('[[rule]]\nemotion = "a"', "rule 1: name: field required"),
        ('[[rule]]\nname = "!"\nemotion = "a"', "rule 1 ('!'): name: "),
        ('[[rule]]\nname = "a"\nemotion = "x"\nabove = 80', "rule 1 ('a'): above: input should be less than 1"),
        ('[[rule]]\nname = "a"\nemotion = "x"\nabove = nan', "rule 1 ('a'): above: "),
        ('[[rule]]\nname = "a"\nemotion = "x"\nutterances = "3"', "rule 1 ('a'): utterances: input should be a valid"),
        ('[[rule]]\nname = "a"\nemotion = "x"\nabvoe = 0.8', "rule 1 ('a'): abvoe: extra inputs are not permitted"),
        ('[[rule]]\nname = "a"\nemotion = "x"\n[[rule]]\nname = "A"\nemotion = "y"', "rule 2 ('A'): another rule has"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_one_clear_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(RuleError) as refusal:
        read_rules(file)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def alert(number: int = 0) -> Alert:
    return Alert(
        id=f"s:{number}:alert:angry", session="s", rule="angry", speaker="customer", emotion="anger",
        audio_start=0, audio_end=1, utterances=[number], probability=0.9,
    )  # fmt: skip


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


async def test_many_announce_and_one_is_published(redis_url: str, prefix: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    channel = client.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(f"{prefix}:alerts")
    channel.get_message(timeout=1)
    publishers = [AlertPublisher(redis_url, prefix) for _ in range(8)]
    published = await asyncio.gather(*(publisher.publish(alert()) for publisher in publishers))
    assert sum(published) == 1
    publishers.append(AlertPublisher(redis_url, prefix))
    assert not await publishers[-1].publish(alert()), "nor when one is started again"
    assert await publishers[0].publish(alert(1))
    stored = [fields["event"] for _, fields in client.xrange(f"{prefix}:alerts")]
    assert [parse(payload) for payload in stored] == [alert(0), alert(1)]
    assert [channel.get_message(timeout=1)["data"] for _ in stored] == stored
    assert channel.get_message(timeout=0.1) is None
    for key in (f"{prefix}:alert:{{{prefix}:alerts}}:{alert().id}", f"{prefix}:alerts"):
        assert 0 < client.ttl(key) <= 86400
    for publisher in publishers:
        await publisher.aclose()


async def test_a_lost_answer_does_not_lose_the_alert(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis did it, we did not hear: it is still ours, and not doubled."""
    clock = VirtualClock(date=time.time())
    publisher = AlertPublisher(redis_url, prefix, clock=clock)
    publish, tries = publisher._publish, []

    async def deaf(alert: Alert) -> bool:
        done = await publish(alert)
        tries.append(done)
        if len(tries) == 1:
            raise ConnectionError
        return done

    monkeypatch.setattr(publisher, "_publish", deaf)
    assert await publisher.publish(alert())
    assert tries == [True, True] and clock.now() == 1
    assert redis.Redis.from_url(redis_url).xlen(f"{prefix}:alerts") == 1
    await publisher.aclose()


@pytest.mark.integration
async def test_a_refusal_is_no_reason_to_wait() -> None:
    with private_server("--requirepass", "right") as url:
        async with aclosing(AlertPublisher(url)) as publisher:
            with pytest.raises(redis.AuthenticationError):
                await asyncio.wait_for(publisher.publish(alert()), 5)


class Receiver(ThreadingHTTPServer):
    """Answers with `answers` in turn, then with 204."""

    def __init__(self, *answers: tuple[int, dict[str, str]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.go = threading.Event()
        self.go.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/secret-path"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.go.wait(10)
        self.server.requests.append((dict(self.headers), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


async def test_a_webhook_is_signed(receiver: Receiver) -> None:
    told: list[str] = []
    hook = Webhook(receiver.url, "hush", told.append)
    hook.post(alert())
    await hook.aclose()
    ((headers, body),) = receiver.requests
    assert json.loads(body) == json.loads(alert().wire()) and told == []
    signed = headers["X-Undertone-Timestamp"].encode() + b"." + body
    assert headers["X-Undertone-Signature"] == "sha256=" + hmac.new(b"hush", signed, hashlib.sha256).hexdigest()
    assert abs(int(headers["X-Undertone-Timestamp"]) - time.time()) < 10
    assert headers["X-Undertone-Id"] == alert().id and headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("answers", "tries", "message"),
    [
        ([(503, {}), (429, {}), (500, {})], 4, ""),
        ([(404, {})], 1, "s:0:alert:angry not delivered: HTTP 404"),
        ([(302, {"Location": "/elsewhere"})], 1, "not delivered: HTTP 302"),
        ([(500, {})] * 9, 8, "not delivered: HTTP 500, tried 8 times"),
    ],
)
async def test_what_may_pass_is_tried_again(
    receiver: Receiver, answers: list[tuple[int, dict[str, str]]], tries: int, message: str
) -> None:
    told: list[str] = []
    receiver.answers, clock = list(answers), VirtualClock()
    hook = Webhook(receiver.url, "hush", told.append, clock)
    hook.post(alert())
    await hook.aclose()
    assert len(receiver.requests) == tries and clock.now() == sum(webhook.RETRY_PAUSES_S[: tries - 1])
    assert len(told) == bool(message) and all(message in line and "secret-path" not in line for line in told)
    assert len({headers["X-Undertone-Id"] for headers, _ in receiver.requests}) == 1


async def test_retry_after_is_honoured(receiver: Receiver) -> None:
    clock = VirtualClock(date=1_800_000_000)
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(clock.date() + 100))
    receiver.answers = [(429, {"Retry-After": wait}) for wait in ("40", soon, "soon", "9" * 400)]
    hook = Webhook(receiver.url, "hush", print, clock)
    hook.post(alert())
    await hook.aclose()
    sent = [int(headers["X-Undertone-Timestamp"]) - 1_800_000_000 for headers, _ in receiver.requests]
    usual = webhook.RETRY_PAUSES_S[2]
    assert sent == [0, 40, 100, 100 + usual, 100 + usual + webhook.MAX_RETRY_AFTER_S]


async def test_nobody_there_is_told_once() -> None:
    told: list[str] = []
    hook = Webhook("http://127.0.0.1:1/x", "hush", told.append, VirtualClock())
    hook.post(alert())
    await hook.aclose()
    assert told == ["webhook 127.0.0.1: s:0:alert:angry not delivered: ConnectionError, tried 8 times"]


async def test_a_slow_webhook_delays_no_publishing_and_drops_are_counted(
    receiver: Receiver, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "MAX_QUEUED", 3)
    told: list[str] = []
    hook = Webhook(receiver.url, "hush", told.append)
    publisher = AlertPublisher(redis_url, prefix, hook)
    receiver.go.clear()
    started = time.monotonic()
    assert all([await publisher.publish(alert(n)) for n in range(10)])
    assert time.monotonic() - started < 2
    assert redis.Redis.from_url(redis_url).xlen(f"{prefix}:alerts") == 10
    receiver.go.set()
    await hook.aclose()
    await publisher.aclose()
    assert hook.dropped == len(told) == 10 - len(receiver.requests) and hook.dropped >= 6
    assert json.loads(receiver.requests[-1][1])["id"] == "s:9:alert:angry", "the newest get through"


async def test_a_webhook_gets_each_alert_once_whoever_published_it(
    receiver: Receiver, redis_url: str, prefix: str
) -> None:
    hooks = [Webhook(receiver.url, "hush", print) for _ in range(2)]
    async with aclosing(AlertPublisher(redis_url, prefix)) as publisher:
        await publisher.publish(alert())
    for hook in hooks:
        async with aclosing(AlertPublisher(redis_url, prefix, hook)) as publisher:
            assert not await publisher.publish(alert())
        await hook.aclose()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("url", ["", "localhost/hook", "ftp://host/x", "http://", "http://[::1/x"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(RuleError, match="webhook: an address"):
        Webhook(url, "hush", print)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["watch", "multi", "exec", "xadd", "publish"])
async def test_renamed_commands_are_told_before_the_first_alert(name: str) -> None:
    with private_server("--rename-command", name, "") as url:
        with pytest.raises(BusError, match=f"refuses alerts: .*unknown command '{name.upper()}'"):
            await check_alerting(url)
        assert redis.Redis.from_url(url).dbsize() == 0


@pytest.mark.integration
@pytest.mark.parametrize(
    ("user", "refusal"),
    [
        ({"channels": ["undertone:{*"]}, "PUBLISH: .*channel"),
        ({"commands": ["+@read", "+@connection"]}, "'watch' command"),
        ({"keys": ["%R~undertone:*", "~undertone:{*"]}, "no permissions"),
        ({}, None),
    ],
)
async def test_who_may_not_publish_alerts_hears_so_before_the_first(
    redis_url: str, user: dict[str, list[str]], refusal: str | None
) -> None:
    admin, name, prefix = redis.Redis.from_url(redis_url), secrets.token_hex(4), f"undertone:{secrets.token_hex(4)}"
    allowed = {"keys": ["~undertone:*"], "channels": ["undertone:*"], "commands": ["+@all"]} | user
    rules = [rule if "~" in rule else f"~{rule}" for rule in allowed["keys"]]
    rules += [f"&{channel}" for channel in allowed["channels"]] + allowed["commands"]
    admin.execute_command("ACL", "SETUSER", name, "on", ">right", "resetchannels", *rules)
    url = redis_url.replace("//", f"//{name}:right@")
    try:
        if refusal is None:
            await check_alerting(url, prefix)
        else:
            with pytest.raises(BusError, match=f"refuses alerts: .*{refusal}"):
                await check_alerting(url, prefix)
    finally:
        admin.acl_deluser(name)
    assert not [*admin.scan_iter(f"{prefix}*")]
