"""Every command with a bad value of each option that commands share: one clear line, and nothing is left in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer
from typer.testing import CliRunner

from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from workers.cli.app import app

NOBODY = "127.0.0.1:1"
NAMES = ("../x", "{a}", "a b", "x" * 65, "")
BAD: dict[str, tuple[str, ...]] = {
    "--prefix": ("{a}", "", "a b", "x" * 65),
    "--redis": ("nonsense", f"redis://{NOBODY}", "http://x", "redis://x:port"),
    "--ray-address": ("nowhere", NOBODY, "nowhere:1"),
    "--session": NAMES,
    "SESSION": NAMES,
    "--speed": ("fast", "0", "-1", "nan", "inf"),
    "--interim": ("-1", "often"),
    "--keep": ("0", "long", "1e9"),
    "--modalities": ("smell", ""),
    "--checkpoint": ("nowhere", ""),
    "--asr": ("psychic",),
    "--asr-model": (".",),
    "--vad": ("ear",),
    "--people": ("none", "0", "2-", "4-2-1"),
    "--speakers": ("scent",),
    "--channels": ("left", "0"),
    "--language": ("xx",),
    "--transcript": ("nowhere.stm",),
    "--rttm": ("nowhere.rttm",),
    "--reference": ("nowhere.stm",),
    "--older-than": ("soon", "0d"),
    "--pull-from": ("a b",),
    "--port": ("-1", "65536"),
}
REPORTED = {"doctor"}
"""Commands whose report, on stdout, is about what is wrong."""
LAZY = {("prepare", "--ray-address")}
"""Values that are looked at only once something else is there: a release with clips."""


def commands(group: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    """All commands by their words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{words}{name} ")
        else:
            yield f"{words}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def names_of(command: Any) -> set[str]:
    """Names of its options that take a value, and of arguments what stands for them in --help."""
    options = [each for each in command.params if each.param_type_name == "option" and not each.is_flag]
    arguments = {each.metavar for each in command.params if each.param_type_name == "argument"}
    return {name for each in options for name in each.opts} | (arguments & BAD.keys())


CASES = [
    pytest.param(words, option, value, id=f"{words} {option} {value[:12]!r}")
    for words, command in COMMANDS.items()
    if not words.startswith("bench ")  # those share none of these but --modalities, and take long to say so
    for option in sorted(names_of(command) & BAD.keys())
    if (words, option) not in LAZY
    for value in BAD[option]
]


@pytest.fixture(scope="module")
def needed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """What a command needs besides the option, so that nothing but this is wrong."""
    folder = tmp_path_factory.mktemp("needed")
    (folder / "rules.toml").write_text('[[rule]]\nname = "x"\nemotion = "joy"\n')
    (folder / "table.csv").write_text("dialogue_id,speaker,text,emotion,sentiment\n0,Ann,Hi,joy,positive\n")
    return {
        "replay": [DEMO, "--transcript", DEMO_TRANSCRIPT, "--speed", "max"],
        "live": ["tcp://127.0.0.1:9", "--asr", "none", "--seconds", 1, "--reconnect", 0],
        "compose": ["--out", folder / "out"],
        "alert": [folder / "rules.toml"],
        "export": ["a-session"],
        "corrections": ["a-session", "--out", folder / "corrected.csv"],
        "forget": ["a-session"],
        "spool": ["--send"],
        "serve": ["--port", 0],
        "plan": ["--sessions", 1],
        "evaluate": ["--data", folder / "table.csv"],
        "fit-experts": ["--voice", folder, "--data", folder, "--faces", folder],
        "prepare": ["meld", folder, "--out", folder / "out"],
    }


def test_commands_that_need_something_are_all_known(needed: dict[str, list[object]]) -> None:
    tested = {case.values[0] for case in CASES}
    assert {name for name in tested if any(each.required for each in COMMANDS[str(name)].params)} <= needed.keys()
    assert len(CASES) > 150


def test_help_shows_the_choices_and_the_defaults() -> None:
    shown = {
        words: CliRunner().invoke(app, [words, "--help"], env={"COLUMNS": "300"}).stdout for words in ("replay", "live")
    }
    for text in shown.values():
        assert "<auto|whisper|none>" in text and "<auto|webrtc|silero|pyannote>" in text
        assert "[default: made from the source's name]" in text and "[default: text,audio,visual]" in text
    assert "<auto|channel|turns|cluster>" in shown["replay"] and "[default: 3; 0 for a recording" in shown["replay"]
    assert "[default: 3.0]" in shown["live"] and "[default: 3;" not in shown["live"]


@pytest.mark.parametrize(("words", "option", "value"), CASES)
def test_a_bad_value_is_one_line(
    words: str, option: str, value: str, needed: dict[str, list[object]], redis_url: str, tmp_path: Path
) -> None:
    given = [str(each) for each in needed.get(words, [])]
    if option == "SESSION":
        given = [value]
    elif option in given:
        given[given.index(option) + 1] = value
    elif option in ("--asr-model", "--language") and words in ("replay", "live"):
        given = [given[0], "--asr", "whisper", option, value]
    elif option == "--reference":
        given = [given[0], option, value]
    elif option == "--older-than":
        given = [option, value]
    else:
        given += [option, value]
    if "--redis" not in given and "--redis" in names_of(COMMANDS[words]):
        given += ["--redis", redis_url]
    if "--ray-address" not in given and "--ray-address" in names_of(COMMANDS[words]) and words != "prepare":
        given += ["--ray-address", NOBODY]  # else a value that is taken would start a session
    with redis.Redis.from_url(redis_url) as client:
        before = set(client.keys())
        done = CliRunner().invoke(app, [*words.split(), *given])
        assert not set(client.keys()) - before  # those of other tests may expire meanwhile
    assert done.exit_code in (1, 2), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    lines = done.stderr.strip().splitlines()
    if words in REPORTED and not lines:
        assert "broken" in done.stdout
    else:
        assert len(lines) == 1 and lines[0].startswith("undertone: "), done.stderr
    assert "Input should" not in done.stderr and "Value error" not in done.stderr, "in words of our own"
    if option != "--ray-address":
        assert "Ray does not start" not in done.stderr, "the value was taken"
