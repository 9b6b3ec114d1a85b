"""What the outside sees of Undertone, kept as files: whoever changes it shall mean to.

*.jsonl     the events of one session of each kind, in the order in which a client gets them; what differs from run to
            run (`events.VARIES`) is blank
keys.json   what sessions leave in Redis
cli.json    every command of the command line with its options
written/    files that earlier versions wrote, a folder for each; they are never written anew

`python -m tests.golden` writes all but the last anew.
"""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parent
WRITTEN = GOLDEN / "written"
