"""Blocks of code on the pages for users, and what is said about each in a comment before it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import DEPLOY, ROOT

GUIDE = DEPLOY / "guide"
PAGES = (ROOT / "README.md", GUIDE / "index.md", *sorted(set(GUIDE.glob("*.md")) - {GUIDE / "index.md"}))
"""README first: it makes the session `call`, which the others read."""
ALL_PAGES = (*sorted({*ROOT.glob("*.md"), *DEPLOY.glob("*.md"), *GUIDE.glob("*.md")}), ROOT / "model" / "RESULTS.md")
"""Those for people who operate and change it, too."""
FENCED = re.compile(r"^(?:<!-- (?P<note>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`(undertone [^`\n]+)`")
WITHIN = re.compile(r"\$\(([^()]+)\)")
BETWEEN = {"|", "||", "&&", ";", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    note: str
    """The comment before it: `not run: REASON`, `serve`, `with serve`, or nothing."""

    @property
    def is_run(self) -> bool:
        return not self.note.startswith("not run: ")

    def __str__(self) -> str:
        return f"{relative(self.page)}:{self.line}"


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def targets() -> set[str]:
    """The targets of the Makefile that are commands."""
    declared = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)
    return {name for line in declared for name in line.split()}


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCED.finditer(text):
        line = text.count("\n", 0, match.start("text"))
        found.append(Block(page, line, match["language"], match["text"], match["note"] or ""))
    return found


def lines(block: Block) -> list[str]:
    """The lines of a shell block, those that a backslash continues joined, without comments of their own."""
    joined = block.text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]


def commands(line: str) -> list[list[str]]:
    """The words of each command that a line of shell starts, also within `$(…)`; raises ValueError for no shell."""
    found = [command for inner in WITHIN.findall(line) for command in commands(inner)]
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    is_target = False
    for word in [*lexer, ";"]:
        if word in BETWEEN:
            found += [words] if words else []
            words = []
        elif is_target or (not words and re.match(r"\w+=", word)):
            is_target = False
        elif set(word) <= set("<>"):
            is_target = True
        else:
            words.append(word)
    return found


def inline(page: Path) -> list[str]:
    """The commands of ours that the prose of a page names."""
    return INLINE.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
