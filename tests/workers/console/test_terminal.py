"""Text from outside does not steer a terminal, and is shown in every encoding."""

from __future__ import annotations

import ast
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from tests.support.events import EMOTION
from tests.support.hostile import CHANNELS, HOSTILE, steering
from workers.console.display import describe
from workers.console.terminal import Door, Terminal, guard, harmless, print_json, printable, printable_event

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_steers_is_left_out_and_words_stay(channel: str) -> None:
    assert harmless(f"a{channel}b") == "ab"
    assert printable(f"a{channel}b\r\nc\td\u2028e") == "ab c d e"


def test_scripts_that_need_joiners_keep_them() -> None:
    for words in ("می\u200cخواهم", "👨\u200d👩\u200d👧", "Zoë\u00a0🙂", "नमस्ते", "שלום"):
        assert printable(words) == harmless(words) == words


def test_every_text_of_an_event_is_printable() -> None:
    event = EMOTION.model_copy(
        update={"speaker": HOSTILE, "text": HOSTILE, "emotion": HOSTILE, "probabilities": {HOSTILE: 1.0}}
    )
    shown = printable_event(event)
    assert shown.probabilities == {shown.emotion: 1.0} and shown.audio_start == event.audio_start
    assert not steering(shown.model_dump_json()) and not steering(describe(event))


def test_json_is_utf_8_in_any_locale_and_steers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    document = {"words": HOSTILE + "Zoë 🙂", "name": "\U000e0041"}
    print_json(json.dumps(document, ensure_ascii=False))
    written = raw.getvalue().decode("utf-8")
    assert json.loads(written) == document and "Zoë 🙂" in written
    assert "\x9b" not in written and "\u202e" not in written and "\U000e0041" not in written


def test_of_a_terminals_sequences_only_its_own_pass() -> None:
    screen = io.StringIO()
    console = Terminal(file=Door(screen), force_terminal=True, width=300, color_system="standard")
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))
    with Live(table, console=console, auto_refresh=False) as live:
        live.console.print(HOSTILE, Markdown(f"[here](http://evil) {HOSTILE}"))
        live.update(table, refresh=True)
    assert "\x1b[31m" in screen.getvalue() and "Hello" in screen.getvalue()
    assert not steering(screen.getvalue())


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp1252", "utf-8"])
def test_what_an_encoding_does_not_have_is_replaced(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer.rich_utils

    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    monkeypatch.setattr(typer.rich_utils, "Console", typer.rich_utils.Console)  # type: ignore[attr-defined]
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        monkeypatch.setattr(sys, name, stream)
    guard()
    print(f"Zoë 🙂 … █ {HOSTILE}")
    sys.stdout.flush()
    shown = raw.getvalue().decode(encoding)
    wanted = {"ascii": "Zoe ? ... #", "iso-8859-1": "Zoë ? ... #", "cp1252": "Zoë ? … #", "utf-8": "Zoë 🙂 … █"}
    assert shown.startswith(wanted[encoding]) and not steering(shown)


def test_nobody_prints_past_the_door() -> None:
    for room in ("stream", "model", "workers/cli", "workers/console", "workers/gateway", "workers/session"):
        for file in sorted((ROOT / room).rglob("*.py")):
            if file.name == "terminal.py":
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                    assert "Console" not in [name.name for name in node.names], f"{where}: use Terminal"
                if isinstance(node, ast.Attribute) and node.attr in ("__stdout__", "__stderr__"):
                    raise AssertionError(f"{where}: writes past the door")
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node).startswith("print(")
                    and "json" in ast.unparse(node)
                ):
                    raise AssertionError(f"{where}: use print_json")


@pytest.mark.integration
def test_what_libraries_write_past_python_is_in_a_file(tmp_path: Path) -> None:
    script = (
        "import os, sys, subprocess; from workers.console.terminal import *; guard(); set_libraries_aside()\n"
        "os.write(2, b'raw\\n'); subprocess.run(['/bin/sh', '-c', 'echo child >&2'])\n"
        "print('from Python', file=sys.stderr); sys.stderr.flush(); raise SystemExit('the end')"
    )
    log = tmp_path / "undertone/ray.log"
    for times in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False,
            env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.stderr == "from Python\nthe end\n"
        assert log.read_text() == "raw\nchild\n" * times and stat.S_IMODE(log.stat().st_mode) == 0o600
    log.write_bytes(b"x" * (2 << 20))
    subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert log.read_text() == "raw\nchild\n" and log.with_suffix(".old.log").stat().st_size == 2 << 20


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_table_is_folded_on_a_terminal_and_whole_in_a_pipe() -> None:
    name = "".join(f"{n:02d}" for n in range(40))

    def table() -> Table:
        made = Table("session", "state", box=None)
        made.columns[0].no_wrap = True
        made.add_row(name, "live")
        return made

    pipe, screen = io.StringIO(), Screen()
    console = Terminal(file=pipe, width=30)
    console.print(table())
    assert f" {name} " in pipe.getvalue() and pipe.getvalue().count("\n") == 2
    assert console.width == 30
    Terminal(file=screen, width=30, color_system=None).print(table())
    rows = screen.getvalue().splitlines()
    assert "…" not in screen.getvalue() and max(map(len, rows)) <= 30
    assert "".join(row.split()[0] for row in rows[1:]) == name
