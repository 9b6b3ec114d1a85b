"""Description of the measured machine, and its speed at the time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from stream import __version__
from stream.bus.server import server_binary

HERE = Path(__file__).parent


def describe() -> dict[str, Any]:
    """Processor, memory, versions, and the commit of a checkout (None elsewhere)."""
    return {
        "cpu": _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": _first(r"^Model:\s*(.+)$", *map(str, Path("/proc/driver/nvidia/gpus").glob("*/information"))),
        "os": _first(r'^PRETTY_NAME="(.+)"$', "/etc/os-release") or platform.platform(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "ray", "numpy")},
        "redis_server": _printed(server_binary() or "redis-server", "--version", r"v=(\S+)"),
        "undertone": __version__,
        "commit": _printed("git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=10", r"(\S+)"),
    }


def _first(pattern: str, *files: str) -> str | None:
    for file in files:
        if Path(file).is_file() and (found := re.search(pattern, Path(file).read_text(), re.MULTILINE)):
            return found[1].strip()
    return None


def _printed(*command_and_pattern: str) -> str | None:
    *command, pattern = command_and_pattern
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return None
    found = re.search(pattern, printed)
    return found and found[1]


def yardstick() -> float:
    """Median milliseconds of a fixed piece of work on one core, by which machines are compared.

    Half of it is small matrix products (as in the networks), half is plain Python (as around them).
    """
    matrix = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32) / 8  # larger ones take all cores
    counts: dict[int, int] = {}
    taken = []
    for _ in range(300):
        started = time.perf_counter()
        for _ in range(100):
            np.tanh(matrix @ matrix)
        for n in range(12_000):
            counts[n % 97] = n
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken))
