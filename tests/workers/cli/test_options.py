"""The command line, option by option: nothing that somebody types today is refused or means something else tomorrow.

If a test here fails because the command line is meant to change: `python -m tests.golden`, and read the difference.
"""

from __future__ import annotations

import json

from tests.golden import GOLDEN
from tests.golden.commands import described

KNOWN = json.loads((GOLDEN / "cli.json").read_text())


def test_there_are_the_same_commands() -> None:
    assert list(described()) == list(KNOWN)


def test_each_command_has_the_same_arguments_and_options() -> None:
    differ = {}
    for words, command in described().items():
        known = KNOWN.get(words, command)
        if command["arguments"] != known["arguments"]:
            differ[words] = f"{command['arguments']}, not {known['arguments']}"
        for names in {*command["options"], *known["options"]}:
            now, before = command["options"].get(names), known["options"].get(names)
            if now != before:
                differ[f"{words} {names}"] = f"{now}, not {before}"
    assert differ == {}
