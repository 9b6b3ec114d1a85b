"""The wheel: every package, and every weight, template, page and configuration file of the source tree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("stream", "model", "workers")
PUBLIC = "workers/public/"
"""Folder of `undertone`, which the wheel has at its top."""
ONLY_IN_REPOSITORY = re.compile(r"model/(RESULTS\.md|results/|checkpoints/[\w-]+/seeds/)")
"""Reports on the shipped checkpoints, and weights of other seeds, which `undertone evaluate` and `train` read."""
MAX_BYTES = 36 << 20


def tracked() -> list[str]:
    """Files of the packages that git tracks, or will track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the tracked files, as a release builds it from a clone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*tracked(), "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run([*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    wanted = {name.removeprefix(PUBLIC) for name in tracked() if not ONLY_IN_REPOSITORY.match(name)}
    held = {name for name in wheel.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    assert wanted - held == set(), "missing from the wheel: see package-data in pyproject.toml"
    assert held - wanted == set(), "in the wheel, and not in the repository"
    for kind in (".safetensors", ".onnx", ".toml", ".j2", ".html", ".js", ".css", ".json", ".opus", ".stm"):
        assert any(name.endswith(kind) for name in held), kind


def test_the_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    assert sum(each.compress_size for each in wheel.infolist()) < MAX_BYTES


def test_the_shipped_encoders_and_their_licences_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    held = {Path(name).name for name in wheel.namelist() if name.startswith("model/encoders/weights/")}
    assert {"yunet_n_320_320.onnx", "LICENSE.yunet", "yamnet.onnx", "LICENSE.yamnet", "model.safetensors"} <= held


def test_every_folder_with_modules_is_a_package(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    folders = {str(Path(name.removeprefix(PUBLIC)).parent) for name in tracked() if name.endswith(".py")}
    assert len(folders) > 10
    assert {folder for folder in folders if f"{folder}/__init__.py" not in held} == set()


def test_what_is_in_the_wheel_is_what_is_in_the_tree(wheel: zipfile.ZipFile) -> None:
    for name in wheel.namelist():
        if name.partition("/")[0] in PACKAGES and not name.endswith(".py"):
            assert wheel.read(name) == (ROOT / name).read_bytes(), name


def test_the_command_is_an_entry_point(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "undertone = workers.cli:main" in wheel.read(entry_points).decode()


def test_programs_are_checked_by_the_types_of_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The examples of deploy/ and of the guide, by mypy as strict as it gets, against what is installed."""
    venv.create(tmp_path / "venv")
    (installed,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    wheel.extractall(installed)
    (installed / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    programs = [ROOT / "deploy" / "examples" / name for name in ("analyse.py", "listen.py")]
    fences = re.findall(r"^```python\n(.*?)^```", (ROOT / "deploy/guide/python.md").read_text(), re.M | re.S)
    for number, fence in enumerate(fences):
        programs.append(tmp_path / f"fence_{number}.py")
        programs[-1].write_text(fence)
    typed = tmp_path / "typed.py"
    typed.write_text(
        "import undertone\n"
        "for event in undertone.analyse('call.wav'):\n"
        "    if event.type == 'emotion':\n"
        "        reveal_type(event)\n"
        "reveal_type(undertone.ERRORS)\n"
    )
    python = tmp_path / "venv" / "bin" / "python"
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), *map(str, programs)]
    done = subprocess.run([*command, str(typed)], cwd=tmp_path, capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Revealed type is "stream.events.Emotion"' in done.stdout
    assert "stream.errors.StreamError" in done.stdout
