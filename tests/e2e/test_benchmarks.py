"""The benchmarks of load on a few seconds of media: real sessions, and figures that hang together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import here, undertone
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.recordings import RATE, write_wav


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, demo_audio: np.ndarray) -> Path:
    """The demo's first two lines, with their transcript."""
    path = write_wav(tmp_path_factory.mktemp("short") / "short.wav", demo_audio[:, : 9 * RATE])
    lines = [line.split(maxsplit=1)[1] for line in DEMO_TRANSCRIPT.read_text().splitlines()[:2]]
    path.with_suffix(".stm").write_text("".join(f"short {line}\n" for line in lines))
    return path


def bench(*arguments: object) -> dict:
    done = undertone("bench", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("options", "words"), [((), "transcript"), (("--one-microphone",), "transcript, one microphone")]
)
def test_capacity(recording: Path, options: tuple[str, ...], words: str) -> None:
    tables = bench("capacity", recording, "--words", "transcript", "--seconds", 5, "--most", 1, *options)
    (row,) = tables["capacity"]
    assert (row["words"], row["sessions"]) == (words, 1)
    assert row["labels"] >= 1 and 0 < row["p50"] <= row["p95"] and row["s/min"] > 0
    assert row["B kept/event"] > 100
    costs = {cost["process"]: cost for cost in tables["capacity_costs"]}
    assert costs.keys() >= {"session", "encoder", "recognizer", "redis", "ray"}
    assert costs["session"]["processes"] == 1 and costs["encoder"]["MB each"] > costs["session"]["MB each"] > 10


def test_throughput(recording: Path) -> None:
    tables = bench("throughput", recording, "--words", "transcript", "--minutes", 0.3)
    (row,) = tables["throughput"]
    assert row["minutes"] == 0.3 and row["utterances"] == 4 and row["failed"] == 0 and row["times real time"] > 0
    costs = {cost["process"]: cost["s/min"] for cost in tables["throughput_costs"]}
    assert sum(costs.values()) == pytest.approx(row["s/min"], abs=0.1)


def test_longevity(recording: Path) -> None:
    tables = bench("longevity", recording, "--hours", 0.01)
    (whole,) = tables["longevity_whole"]
    assert whole["utterances"] == 8 and whole["failed"] == 0 and whole["reason"] == "end of source"
    assert whole["objects left in Ray's store"] == 0
    assert {row["process"] for row in tables["longevity"]} >= {"driver", "encoder", "recognizer", "redis", "raylet"}


def test_what_cannot_be_measured_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bare.opus").write_bytes(DEMO.read_bytes())
    for arguments in (
        ("capacity", "--words", "telepathy"),
        ("capacity", "--modalities", "smell"),
        ("latency", "--one-microphone", tmp_path / "none"),
        ("latency", "--one-microphone", tmp_path, "--words", "transcript"),
        ("throughput", tmp_path / "bare.opus"),
        ("throughput", tmp_path / "none.opus"),
        ("longevity", tmp_path / "bare.opus"),
        ("costs", tmp_path / "none.json"),
    ):
        refused = here("bench", *arguments)
        assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1, refused.stderr
