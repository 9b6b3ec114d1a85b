"""deploy/gpu_check.py on the CPU, where no other packages are installed than it names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

ALONE = f"""
import importlib.machinery, runpy, sys
KEPT_AWAY = {{"pydantic", "platformdirs", "ray", "redis", "typer", "rich", "parselmouth", "sklearn", "fastapi", "av",
             "sounddevice", "webrtcvad", "faster_whisper", "ctranslate2", "onnxscript", "onnx", "peft", "scipy"}}
finder = importlib.machinery.PathFinder

class Without:
    find_distributions, invalidate_caches = finder.find_distributions, finder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        kept_away = name.partition(".")[0] in KEPT_AWAY
        return None if kept_away else finder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(finder)] = Without
sys.argv = ["gpu_check.py", *sys.argv[1:]]
runpy.run_path({str(ROOT / "deploy/gpu_check.py")!r}, run_name="__main__")
"""


def test_it_runs_where_only_its_packages_are(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "--device", "cpu", "--out", str(out)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["equality"] and all(row["largest difference"] < 1e-5 for row in found["equality"])
    assert all(found[part] for part in ("memory", "steps", "arrivals", "encoders"))
    assert "equal to the CPU" in done.stdout


def test_a_device_that_is_not_there_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy/gpu_check.py"), "--device", "cuda"],
        capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": "", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1 and "no CUDA device" in done.stderr and "Traceback" not in done.stderr
