"""Another user of the machine, who reads, writes, connects and signals wherever the system lets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.commands import UNDERTONE
from tests.support.paths import DEMO, DEMO_TRANSCRIPT

NOBODY = 65534
AUTOSCALER_PORT = 44217  # Ray's; serves figures of an autoscaler that has nothing to scale
ATTACK = """
import json, os, socket, sys
given = json.load(sys.stdin)
got = []
def tried(what, action):
    try:
        got.append([what, str(action())[:300]])
    except OSError:
        pass
for path in given["paths"]:
    tried("read " + path, lambda: open(path, "rb").read(1000))
    tried("wrote " + path, lambda: open(path, "r+b"))
    tried("listed " + path, lambda: os.listdir(path))
    tried("created in " + path, lambda: os.close(os.open(path + "/planted", os.O_CREAT | os.O_WRONLY)))
    tried("moved " + path, lambda: os.rename(path, path + ".gone"))
    tried("connected to " + path, lambda: socket.socket(socket.AF_UNIX).connect(path))
for process in given["processes"]:
    tried(f"signalled {process}", lambda: os.kill(process, 0))
    for part in ("environ", "mem", "fd", "cwd"):
        name = f"/proc/{process}/{part}"
        tried("read " + name, lambda: os.listdir(name) if part in ("fd", "cwd") else open(name, "rb").read(1))
    tried("arguments", lambda: open(f"/proc/{process}/cmdline").read())
for host, port in given["ports"]:
    for said in (b"PING\\r\\n", b"GET / HTTP/1.0\\r\\n\\r\\n", b"GET /metrics HTTP/1.0\\r\\n\\r\\n"):
        def ask():
            with socket.create_connection((host, port), 2) as connection:
                connection.settimeout(2)
                connection.sendall(said)
                return connection.recv(300)
        tried(f"port {port}", ask)
json.dump(got, sys.stdout)
"""


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that anybody may run."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user for a while")
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if Path(candidate).exists():
            return candidate
    pytest.skip("no Python here that other users may run")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder that anybody may look into, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp"))
    folder.chmod(0o755)
    for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "RAY_TMPDIR"):
        monkeypatch.setenv(variable, str(folder))
    for variable in ("UNDERTONE_REDIS", "XDG_RUNTIME_DIR", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    yield folder
    subprocess.run([UNDERTONE, "down"], check=True, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def attack(python: str, paths: set[str], processes: list[psutil.Process]) -> list[list[str]]:
    """What another user gets of these files, processes and their ports; they are told where to look."""
    inodes: set[str] = set()
    for process in processes:
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            target = str(entry.readlink()) if entry.is_symlink() else ""
            inodes |= {target[8:-1]} if target.startswith("socket:[") else set()
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                number = int(fields[1].rpartition(":")[2], 16)
                raw = bytes.fromhex(fields[1].partition(":")[0])[::-1]
                host = ".".join(map(str, raw)) if table == "tcp" and any(raw) else "127.0.0.1"
                ports.add((host, number))
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if fields[6] in inodes and len(fields) > 7:
            paths.add(fields[7])
    told: dict[str, Any] = {"paths": sorted(paths), "ports": sorted(ports), "processes": [p.pid for p in processes]}
    done = subprocess.run(
        [python, "-c", ATTACK], input=json.dumps(told), capture_output=True, text=True, check=True,
        user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", env={}, timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout)


def belongings(home: Path) -> set[str]:
    """Everything in a home folder, and the open files of nobody else."""
    return {str(path) for path in home.rglob("*")} | {str(home)}


def harmless(what: str, gotten: str) -> bool:
    """What anybody may know: that folders are there, the names of processes, ports that want a token."""
    if what == "arguments":
        return True  # looked at below
    if what == f"port {AUTOSCALER_PORT}":
        return True
    if what.startswith("port "):
        http2_or_nothing = gotten in ("b''",) or gotten.startswith("b'\\x00\\x00")
        return http2_or_nothing or " 401 " in gotten or " 400 " in gotten
    return False


def test_another_user_gets_nothing(home: Path, python: str) -> None:
    command = [
        UNDERTONE, "replay", str(DEMO), "--transcript", str(DEMO_TRANSCRIPT), "--speed", "1", "--json",
        "--session", "ours", "--record", str(home / "recordings"),
    ]  # fmt: skip
    victim = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, umask=0, start_new_session=True
    )
    try:
        assert victim.stdout is not None
        for line in victim.stdout:
            if '"emotion"' in line and '"provisional"' not in line:
                break
        else:
            pytest.fail("the session has ended")
        redis = psutil.Process(int((home / "undertone/redis/pid").read_text()))
        ours = psutil.Process(victim.pid)
        processes = [redis, ours, *ours.children(recursive=True)]
        paths = belongings(home)
        assert any(path.endswith("sound.mkv") for path in paths) and any("session_latest" in path for path in paths)
        gotten = attack(python, paths, processes)
    finally:
        victim.send_signal(signal.SIGINT)
        victim.communicate()
    password = (home / "undertone/redis/password").read_text()
    assert password not in json.dumps(gotten)
    taken = [(what, got) for what, got in gotten if not harmless(what, got) and what != f"listed {home}"]
    assert taken == []

    exported = home / "ours.csv"
    subprocess.run(
        [UNDERTONE, "export", "ours", "--format", "csv", "--out", exported], check=True, capture_output=True, umask=0
    )
    assert "Mara" in exported.read_text()
    assert attack(python, {str(exported)}, []) == []


def test_a_folder_that_another_user_has_put_there_is_not_used(home: Path, python: str) -> None:
    """In /tmp anybody can be first."""
    planted = home / f"undertone-{os.geteuid()}"
    planted.mkdir()
    os.chown(planted, NOBODY, NOBODY)
    script = (
        "import ray; from workers.cluster.actors import ray_cluster\n"
        "with ray_cluster(None): print(ray.get_runtime_context().gcs_address)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() and not list(planted.iterdir())
    (folder,) = (path for path in home.glob("undertone-*") if path != planted)
    assert folder.stat().st_mode & 0o077 == 0 and (folder / "ray").is_dir()
