"""The user's own Redis: one server for all commands of a user, started when one needs it, that stays with its data.

DATA/undertone/redis/            0700, in the user's data folder
    password                     0600
    socket                       0600; in a folder of /tmp where this path is too long for a socket
    appendonly…                  its data: words are in here until they are forgotten, or expire
    running.lock                 locked by the server as long as it lives: two on the same data would destroy them
    keeper.lock                  by the process that has what expired taken off the disk (`keep`)
    commands/PID                 by each command whose sessions publish there, for as long as it runs
    pid, log
RUNTIME/undertone/redis.json     0600; its address. RUNTIME is $XDG_RUNTIME_DIR, or else the folder above
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs
import redis
from filelock import FileLock, Timeout
from redis.backoff import NoBackoff
from redis.retry import Retry

from stream.bus.connection import BusError
from stream.bus.server import (
    MAX_SOCKET_PATH_BYTES,
    START_S,
    answers,
    configuration,
    last_line,
    private_server,
    quoted,
    require_binary,
    socket_url,
    spawn,
)
from stream.private import NotPrivate, private_folder, read_private, short_private_folder, write_private

STOP_S = 10.0  # for a server to write what it has, and end
COMMANDS_S = 45.0  # for commands to publish what they have heard, and end; a gateway's clients have 30 to move
REWRITE_PAUSE_S = 60.0  # between two times that the data are written anew
GATHER_S = 1.0  # after a key has gone, for others that go with it
REWRITE_S = 60.0  # for a server to write its data anew
GONE = ("__keyevent@0__:expired", "__keyevent@0__:del")  # channels that tell which keys have gone
KEEPER = "import sys; from stream.bus.own_server import keep; keep(float(sys.argv[1]))"


class RedisChoice(BusError):
    """Two servers are asked for at once."""

    exit_code, http_status = 2, 422


def redis_address(given: str | None) -> str:
    """The Redis to use: the one given, else $UNDERTONE_REDIS, else the user's own, which is started if need be.

    One that merely answers at localhost is not taken: any user of the machine may have started it, or read from it.
    Raises BusError.
    """
    return given or os.environ.get("UNDERTONE_REDIS") or own_server()


@contextmanager
def session_redis(given: str | None, ephemeral: bool) -> Iterator[str]:
    """The Redis of a command that starts sessions, for as long as it runs: as `redis_address` has it, where
    `end_commands` ends the command, or one of the command's own, without data on disk, that dies with it.

    Raises BusError, and RedisChoice.
    """
    if ephemeral and given:
        raise RedisChoice("--ephemeral is a Redis of the command's own: leave --redis out")
    if ephemeral:
        with private_server() as url:
            yield url
    elif given or os.environ.get("UNDERTONE_REDIS"):
        yield redis_address(given)
    else:
        url = own_server()
        with _registered():
            yield url


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
        if not _alive(data_folder(), "keeper.lock"):  # it was killed
            _start_keeper()
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
    _start_keeper()
    return url


def end_commands(*patience_s: float) -> int:
    """End the commands whose sessions publish to the user's own server, as Ctrl-C would: what they heard is told.

    patience_s: after the first signal, and after each further one. Returns how many have ended. Raises BusError if one
    does not end.
    """
    asked: set[int] = set()
    for patience in patience_s or (COMMANDS_S, STOP_S):  # a second signal ends a command at once
        waiting = _commands()
        for pid in waiting:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        asked |= waiting
        deadline = time.monotonic() + patience
        while (left := _commands() & waiting) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not left:
            return len(asked)
    raise BusError(f"still at work, and not to be ended: process {', '.join(map(str, sorted(left)))}")


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
        for left in folder.glob("temp-*"):  # of a server that was killed while it wrote its data anew
            left.unlink()
        settings = configuration(
            folder, socket, password, "appendonly yes", "appendfsync everysec",
            "auto-aof-rewrite-percentage 100", "auto-aof-rewrite-min-size 16mb", "notify-keyspace-events Egx",
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


def _lock(folder: Path, name: str = "running.lock") -> int:
    """A lock, open: that of the running server if no other is named."""
    return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _taken(lock: int) -> bool:
    """Take the lock; False if another process has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(folder: Path, name: str = "running.lock") -> bool:
    """True while a process has the lock: the server if no other is named."""
    lock = _lock(folder, name)
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
    with suppress(OSError):
        for entry in folder.iterdir():
            with suppress(FileNotFoundError):  # a connection that has been closed since
                if entry.readlink() == path.resolve():
                    return True
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


@contextmanager
def _registered() -> Iterator[None]:
    """Have this command found by `_commands` for as long as the context lasts."""
    folder = private_folder(data_folder() / "commands")
    path = folder / str(os.getpid())
    lock = _lock(folder, path.name)
    try:
        _taken(lock)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _commands() -> set[int]:
    """Process ids of the registered commands that live: a lock ends with its process."""
    folder, found = data_folder() / "commands", set()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.isdecimal() and _alive(folder, path.name):
            found.add(int(path.name))
        else:
            path.unlink(missing_ok=True)
    return found


def keep(pause_s: float) -> None:
    """Have the user's own server write its data anew soon after keys have gone: until then its file has them.

    The body of the process that stands beside the server, and ends with it. pause_s: seconds between two times, at
    least.
    """
    lock, deadline = _lock(data_folder(), "keeper.lock"), time.monotonic() + STOP_S
    while not _taken(lock):  # by the one of the server before, which is about to end
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    if (url := running()) is None:
        return
    with (
        redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client,
        client.pubsub(ignore_subscribe_messages=True) as told,
        suppress(redis.ConnectionError, OSError),  # the server has ended
    ):
        told.subscribe(*GONE)
        has_gone = True  # before: while the server was down, or nobody stood beside it
        while True:
            if has_gone:
                has_gone = not _rewritten(client)
            next_at = time.monotonic() + pause_s
            while not has_gone or (rest := next_at - time.monotonic()) > 0:
                message = told.get_message(timeout=rest if has_gone else None)
                if message and not has_gone:
                    has_gone, next_at = True, max(next_at, time.monotonic() + GATHER_S)


def _rewritten(client: redis.Redis) -> bool:
    """Have the data written anew; False if that failed, or another time was under way. Raises ConnectionError."""
    with suppress(redis.ResponseError):  # one is under way
        client.bgrewriteaof()
        deadline = time.monotonic() + REWRITE_S
        while time.monotonic() < deadline:
            state = client.info("persistence")
            if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
                return bool(state["aof_last_bgrewrite_status"] == "ok")
            time.sleep(0.05)
    return False


def _start_keeper() -> None:
    """Start `keep` beside the server; where another is there already, it ends at once."""
    source = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
    # By a shell that ends at once, so that it is nobody's child; deaf to Ctrl-C, as the server is.
    command = ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-c", KEEPER, str(REWRITE_PAUSE_S)]
    subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", check=False,
        env=environment, start_new_session=True,
    )  # fmt: skip
