"""A gateway whose node of Ray is slow, and one whose node dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx

from tests.support.gateways import gateways

BUSY_S = 12.0  # seconds without a sign of life: several looks of the gateway, fewer than Ray's patience


def raylet_of(gateway: int) -> int:
    """The raylet of a gateway's private Ray."""
    children = subprocess.run(["ps", "--ppid", str(gateway), "-o", "pid=,comm="], capture_output=True, text=True).stdout
    (raylet,) = [int(line.split()[0]) for line in children.splitlines() if "raylet" in line]
    return raylet


def test_a_gateway_outlives_a_busy_node_and_ends_with_a_dead_one(tmp_path: Path, redis_url: str) -> None:
    """So that its supervisor starts it anew; with the exit code of a failure, and one line."""
    with gateways(tmp_path, 1, "--redis", redis_url) as (gateway,):
        raylet = raylet_of(gateway.process.pid)
        os.kill(raylet, signal.SIGSTOP)
        time.sleep(BUSY_S)
        os.kill(raylet, signal.SIGCONT)
        assert httpx.get(f"{gateway.http}/readyz", timeout=30).status_code == 200
        os.kill(raylet, signal.SIGKILL)
        assert gateway.process.wait(90) == 1
        log = gateway.log.read_text()
        assert len([line for line in log.splitlines() if "Ray on this machine has died" in line]) == 1
        assert "Traceback" not in log
