"""Redis servers that a test starts, kills, and starts again; one as deploy/redis/ sets it up."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis as sync_redis

from stream.bus.server import require_binary
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
def private_server(*options: str) -> Iterator[str]:
    """A Redis without a password on a free port of loopback, which tests may take apart; it ends with the context.

    options: as on the command line of redis-server. Yields its URL.
    """
    with tempfile.TemporaryDirectory(prefix="undertone-redis-") as folder:
        port = free_port()
        command = [require_binary(), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        for dangerous in ("config", "debug", "module", "replicaof", "slaveof"):  # it writes files for nobody
            command += ["--rename-command", dangerous, ""]
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            for _ in range(200):
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Server]:
    running = Server(folder, *options)
    try:
        yield running
    finally:
        running.kill()


def client(url: str) -> sync_redis.Redis:
    return sync_redis.Redis.from_url(url, decode_responses=True)


def until(happened: Callable[[], bool], patience_s: float = 30) -> None:
    deadline = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
