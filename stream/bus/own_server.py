"""The user's own Redis: one server for all commands of a user, started when one needs it, that stays with its data.

DATA/undertone/redis/            0700, in the user's data folder
    password                     0600
    socket                       0600; in a folder of /tmp where this path is too long for a socket
    appendonly…                  its data: words are in here until they are forgotten, or expire
    running.lock                 locked by the server as long as it lives: two on the same data would destroy them
    pid, log
RUNTIME/undertone/redis.json     0600; its address. RUNTIME is $XDG_RUNTIME_DIR, or else the folder above
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs
import redis
from filelock import FileLock, Timeout

from stream.bus.connection import BusError
from stream.bus.server import (
    MAX_SOCKET_PATH_BYTES,
    START_S,
    answers,
    configuration,
    last_line,
    quoted,
    require_binary,
    socket_url,
    spawn,
)
from stream.private import NotPrivate, private_folder, read_private, short_private_folder, write_private

STOP_S = 10.0  # for a server to write what it has, and end


def redis_address(given: str | None) -> str:
    """The Redis to use: the one given, else $UNDERTONE_REDIS, else the user's own, which is started if need be.

    One that merely answers at localhost is not taken: any user of the machine may have started it, or read from it.
    Raises BusError.
    """
    return given or os.environ.get("UNDERTONE_REDIS") or own_server()


def data_folder() -> Path:
    """Folder of the user's own server; it may not exist."""
    return platformdirs.user_data_path("undertone") / "redis"


def running() -> str | None:
    """Address of the user's own server if it runs, with its password; None if not."""
    try:
        url = json.loads(read_private(_record()) or "{}").get("url", "")
        socket = Path(unquote(urlsplit(url).path))
        if not url or socket.parent.stat().st_uid != os.geteuid() or socket.stat().st_uid != os.geteuid():
            return None
    except (ValueError, AttributeError, TypeError, OSError):
        return None
    return url if answers(url) else None


def own_server() -> str:
    """Address of the user's own server, started if it does not run. Raises BusError."""
    if (url := running()) is not None:
        _drop_expired(url)
        return url
    with _alone() as folder:
        if (url := running()) is not None:  # another command was faster
            return url
        password = _password(folder)
        socket = folder / "socket"
        if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
            socket = short_private_folder() / "redis.socket"
        url = socket_url(socket, password)
        if not answers(url):  # else its record went, as the runtime folder does when the user logs out
            _start(folder, socket, password, url)
        private_folder(_record().parent)
        write_private(_record(), json.dumps({"url": url}) + "\n")
    _drop_expired(url)
    return url


def stop() -> bool:
    """End the user's own server; its data stay. False if it did not run. Raises BusError."""
    if not data_folder().is_dir():
        return False
    with _alone() as folder:
        lock = _lock(folder)
        try:
            ran = not _taken(lock)
            if ran:
                _end(folder, lock)
        finally:
            os.close(lock)
        _record().unlink(missing_ok=True)
        return ran


@contextmanager
def _alone() -> Iterator[Path]:
    """The data folder, while no other command starts or stops the server. Raises BusError."""
    try:
        folder = private_folder(data_folder())
        with FileLock(folder / "starting.lock", timeout=2 * START_S, mode=0o600):
            yield folder
    except NotPrivate as error:
        raise BusError(f"no place for a Redis of your own ({error}): set XDG_DATA_HOME, or give --redis URL") from None
    except Timeout:
        raise BusError(f"another command has been starting Redis for a minute: {data_folder() / 'log'}") from None


def _start(folder: Path, socket: Path, password: str, url: str) -> None:
    """Start the server over its data, after one that lives but cannot be reached has ended. Raises BusError."""
    binary, log, pid = require_binary(), folder / "log", folder / "pid"
    lock = _lock(folder)
    try:
        if not _taken(lock):
            _end(folder, lock)
        log.unlink(missing_ok=True)
        settings = configuration(
            folder, socket, password, "appendonly yes", "appendfsync everysec",
            "daemonize yes", f"pidfile {quoted(pid)}", f"logfile {quoted(log)}",
        )  # fmt: skip
        failed = spawn(binary, settings, [lock]).wait()  # the process that stays is its child, and inherits the lock
    finally:
        os.close(lock)
    deadline = time.monotonic() + START_S
    while not answers(url):
        if failed or time.monotonic() > deadline or not _alive(folder):
            raise BusError(f"{binary} does not start: {last_line(log)} (its data: {folder})")
        time.sleep(0.02)


def _lock(folder: Path) -> int:
    """The lock of the running server, open."""
    return os.open(folder / "running.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _taken(lock: int) -> bool:
    """Take the lock; False if a running server has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(folder: Path) -> bool:
    """True while a server has the lock."""
    lock = _lock(folder)
    try:
        return not _taken(lock)
    finally:
        os.close(lock)


def _end(folder: Path, lock: int) -> None:
    """End the server that has the lock, and take the lock. Raises BusError."""
    pid = (read_private(folder / "pid") or "").strip()
    if not pid.isdecimal() or not _has_open(int(pid), folder / "running.lock"):
        raise BusError(f"a Redis of yours cannot be reached, nor found to be ended: see {folder}")
    for end in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(int(pid), end)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            if _taken(lock):
                return
            time.sleep(0.02)
    raise BusError(f"the Redis with process id {pid} does not end")


def _has_open(pid: int, path: Path) -> bool:
    """True if the process has the file open, where the system tells; else True."""
    folder = Path(f"/proc/{pid}/fd")
    if not Path("/proc/self/fd").is_dir():
        return True
    try:
        return any(entry.readlink() == path.resolve() for entry in folder.iterdir())
    except OSError:
        return False


def _password(folder: Path) -> str:
    """The server's password, made with its folder."""
    path = folder / "password"
    if len(found := read_private(path) or "") != 64:
        found = secrets.token_hex(32)
        write_private(path, found)
    return found


def _record() -> Path:
    """File with the server's address, by which commands find it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir() and Path(runtime).stat().st_uid == os.geteuid():
        return Path(runtime) / "undertone" / "redis.json"
    return data_folder() / "redis.json"


def _drop_expired(url: str) -> None:
    """Have the data written anew if keys have expired since that was done last: until then the file has them."""
    done = data_folder() / "rewritten"
    with redis.Redis.from_url(url, decode_responses=True) as client, suppress(redis.RedisError, OSError):
        stats = client.info()
        now = f"{stats['run_id']} {stats['expired_keys']}"
        if stats["expired_keys"] and now != read_private(done):
            client.bgrewriteaof()
            write_private(done, now)
