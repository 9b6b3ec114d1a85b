"""Several nodes: every session on its own, and what happens when one goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_sessions_stay_on_their_nodes_and_outlive_another(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.e2e.two_nodes", str(tmp_path / "told.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert len(told["nodes"]) == 2, "the head takes no work"
    assert told["recognizers"] == {node: node for node in told["nodes"]}
    assert {f"recognizer:meld@{node[:12]}" for node in told["nodes"]} < set(told["names"])
    lasting = told["lasting"]
    assert told["served"] == lasting
    assert told["asked"] == 2 and told["left"] == [], "each node is asked for what a session left on its disk"
    folder = tmp_path / "recordings" / "s0"
    assert told["forgotten"] == [str(folder), str(folder / "events.jsonl")] and not folder.exists()
    assert told["lost"], "a recognizer that starts elsewhere knows nothing of before"
    assert told["numbers"] == [1, 1] and told["moved"] == told["stayed"] == lasting
    assert told["placed"] == [lasting, lasting], "the one that goes on has not moved"
