"""--help and --version, as somebody reads them who has never seen the program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.support.paths import ROOT
from workers.cli.app import app
from workers.console.options import MANY_OPTIONS, PANEL_OF, PANELS

PANEL = re.compile(r"^╭─ (.+?) ─+╮$\n((?:^│.*│$\n)+)", re.M)


def panels(*words: str) -> dict[str, str]:
    """What `undertone WORDS --help` shows, by the titles of its panels."""
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "250", "TERMINAL_WIDTH": "250"}).stdout
    return dict(PANEL.findall(shown))


def commands(group: Any, *words: str) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, command in group.commands.items():
        nested = hasattr(command, "commands")
        found += commands(command, *words, name) if nested else [((*words, name), command)]
    return found


ALL = commands(typer.main.get_command(app))


def test_commands_stand_in_panels_by_what_they_are_for() -> None:
    shown = panels()
    assert list(shown) == ["Options", "Listen", "See", "Operate", "Research"]
    listed = {title: set(re.findall(r"^│ ([a-z-]+) ", rows, re.M)) for title, rows in shown.items()}
    assert listed["Listen"] == {"live", "replay", "demo", "serve"}
    assert listed["See"] == {"watch", "top", "sessions", "export", "corrections", "alert"}
    assert listed["Operate"] >= {"doctor", "models", "token", "forget", "spool", "plan", "down", "enroll"}
    assert set().union(*listed.values()) >= {words[0] for words, _ in ALL}


def test_options_of_big_commands_stand_in_panels() -> None:
    big = {words[0]: len(command.params) for words, command in ALL if len(command.params) > MANY_OPTIONS + 1}
    assert big.keys() >= {"live", "replay", "serve"}
    for name in big:
        shown = panels(name)
        assert list(shown)[-1] == "Help" and "Options" not in shown, f"{name}: an option is in no panel"
        assert "--redis " in shown["Redis and Ray"] and "--asr-model" in shown["Words"]
        assert [title for title in shown if title in PANELS] == [title for title in PANELS if title in shown]


def test_panels_name_parameters_that_there_are() -> None:
    assert PANEL_OF.keys() <= {parameter.name for _, command in ALL for parameter in command.params}


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_every_option_says_what_it_is(words: tuple[str, ...], command: Any) -> None:
    assert command.help and command.help.split("\n\n")[0].rstrip().endswith((".", "more.")), "a sentence first"
    for parameter in command.params:
        text = parameter.help or ""
        assert re.match(r"[A-Z0-9]|[a-z]+:|meld,", text) and len(text.split()) > 1, f"{parameter.name}: {text!r}"
        assert not re.match(r"(Of|At|In|From|These|Not|Which|How|Whose|Who will)\b", text), f"a riddle alone: {text!r}"


def test_help_speaks_of_its_own_command() -> None:
    live, down, serve = (" ".join(panels(name).values()) for name in ("live", "down", "serve"))
    assert "as fast as it goes" not in live and "recording that is played" not in live
    assert "instead of starting one" not in down
    assert "--session" not in serve


def test_alerts_help_shows_its_table_as_it_is_written() -> None:
    for width in ("60", "250"):
        shown = CliRunner().invoke(app, ["alert", "--help"], env={"COLUMNS": width, "TERMINAL_WIDTH": width}).stdout
        assert shown.count("[[rule]]") == 2 and 'name = "angry' in shown


def test_the_version_is_one_line() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert re.fullmatch(r"undertone \d+\.\d+\.\d+, Python 3\.\d+\.\d+, checkpoint meld\n", done.stdout)


@pytest.mark.integration
def test_control_c_while_modules_are_imported_is_quiet(tmp_path: Path) -> None:
    interrupting = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('late')\n"
    (tmp_path / "typer.py").write_text(interrupting)
    done = subprocess.run(
        [sys.executable, "-c", "from workers.cli import main; main()", "replay", "call.wav"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
