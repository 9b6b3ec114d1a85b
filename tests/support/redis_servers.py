"""Redis servers that a test starts, kills, and starts again; one as deploy/redis/ sets it up."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis as sync_redis

from tests.support.gateways import free_port
from tests.support.secure_redis import tool


class Server:
    """A Redis that can be killed and started again at its place."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [
            tool("redis-server"), "--port", str(self.port), "--dir", str(folder), "--save", "", *options,
        ]  # fmt: skip
        self.start()

    @property
    def admin(self) -> sync_redis.Redis:
        return sync_redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                self.admin.ping()
                return
            except sync_redis.ConnectionError:
                time.sleep(0.05)
        raise RuntimeError("no Redis")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Server]:
    running = Server(folder, *options)
    try:
        yield running
    finally:
        running.kill()
