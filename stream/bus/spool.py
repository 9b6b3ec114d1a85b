"""Where a session's events wait on disk while Redis is away: a bounded SQLite file, gone when they are sent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import platformdirs

MAX_BYTES = 64 << 20  # bytes a session may leave to wait: days of conversation
LOCK_WAIT_S = 5.0  # seconds to wait for another process that has the file


@dataclass(frozen=True)
class Entry:
    """What goes to Redis in one transaction: events, and what another process needs to go on after them."""

    events: Sequence[tuple[str, str, str]] = ()
    """Id, type and JSON of each."""
    state: str | None = None
    """Takes the place of the state that was kept before."""
    row: str | None = None
    """Is added to the rows that are kept."""
    rows: int = 0
    """How many of them are."""
    over: bool = False
    """The session has ended: neither state nor rows are needed any more."""
    kept: int = 0
    """Seconds that Redis keeps it; 0 = as the bus says."""


def spool_path(session: str, prefix: str, folder: Path | None = None) -> Path:
    """The file of a session's events that wait."""
    return (folder or spool_folder()) / f"{quote(prefix, safe='').replace('.', '%2E')}.{session}.db"


def spool_folder() -> Path:
    """Where they are, on this machine and for this user."""
    return platformdirs.user_state_path("undertone") / "spool"


class Spool:
    """First in, first out; beyond `limit` bytes the oldest are given up. There is no file unless something waits."""

    def __init__(self, path: Path, limit: int = MAX_BYTES) -> None:
        self.path, self.given_up = path, 0
        self._limit = limit
        self._file: sqlite3.Connection | None = None
        self._size = self._sent = 0
        if path.exists():
            self._open()

    def __len__(self) -> int:
        return 0 if self._file is None else self._file.execute("SELECT count(*) FROM waiting").fetchone()[0]

    def append(self, entry: Entry) -> None:
        """Let an entry wait. Where the disk takes nothing (it is full, say), the entry is given up."""
        payload = json.dumps(asdict(entry))
        try:
            file = self._open()
            with file:
                while self._size + len(payload) > self._limit and (oldest := self.first()) is not None:
                    self._delete(file, oldest[0])
                    self.given_up += len(oldest[1].events)
                file.execute("INSERT INTO waiting (entry) VALUES (?)", (payload,))
                self._size += len(payload)
        except (sqlite3.Error, OSError):
            self.given_up += len(entry.events)

    def first(self) -> tuple[int, Entry] | None:
        """The oldest entry and its number."""
        if self._file is None:
            return None
        query = "SELECT number, entry FROM waiting WHERE number > ? ORDER BY number LIMIT 1"
        found = self._file.execute(query, (self._sent,)).fetchone()
        return None if found is None else (found[0], Entry(**json.loads(found[1])))

    def remove(self, number: int) -> None:
        """An entry has been sent. With the last one goes the file."""
        if self._file is None:
            return
        self._sent = number
        with suppress(sqlite3.Error), self._file:  # a full disk: it goes with the file
            self._delete(self._file, number)
        if self.first() is None:
            self.close()
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """What waits stays on disk."""
        if self._file is not None:
            self._file.close()
        self._file, self._size, self._sent = None, 0, 0

    def _delete(self, file: sqlite3.Connection, number: int) -> None:
        query = "DELETE FROM waiting WHERE number = ? RETURNING length(entry)"
        self._size -= sum(size for (size,) in file.execute(query, (number,)))

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.touch(mode=0o600)
            self._file = self._connect()
            self._size = self._file.execute("SELECT coalesce(sum(length(entry)), 0) FROM waiting").fetchone()[0]
        return self._file

    def _connect(self) -> sqlite3.Connection:
        """Who opens it has it alone until it is closed."""
        file = sqlite3.connect(self.path, timeout=LOCK_WAIT_S, check_same_thread=False)
        try:
            # What was sent is to be gone from the disk; a machine that loses power may lose the last moments.
            file.executescript(
                "PRAGMA secure_delete = ON; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
                "CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY, entry TEXT);"
                "DELETE FROM waiting WHERE number < 0;"  # takes the lock
            )
        except sqlite3.OperationalError:
            file.close()
            raise
        except sqlite3.DatabaseError:  # damaged by a loss of power
            file.close()
            self.path.replace(self.path.with_suffix(".broken"))
            self.path.touch(mode=0o600)
            return self._connect()
        return file


def waiting(folder: Path | None = None) -> Iterator[tuple[str, str, Path]]:
    """Session, prefix and file of all that wait."""
    folder = folder or spool_folder()
    for path in sorted(folder.glob("*.db")) if folder.is_dir() else ():
        prefix, _, session = path.stem.partition(".")
        yield session, unquote(prefix), path
