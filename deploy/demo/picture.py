"""Draws the terminal of a session as an SVG, for the README.

Usage: undertone replay FILE … --json | python deploy/demo/picture.py > deploy/demo/terminal.svg
"""

from __future__ import annotations

import io
import sys

from rich.console import Console

from stream.events import parse
from workers.console.display import TableDisplay

console = Console(record=True, width=118, height=24, file=io.StringIO(), force_terminal=True)
display = TableDisplay(console)
for line in sys.stdin:
    display.event(parse(line))
console.print(display.table())
sys.stdout.write(console.export_svg(title="undertone replay conversation.opus"))
