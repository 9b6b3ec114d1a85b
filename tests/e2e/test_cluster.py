"""Several nodes: every session on its own, and what happens when one goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model.device import without_cuda
from tests.support.commands import undertone
from tests.support.paths import DEMO, ROOT


def test_sessions_stay_on_their_nodes_and_outlive_another(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.two_nodes", str(tmp_path / "told.json")]
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
    assert {str(folder), str(folder / "events.jsonl")} < set(told["forgotten"]) and not folder.exists()
    assert sorted(told["holders"]) == sorted(told["nodes"]) and told["held"], "what was sent lies on two nodes"
    assert any(path.endswith(".s0.request") for path in told["forgotten"]), "what a gateway was sent goes, too"
    assert told["lost"], "a recognizer that starts elsewhere knows nothing of before"
    assert told["numbers"] == [1, 1] and told["moved"] == told["stayed"] == lasting
    assert told["placed"] == [lasting, lasting], "the one that goes on has not moved"


def test_who_has_no_token_is_refused(ray_address: str, redis_url: str) -> None:
    """The private cluster of this process has one; who joins it has to know it."""
    for given in ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}):
        done = undertone("replay", DEMO, "--redis", redis_url, "--ray-address", ray_address, **given)
        assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr, done.stderr
        assert "this cluster wants its token" in done.stderr.splitlines()[-1], done.stderr


def test_a_gpu_that_is_none_costs_no_label(redis_url: str, tmp_path: Path) -> None:
    """A node says that it has a GPU, and PyTorch cannot use it: models go back to the CPU, and the session says so."""
    if without_cuda() is None:
        pytest.skip("this machine's GPU does not fail")
    out = tmp_path / "told.json"
    command = [sys.executable, "-m", "tests.support.gpu_node", redis_url, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    assert told["auto"][0]["device"] == "cpu", "its node has none"
    assert told["cuda"][0]["device"] == "cuda"
    on_gpu = [name for name in told["actors"] if f":cuda@{told['gpu node'][:12]}" in name]
    assert [name.partition(":")[0] for name in on_gpu] == ["encoder", "recognizer"]
    reasons = [event["reason"] for event in told["cuda"] if event["type"] == "degraded"]
    assert sorted(reason.partition(":")[0] for reason in reasons) == ["emotion model", "encoders of words"]
    assert all("on the CPU, because the GPU failed (" in reason for reason in reasons)
    assert told["taken"][0]["device"] == "cpu"
    assert [event["reason"] for event in told["taken"] if event["type"] == "degraded"] == [
        "models: on the CPU, because Ray's other users have taken the GPU"
    ]
    labels = {name: [e for e in told[name] if e["type"] == "emotion"] for name in ("auto", "cuda", "taken")}
    assert len(labels["cuda"]) == 28
    for name in ("cuda", "taken"):
        for one, other in zip(labels["auto"], labels[name], strict=True):
            assert (one["utterance"], one["revision"]) == (other["utterance"], other["revision"])
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def test_a_gpu_that_is_not_here_is_refused() -> None:
    if without_cuda() is None:
        pytest.skip("this machine has one")
    for command in (["replay", str(DEMO)], ["serve"]):
        done = undertone(*command, "--device", "cuda", "--ephemeral")
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
        assert "--device cuda: this machine has no NVIDIA GPU, or not its driver" in done.stderr
