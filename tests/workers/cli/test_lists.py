"""Commands that list something: whole in a pipe, and with --json in the shape that their --help documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from model.encoders.speaker import VOICE_ENCODER
from stream.bus.spool import Entry, Spool, spool_path
from tests.support.buses import publish_events
from tests.support.commands import here
from tests.support.events import label, notice
from workers.cli.app import app
from workers.session.enrolment import folder

SESSION = "a-session-whose-id-is-as-long-as-an-id-of-a-session-can-be-0123x"
LISTS = ("sessions", "models list", "doctor", "spool", "enroll", "plan", "top")


@pytest.fixture
def listed(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[object]]:
    """What each command is given, where there is something to list."""
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / ("a-folder-with-a-long-name-" * 4)))
    publish_events(redis_url, [label(SESSION, 0), notice(SESSION, 0)], "lists")
    spool = Spool(spool_path(SESSION, "lists"))
    spool.append(Entry([("x:1", "degraded", "{}")]))
    spool.close()
    folder().mkdir(parents=True)
    (folder() / "Ann.json").write_text(json.dumps({"encoder": VOICE_ENCODER, "voice": [1.0, 0.0]}))
    at = ["--redis", redis_url, "--prefix", "lists"]
    return {
        "sessions": at,
        "models list": ["--no-speed"],
        "doctor": ["--redis", redis_url],
        "spool": [],
        "enroll": ["--list"],
        "plan": ["--sessions", 8],
        "top": at,
    }


def documented(words: str) -> list[str]:
    """Names of the fields in a command's --help."""
    command = typer.main.get_command(app)
    for word in words.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    found = re.search(r"With `(?:--list )?--json`[^`]*`\{([^}]*)\}`", command.help or "")
    assert found is not None, command.help
    return re.split(r",\s+", found[1])


@pytest.mark.parametrize("words", LISTS)
def test_json_has_the_documented_shape(words: str, listed: dict[str, list[object]]) -> None:
    done = here(*words.split(), *listed[words], "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for each in told if isinstance(told, list) else [told]:
        assert list(each) == documented(words)
    assert told


@pytest.mark.parametrize("words", LISTS)
def test_nothing_is_cut_in_a_pipe(words: str, listed: dict[str, list[object]]) -> None:
    shown = (here(*words.split(), *listed[words], COLUMNS=columns).stdout for columns in ("40", "2000"))
    narrow, wide = (re.sub(r"\d\d\+00:00", "", each) for each in shown)  # "kept until" is reckoned anew by each
    assert "…" not in narrow.replace(" … ", "")
    assert [line.split() for line in narrow.splitlines()] == [line.split() for line in wide.splitlines()]
    assert words not in ("sessions", "spool", "top") or SESSION in narrow


def test_json_of_enroll_is_of_its_list() -> None:
    done = here("enroll", "Ann", "--forget", "--json")
    assert (done.returncode, done.stderr) == (2, "undertone: --json: with --list\n")


def test_what_was_sent_is_in_the_list(listed: dict[str, list[object]], redis_url: str) -> None:
    done = here("spool", "--send", "--json", "--redis", redis_url)
    (told,) = json.loads(done.stdout)
    assert (told["session"], told["events"], told["sent"]) == (SESSION, 1, True), done.stderr
    assert json.loads(here("spool", "--json").stdout) == []
