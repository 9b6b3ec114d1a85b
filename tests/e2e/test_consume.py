"""The commands and examples that read what sessions publish, as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import redis

from stream.events import Emotion, SessionEnded
from tests.support.buses import publish_events
from tests.support.commands import UNDERTONE, here
from tests.support.events import EMOTION
from tests.support.paths import DEMO, DEPLOY
from tests.support.redis_servers import private_server

EXAMPLES = DEPLOY / "examples"
RULES = '[[rule]]\nname = "joyful"\nemotion = "joy"\nutterances = 2\n'


def label(session: str, utterance: int, **changes: object) -> Emotion:
    update = {
        "id": f"{session}:{utterance}:0",
        "session": session,
        "utterance": utterance,
        "audio_end": 2.0 + utterance,
    }
    return EMOTION.model_copy(update=update | changes)


def ended(session: str) -> SessionEnded:
    return SessionEnded(
        id=f"{session}:ended", session=session, reason="end of source", duration=9, utterances=2, failed=0, counts={}
    )


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def session() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


def test_watch_in_a_pipe(redis_url: str, prefix: str) -> None:
    publish_events(redis_url, [label("one", 0), label("one", 1, text="[bold]"), ended("one")], prefix)
    publish_events(redis_url, [label("two", 0, speaker="Ben"), ended("two")], prefix)
    at = ["--redis", redis_url, "--prefix", prefix]
    alone = run(UNDERTONE, "watch", "one", *at)
    told = alone.stderr.splitlines()
    assert alone.returncode == 0 and told[0].startswith("a line: time, speaker, now/…/final"), "once"
    assert told[1:] == ["session one has ended: end of source: 2 utterances (0 without label) in 0:09.0 of media"]
    assert [line.split()[:3] for line in alone.stdout.splitlines()] == [["0:01.0", "Ann", "now"]] * 2
    assert "[bold]" in alone.stdout
    both = here("watch", "one", "two", *at)
    assert both.returncode == 0
    assert sorted(line.split()[0] for line in both.stdout.splitlines()) == ["one", "one", "two"]
    assert ["two", "0:01.0", "Ben"] in [line.split()[:3] for line in both.stdout.splitlines()]
    assert both.stderr.count("a line: ") == 1 and both.stderr.count(" has ended: ") == 2
    as_json = here("watch", "one", "two", "--json", *at)
    assert as_json.stderr == ""
    assert sorted(json.loads(line)["id"] for line in as_json.stdout.splitlines()) == [
        "one:0:0", "one:1:0", "one:ended", "two:0:0", "two:ended",
    ]  # fmt: skip
    unknown = here("watch", "one", "nobody", *at)
    assert unknown.returncode == 2
    assert unknown.stderr == "undertone: no session 'nobody' in this Redis; there are one, two\n"


def test_watch_without_a_session_follows_all_until_interrupted(redis_url: str, prefix: str) -> None:
    publish_events(redis_url, [label("one", 0), ended("one")], prefix)
    process = subprocess.Popen(
        [UNDERTONE, "watch", "--redis", redis_url, "--prefix", prefix],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("one ")
    publish_events(redis_url, [label("two", 0)], prefix)
    assert process.stdout.readline().startswith("two ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    legend, end = errors.splitlines()
    assert legend.startswith("a line: ") and end.startswith("session one has ended: ")


def screen(*command: str, until: str, keys: bytes) -> tuple[str, int]:
    """What a command draws on a terminal until a text is seen and keys are pressed, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="120", LINES="30")
        os.execv(command[0], command)
    drawn, pressed, deadline = b"", False, time.monotonic() + 30
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        try:
            drawn += os.read(terminal, 65536) if ready else b""
        except OSError:  # the other end is closed
            break
        if not pressed and until.encode() in drawn:
            os.write(terminal, keys)
            pressed = True
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return drawn.decode(errors="replace"), os.waitstatus_to_exitcode(status)


def test_watch_and_top_on_a_terminal(redis_url: str, prefix: str) -> None:
    publish_events(redis_url, [label("one", 0, text="Unmistakable")], prefix)
    at = ["--redis", redis_url, "--prefix", prefix]
    _, code = screen(UNDERTONE, "watch", *at, until="Unmistakable", keys=b"q")
    assert code == 0
    drawn, code = screen(UNDERTONE, "top", *at, until="1 live", keys=b"\x03")
    assert code == 130 and "slowest stage" in drawn and "Traceback" not in drawn


def test_top_in_a_pipe(redis_url: str, prefix: str) -> None:
    publish_events(redis_url, [label("one", 0)], prefix)
    at = ["--redis", redis_url, "--prefix", prefix]
    done = run(UNDERTONE, "top", *at)
    assert done.returncode == 0 and "vad 0.50 0.50" in done.stdout and "1 live" in done.stdout
    (load,) = json.loads(here("top", "--json", *at).stdout)["sessions"]
    assert load["session"] == "one" and load["latency"]["p50"] == 0.613


class Receiver(HTTPServer):
    """Keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[dict[str, object]] = []


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_alert(redis_url: str, prefix: str, tmp_path: Path, receiver: Receiver, how: signal.Signals) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    publish_events(redis_url, [label("one", 0), label("one", 1)], prefix)
    process = subprocess.Popen(
        [UNDERTONE, "alert", rules, "--redis", redis_url, "--prefix", prefix, "--json",
         "--webhook", f"http://127.0.0.1:{receiver.server_port}/"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"UNDERTONE_WEBHOOK_SECRET": "hush"},
    )  # fmt: skip
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first["id"] == "one:1:alert:joyful" and first["utterances"] == [0, 1]
    publish_events(redis_url, [label("two", 0), label("two", 1)], prefix)
    second = json.loads(process.stdout.readline())
    assert second["session"] == "two"
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors and "joyful: alerts on" in errors
    assert receiver.received == [first, second]
    stored = redis.Redis.from_url(redis_url, decode_responses=True).xrange(f"{prefix}:alerts")
    assert [json.loads(fields["event"]) for _, fields in stored] == [first, second]


def test_what_is_wrong_is_one_line(redis_url: str, tmp_path: Path) -> None:
    rules, broken = tmp_path / "rules.toml", tmp_path / "broken.toml"
    rules.write_text(RULES)
    broken.write_text('[[rule]]\nname = "x"\n')
    nobody = "redis://127.0.0.1:1/0"
    cases: list[tuple[int, str, list[object]]] = [
        (2, "rule 1 ('x'): emotion: field required", ["alert", broken]),
        (2, "missing.toml: No such file", ["alert", tmp_path / "missing.toml"]),
        (2, "--webhook: set UNDERTONE_WEBHOOK_SECRET", ["alert", rules, "--webhook", "http://localhost/"]),
        (1, "no Redis answers at redis://127.0.0.1:1/0", ["alert", rules, "--redis", nobody]),
        (1, "no Redis answers", ["top", "--redis", nobody]),
        (1, "no Redis answers", ["watch", "--redis", nobody]),
    ]
    for code, message, arguments in cases:
        done = here(*arguments, UNDERTONE_WEBHOOK_SECRET="")
        assert done.returncode == code, done.stderr
        assert message in done.stderr and done.stderr.count("\n") == 1
    with private_server("--requirepass", "right") as url:
        done = here("top", "--redis", url)
        assert done.returncode == 1 and "refuses the user name or password" in done.stderr


LABELS = [["{}:0:0", "Ann", "joy", "0.75"], ["{}:1:0", "Ann", "joy", "0.75"]]


def test_the_shell_example_goes_on_where_it_was(redis_url: str, session: str, tmp_path: Path) -> None:
    first, second = [label(session, 0), label(session, 1, text="a\nb\nevent\nc")], [label(session, 2), ended(session)]
    publish_events(redis_url, first)
    position = tmp_path / "position"
    command = ["sh", EXAMPLES / "subscribe.sh", session, position]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"UNDERTONE_REDIS": redis_url}
    )
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in first] == [event.wire() for event in first]
    while not position.exists() or not position.read_text():
        time.sleep(0.02)
    process.kill()
    process.communicate()
    publish_events(redis_url, second)
    done = run(*command, UNDERTONE_REDIS=redis_url)
    assert done.returncode == 0 and done.stdout.splitlines() == [event.wire() for event in second]


def test_the_python_examples(redis_url: str, session: str) -> None:
    final = label(session, 0, revision=1, final=True, trigger="context", id=f"{session}:0:1")
    events = [label(session, 0), label(session, 1), final, ended(session)]
    publish_events(redis_url, events)

    def lines(name: str, *arguments: str) -> list[list[str]]:
        done = run(sys.executable, EXAMPLES / name, session, *arguments, UNDERTONE_REDIS=redis_url)
        assert done.returncode == 0, done.stderr
        return [line.split() for line in done.stdout.splitlines()]

    assert lines("subscribe.py") == [["1.0", "Ann:", "joy", "Hi"]]
    assert lines("subscribe_async.py") == [[word.format(session) for word in line] for line in LABELS]
    assert lines("subscribe_async.py", f"{session}:0:0") == [[word.format(session) for word in LABELS[1]]]
    assert lines("consume_group.py", "group", "a") == [["a", event.id, event.type] for event in events]
    assert lines("consume_group.py", "group", "b") == [], "the group is done"


def test_examples_are_short() -> None:
    for example in EXAMPLES.iterdir():
        if example.is_file():
            text = example.read_text()
            is_agent = example.name.endswith("_agent.py")  # it has a gateway, and a framework that wants more lines
            reads_redis = not is_agent and example.name not in ("analyse.py", "listen.py")  # which run a session
            assert len(text.splitlines()) < (60 if is_agent else 40), example.name
            assert not reads_redis or "UNDERTONE_REDIS" in text, example.name


def test_commands_say_at_once_what_redis_refuses(redis_url: str, tmp_path: Path) -> None:
    """In one line, before anything starts."""
    (tmp_path / "rules.toml").write_text(RULES)
    admin, name = redis.Redis.from_url(redis_url), secrets.token_hex(4)
    admin.acl_setuser(name, enabled=True, passwords=["+right"], keys=["*"], commands=["+@all", "-unlink"])
    url = redis_url.replace("//", f"//{name}:right@")
    serve = ("serve", "--no-token", "--port", 0)
    try:
        for command, refusal in [
            (("replay", DEMO), "refuses what a session publishes: PUBLISH: "),
            (("live", "udp://127.0.0.1:5999"), "refuses what a session publishes: PUBLISH: "),
            ((*serve,), "refuses what a session publishes: PUBLISH: "),
            ((*serve, "--redis-operator", url), "--redis-operator: Redis at "),
            ((*serve, "--redis-operator", "redis://127.0.0.1:1"), "--redis-operator: no Redis answers at "),
            (("alert", tmp_path / "rules.toml"), "refuses alerts: PUBLISH: "),
            (("forget", "old"), "lets us erase no sessions: "),
        ]:
            done = here(*command, "--redis", redis_url if "--redis-operator" in command else url)
            told = done.stderr.splitlines()
            assert done.returncode == 1 and refusal in told[-1] and "right" not in done.stderr, done.stderr
            assert done.stdout == "" and [line for line in told if "warning:" not in line] == told[-1:]
    finally:
        admin.acl_deluser(name)
