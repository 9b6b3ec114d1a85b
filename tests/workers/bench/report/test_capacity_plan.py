from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from workers.bench.report.capacity_plan import Demand, Machines, plan_capacity
from workers.bench.report.costs import Costs, GpuCosts, read_costs
from workers.bench.report.results import ResultsError
from workers.cli.app import app
from workers.errors import UsageError

COSTS = Costs(
    machine="a machine",
    cores=4,
    taken="2026-01-01T00:00:00+00:00",
    held={"transcript": 12, "base": 3},
    utterances=15.0,
    events=4.0,
    event_bytes=500.0,
    kept_bytes=800.0,
    running={"session": 1.2, "ray": 0.6, "segmentation": 3.0},
    understanding={
        "text": 0.05, "audio": 0.1, "speaker": 0.02, "visual": 0.2, "graph": 0.005, "redis": 0.001,
        "base": 0.8,
    },
    memory={
        "session": 100, "encoder": 600, "recognizer": 100, "ray": 300, "face": 150, "base": 150, "segmentation": 50,
    },
)  # fmt: skip


def plan(*options: object) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, options)])


def test_more_sessions_never_need_less() -> None:
    machines = Machines()
    for asr in (None, "base"):
        plans = [plan_capacity(Demand(sessions, asr), machines, COSTS) for sessions in (1, 10, 100, 1000, 10_000)]
        for fewer, more in pairwise(plans):
            assert fewer.nodes <= more.nodes and fewer.memory_gb <= more.memory_gb
            assert fewer.redis["shards"] <= more.redis["shards"]
            assert all(fewer.cores[name] < more.cores[name] for name in fewer.cores)
        assert plans[0].nodes == 1 and plans[0].redis["shards"] == 1
        assert plans[-1].nodes == max(plans[-1].nodes_for.values()) == plans[-1].nodes_for[plans[-1].bound_by] > 10


def test_the_figures_are_those_of_the_costs() -> None:
    planned = plan_capacity(Demand(600), Machines(cores=16, memory=64, utilisation=0.5), COSTS)
    # 600 sessions x 15 utterances a minute = 150 utterances a second
    assert planned.cores == {"session": 12.0, "ray": 6.0, "text": 7.5, "audio": 15.0, "graph": 0.75}
    assert planned.redis["events_per_second"] == 600
    assert planned.redis["memory_gb"] == pytest.approx(600 * 86_400 * 800 / 1e9, abs=0.1)
    assert planned.network_mbit["sound_in"] == pytest.approx(600 * 0.256)
    assert planned.network_mbit["events_to_redis"] == pytest.approx(2 * 600 * 500 * 8 / 1e6)
    assert planned.nodes_for["cores"] == 6  # 41.25 cores of 8 a node
    assert planned.nodes_for["the encoders (8 processes a node, one core each)"] == 6  # 22.5 cores of 8 half ones


def test_what_is_switched_on_costs() -> None:
    nothing_else = plan_capacity(Demand(100, modalities=("text",)), Machines(), COSTS)
    assert "audio" not in nothing_else.cores and "speaker" not in nothing_else.cores
    everything = Demand(100, "base", ("text", "audio", "visual"), one_microphone=1.0)
    planned = plan_capacity(everything, Machines(), COSTS)
    assert {"audio", "speaker", "visual", "base"} <= set(planned.cores)
    assert planned.nodes > nothing_else.nodes
    assert any("Faces" in line for line in planned.assumptions)
    busier = plan_capacity(replace(everything, utterances=30.0), Machines(), COSTS)
    assert busier.cores["audio"] == pytest.approx(2 * planned.cores["audio"])
    assert busier.cores["session"] == planned.cores["session"]


def test_one_microphone_costs_by_its_share_of_the_sessions() -> None:
    channels = plan_capacity(Demand(600), Machines(), COSTS)
    half = plan_capacity(Demand(600, one_microphone=0.5), Machines(), COSTS)
    # 300 sessions of a minute's segmentation, and 75 utterances a second whose voices are embedded
    assert half.cores == channels.cores | {"segmentation": 15.0, "speaker": 1.5}
    assert channels.one_microphone == {} and half.one_microphone["cores"] == pytest.approx(16.5)
    assert half.one_microphone["nodes"] == half.nodes - channels.nodes > 0
    assert half.one_microphone["memory_gb"] == pytest.approx(half.memory_gb - channels.memory_gb)
    assert any(line.startswith("50 % of the sessions have one microphone") for line in half.assumptions)
    whole = plan_capacity(Demand(600, one_microphone=1.0), Machines(), COSTS)
    assert whole.nodes > half.nodes and whole.cores["segmentation"] == 30.0


def test_one_microphone_is_only_planned_where_it_was_measured() -> None:
    running = {name: seconds for name, seconds in COSTS.running.items() if name != "segmentation"}
    before = replace(COSTS, running=running)
    without, channels = (plan_capacity(Demand(600), Machines(), costs) for costs in (before, COSTS))
    assert without.nodes_for == channels.nodes_for and without.cores == channels.cores
    with pytest.raises(UsageError, match="--one-microphone: .* not measured"):
        plan_capacity(Demand(600, one_microphone=0.1), Machines(), before)


def test_a_gpu_reads_texts_and_says_that_it_is_reckoned() -> None:
    without = plan_capacity(Demand(600), Machines(), COSTS)
    assert without.gpus == 0 and any(line.startswith("No GPU") for line in without.assumptions)
    given = plan_capacity(Demand(600), Machines(gpu=GpuCosts("a card", step=0.001, text=0.002)), COSTS)
    assert given.cores == without.cores | {"text": 0.6}  # 150 utterances a second, two texts each
    assert given.nodes_for["the GPU (one a node)"] == 2  # 0.75 of 0.6
    assert given.gpus == given.nodes and any("reckoned" in line and "a card" in line for line in given.assumptions)
    deaf = plan_capacity(Demand(600, modalities=("audio",)), Machines(gpu=GpuCosts("a card", 0.001, 0.002)), COSTS)
    assert "text" not in deaf.cores and deaf.nodes_for["the GPU (one a node)"] == 1


def test_the_command_with_a_gpu(tmp_path: Path) -> None:
    bare = json.loads(plan("--sessions", 10_000, "--json").stdout)
    planned = json.loads(plan("--sessions", 10_000, "--gpu", "h100", "--json").stdout)
    assert planned["gpus"] == planned["nodes"] <= bare["nodes"]
    assert planned["cores"]["text"] < bare["cores"]["text"]
    torn = tmp_path / "torn.json"
    torn.write_text('{"steps": []}')
    refused = plan("--sessions", 10, "--gpu", torn)
    assert refused.exit_code == 2 and "not what deploy/gpu_check.py writes" in refused.output


def test_what_cannot_be_planned() -> None:
    for demand, machines in (
        (Demand(10, "whisper_small"), Machines()),
        (Demand(10, modalities=("text", "smell")), Machines()),
        (Demand(10, modalities=()), Machines()),
        (Demand(10, "base", ("audio",)), Machines()),
        (Demand(10), Machines(memory=1)),
    ):
        with pytest.raises(UsageError):
            plan_capacity(demand, machines, COSTS)


def test_the_command_with_the_shipped_figures() -> None:
    done = plan("--sessions", 10_000, "--json")
    assert done.exit_code == 0, done.output
    planned = json.loads(done.stdout)
    assert planned["nodes"] == max(planned["nodes_for"].values()) > 1
    assert planned["redis"]["shards"] >= 1 and planned["gpus"] == 0
    assert planned["demand"]["sessions"] == 10_000 and len(planned["assumptions"]) > 5
    table = plan("--sessions", 10_000, "--asr", "base")
    assert table.exit_code == 0 and "Assumed" in table.output and "No GPU" in table.output
    assert "one microphone" not in table.stdout.partition("Assumed")[0]
    mixed = plan("--sessions", 10_000, "--one-microphone", 0.3)
    assert mixed.exit_code == 0 and "For one microphone" in mixed.stdout and "segmentation" in mixed.stdout


def test_bad_options_are_one_line(tmp_path: Path) -> None:
    torn = tmp_path / "torn.json"
    torn.write_text('{"parts": {')
    other = tmp_path / "other.json"
    other.write_text('{"answer": 42}')
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps({"schema": 1, "taken": "2026-01-01", "machine": {}, "parts": {}}))
    for options in (
        ("--asr", "telepathy"),
        ("--modalities", "smell"),
        ("--memory-per-node", 1),
        ("--measured", tmp_path / "none.json"),
        *(("--measured", file) for file in (torn, other, bare)),
    ):
        done = plan("--sessions", 10, *options)
        assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1, done.output


def test_costs_are_taken_from_results(tmp_path: Path) -> None:
    def level(words: str, sessions: int, held: str) -> dict[str, object]:
        figures = {"utterances/min": 15.0, "events/min": 60.0, "B/event": 500, "B kept/event": 800}
        return {"words": words, "sessions": sessions, "held": held, **figures}

    def cost(words: str, process: str, seconds: float) -> dict[str, object]:
        return {"words": words, "process": process, "processes": 2, "s/min": seconds, "MB each": 100.0}

    kinds = {"session": 1.2, "encoder": 3.0, "recognizer": 0.15, "redis": 0.03, "ray": 0.6}
    tables = {
        "capacity": [level("transcript", 1, "yes"), level("transcript", 8, "yes"), level("transcript", 16, "no")],
        "capacity_costs": [cost("transcript", kind, seconds) for kind, seconds in kinds.items()],
    }
    tables["capacity"] += [level("base", 1, "yes")]
    tables["capacity_costs"] += [cost("base", "transcriber", 12.0)]
    mixed = "transcript, one microphone"
    tables["capacity"] += [level(mixed, 1, "yes"), level(mixed, 6, "yes")]
    tables["capacity_costs"] += [cost(mixed, "session", 4.2), cost(mixed, "encoder", 6.0)]
    milliseconds = {"text": 50, "audio": 150, "speaker": 20, "visual": 200, "graph": 2, "ASR": 800}
    encoders = [{"encoder": kind, "modality": kind, "ms": ms, "MB_in_memory": 10} for kind, ms in milliseconds.items()]
    results = {"schema": 1, "taken": "2026-01-01", "machine": {"cpu": "a machine", "cores": 4}}
    parts = {"capacity": tables, "encoders": {"encoders": encoders}}
    results["parts"] = {name: {"seconds": 1, "yardstick_ms": 1.0, "tables": part} for name, part in parts.items()}
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(results))

    costs = read_costs(file)
    assert costs.held == {"transcript": 8, "base": 1, mixed: 6}
    assert costs.running["segmentation"] == pytest.approx(3.0)
    assert costs.understanding["speaker"] == pytest.approx(0.2) and costs.memory["segmentation"] == 0
    assert costs.understanding["text"] == pytest.approx(0.05) and costs.understanding["audio"] == pytest.approx(0.15)
    assert costs.understanding["base"] == pytest.approx(0.8) and costs.events == 4
    assert costs.memory["ray"] == 200 and costs.memory["session"] == 100

    kept = tmp_path / "costs.json"
    kept.write_text(CliRunner().invoke(app, ["bench", "costs", str(file)]).stdout)
    assert read_costs(kept) == costs
    del results["parts"]["encoders"]
    file.write_text(json.dumps(results))
    with pytest.raises(ResultsError, match="no encoders"):
        read_costs(file)
