from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.progress import Silent
from tests.support.bench_parts import broken, dying, lacking, quick
from workers.bench.report.results import Results, read_results, write_results
from workers.bench.report.suite import PARTS, chosen, run_all
from workers.cli.app import app


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def tell(self, message: str) -> None:
        self.lines.append(message)

    def step(self, task: str, done: int, total: int) -> None:
        self.steps.append((task, done, total))


@pytest.mark.integration
def test_parts_run_in_processes_of_their_own_and_the_file_is_kept_after_each(tmp_path: Path) -> None:
    file, told = tmp_path / "bench.json", Told()
    kept: list[list[str]] = []

    def keep(results: Results) -> None:
        write_results(results, file)
        kept.append(list(read_results(file)["parts"]))

    parts = {"quick": quick, "lacking": lacking, "broken": broken, "dying": dying}
    results = run_all(parts, told, keep)
    assert kept == [list(parts)[: n + 1] for n in range(4)]
    assert read_results(file) == results
    assert {"cpu", "cores", "memory_gb", "os", "python", "torch", "ray", "commit"} <= set(results["machine"])
    told_by = results["parts"]
    assert told_by["quick"]["yardstick_ms"] > 0
    assert told_by["quick"]["tables"]["graph"][0]["work"] not in (f"in {os.getpid()}", "")
    assert told_by["lacking"]["skipped"] == "no such recording"
    assert told_by["broken"]["failed"] == "ValueError: a slip"
    assert "code 3" in told_by["dying"]["failed"]
    assert told.steps == [("figures", 1, 2)]
    assert any("in broken" in line for line in told.lines), "where an error came from is told"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.integration
def test_the_command_writes_the_file_and_says_by_its_code_whether_a_part_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.bench.report.suite.PARTS", {"quick": quick, "lacking": lacking, "broken": broken})
    file = tmp_path / "results.json"
    done = CliRunner().invoke(app, ["bench", "all", str(file), "--except", "broken", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == read_results(file)
    assert list(read_results(file)["parts"]) == ["quick", "lacking"]
    assert CliRunner().invoke(app, ["bench", "all", str(file), "--only", "broken,quick"]).exit_code == 1
    assert list(read_results(file)["parts"]) == ["quick", "broken"]
    unknown = CliRunner().invoke(app, ["bench", "all", str(file), "--only", "quack"])
    assert unknown.exit_code == 2
    assert unknown.stderr == "undertone: no benchmark 'quack'; there are quick, lacking, broken\n"
    assert CliRunner().invoke(app, ["bench", "all", str(tmp_path / "no" / "file")]).exit_code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.integration
def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_running(tmp_path: Path, number: int) -> None:
    program = (
        "from workers.bench.report import suite; from tests.support.bench_parts import endless, quick\n"
        "suite.PARTS.clear(); suite.PARTS.update(quick=quick, endless=endless)\n"
        "from workers.cli.app import main; main()"
    )
    command = [sys.executable, "-c", program, "bench", "all", str(tmp_path / "bench.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("endless"))
        process.send_signal(number)
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 130
    assert list(read_results(tmp_path / "bench.json")["parts"]) == ["quick"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(line.split()[1]), 0)


def test_every_part_can_be_named_to_another_process() -> None:
    for part in PARTS.values():
        assert pickle.loads(pickle.dumps(part)) is part
    assert list(chosen([], ["graph"])) == [name for name in PARTS if name != "graph"]
    assert set(chosen(["vad", "graph"], [])) == {"vad", "graph"}
