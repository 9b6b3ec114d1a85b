"""Commands as README and guide print them: programs, commands and options are there, and pages hide nothing."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.golden import GOLDEN
from tests.support.pages import ALL_PAGES, FENCED, PAGES, Block, blocks, commands, inline, lines, relative, targets
from workers.cli.app import app

OTHERS = {".", "curl", "export", "make", "openssl", "pip", "pipx", "ray", "redis-cli", "uv"}
"""Programs of others that pages may start."""
NOTES = re.compile(r"(not run: \w.+|serve|with serve)?")
PLACEHOLDER = re.compile(r"\b(NAME|SESSION|FILE|ID|TABLE|DIR|HOST|URL|PORT)\b|…")
BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMAND = typer.main.get_command(app)


def fault(words: list[str]) -> str | None:
    """One line on what is wrong with a command line of ours; files need not be there."""
    command: Any = COMMAND
    context = command.make_context("undertone", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        if not words:
            return None  # prose that names a group of commands
        name, *words = words
        if name.startswith("-"):
            return None if name in ("--help", "--version") else f"no such option: {name}"
        if name not in command.commands:
            return f"no such command: {name}"
        command = command.commands[name]
        context = context.__class__(command, parent=context, info_name=name)
    try:
        command.parse_args(context, list(words))
    except typer.Exit:
        return None
    except Exception as error:  # typer has its own copy of click, whose errors it does not export
        message = str(getattr(error, "message", None) or error)
        return None if "does not exist" in message else message
    return None


def named(words: list[str]) -> str | None:
    """The same for prose, which may leave out what a command needs."""
    told = fault([word for word in words if not PLACEHOLDER.search(word)])
    return None if told and ("issing" in told or "requires an argument" in told) else told


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_blocks_say_what_they_are_and_why_they_are_not_run(page: Path) -> None:
    text = page.read_text()
    assert len(blocks(page)) * 2 == len(re.findall(r"^```", text, re.M))
    assert {block.language for block in blocks(page)} <= {"sh", "python", "json", "toml", "text"}
    assert not [str(block) for block in blocks(page) if not NOTES.fullmatch(block.note)]
    assert not re.findall(r"^(?: {4}|\t)\S.*", FENCED.sub("", text), re.M), "a block without a fence is not looked at"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=str)
def test_commands_are_there_with_their_options(block: Block) -> None:
    for line in lines(block):
        for name, *words in commands(line):
            if name == "undertone":
                assert fault(words) is None, line
            elif name == "make":
                assert set(words) <= targets(), line
            else:
                assert name in OTHERS, line


@pytest.mark.parametrize("page", ALL_PAGES, ids=relative)
def test_commands_in_prose_are_there(page: Path) -> None:
    wrong = {}
    for command in inline(page):
        _, *words = commands(command)[0]
        if told := named(words):
            wrong[command] = told
    assert not wrong


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("python", "json", "toml")], ids=str)
def test_other_blocks_are_what_they_say(block: Block) -> None:
    {"python": ast.parse, "json": json.loads, "toml": tomllib.loads}[block.language](block.text)


def within(part: Any, whole: Any) -> bool:
    """True if all that `part` says is in `whole`, numbers to three digits."""
    if isinstance(part, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    return bool(part == (round(whole, 3) if isinstance(whole, float) else whole))


def test_the_label_in_the_readme_is_one_of_the_demo_conversation() -> None:
    (shown,) = [json.loads(block.text) for block in BLOCKS if block.page == PAGES[0] and block.language == "json"]
    events = [json.loads(line) for line in (GOLDEN / "file.jsonl").read_text().splitlines()]
    assert [event for event in events if within(shown, event)]


def test_wrong_commands_are_found() -> None:
    assert fault(["replay", "call.wav", "--sped", "4"]) and fault(["replays", "call.wav"])
    assert fault(["replay", "call.wav", "--vad", "magic"]) and fault(["replay"])
    assert fault(["replay", "call.wav", "--speed", "4"]) is None


def test_shell_is_taken_apart() -> None:
    line = 'TOKEN="Bearer $(undertone token)" curl -N http://h/a > x | undertone watch a  # a page'
    assert commands(line) == [["undertone", "token"], ["curl", "-N", "http://h/a"], ["undertone", "watch", "a"]]
