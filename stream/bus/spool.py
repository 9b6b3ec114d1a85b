"""Spool of a session's events on disk while Redis is unreachable: a bounded SQLite file, removed when all are sent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import platformdirs

from stream.private import NotPrivate, private_folder

MAX_BYTES = 64 << 20  # bytes of a session's spool: days of conversation
LOCK_WAIT_S = 5.0  # seconds to wait for another process that has the file


@dataclass(frozen=True)
class Entry:
    """One Redis transaction: events, and the state from which another process can resume after them.

    Spools store these fields by name, so they cannot be renamed.
    """

    events: Sequence[tuple[str, str, str]] = ()
    """Id, type and JSON of each event."""
    state: str | None = None
    """New state of the session; replaces the one before."""
    row: str | None = None
    """Row to append to the session's list of rows."""
    rows: int = 0
    """Maximum length of that list."""
    over: bool = False
    """The session has ended: state and rows are deleted."""
    kept: int = 0
    """Retention in Redis in seconds; 0 = the retention of the bus."""


def spool_path(session: str, prefix: str, folder: Path | None = None) -> Path:
    """Path of a session's spool."""
    return (folder or spool_folder()) / f"{quote(prefix, safe='').replace('.', '%2E')}.{session}.db"


def request_path(session: str, prefix: str) -> Path:
    """Path of what a gateway was sent to start a session, which is there while the session goes on."""
    return spool_path(session, prefix).with_suffix(".request")


def spool_folder() -> Path:
    """Folder of the spools of this machine's user."""
    return platformdirs.user_state_path("undertone") / "spool"


class Spool:
    """A queue on disk, first in, first out; beyond `limit` bytes the oldest entries are dropped.

    The file exists only while entries wait. Raises sqlite3.OperationalError if another process has it open.
    """

    def __init__(self, path: Path, limit: int = MAX_BYTES) -> None:
        self.path, self.dropped_events = path, 0
        self._limit = limit
        self._file: sqlite3.Connection | None = None
        self._size = self._sent = self._last = 0
        if path.exists():
            self._open()

    def __len__(self) -> int:
        return 0 if self._file is None else self._file.execute("SELECT count(*) FROM waiting").fetchone()[0]

    def append(self, entry: Entry) -> int:
        """Store an entry and return its number.

        If the disk does not accept it (because it is full, say), its events are dropped; the number is the last one's.
        """
        payload = json.dumps(asdict(entry))
        try:
            file = self._open()
            with file:
                while self._size + len(payload) > self._limit and (oldest := self.first()) is not None:
                    self._delete(file, oldest[0])
                    self.dropped_events += len(oldest[1].events)
                self._last = file.execute("INSERT INTO waiting (entry) VALUES (?)", (payload,)).lastrowid or 0
                self._size += len(payload)
        except (sqlite3.Error, OSError, NotPrivate):
            self.dropped_events += len(entry.events)
        return self._last

    def first(self, after: int = 0) -> tuple[int, Entry] | None:
        """Number and content of the oldest entry, or of the one behind the number `after`; None if there is none."""
        if self._file is None:
            return None
        query = "SELECT number, entry FROM waiting WHERE number > ? ORDER BY number LIMIT 1"
        found = self._file.execute(query, (max(after, self._sent),)).fetchone()
        return None if found is None else (found[0], Entry(**json.loads(found[1])))

    def remove(self, number: int) -> None:
        """Remove an entry that was sent, and with the last one the file."""
        if self._file is None:
            return
        self._sent = number
        with suppress(sqlite3.Error), self._file:  # on a full disk it is removed with the file
            self._delete(self._file, number)
        if self.first() is None:
            self.close()
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; remaining entries stay on disk."""
        if self._file is not None:
            self._file.close()
        self._file, self._size, self._sent, self._last = None, 0, 0, 0

    def _delete(self, file: sqlite3.Connection, number: int) -> None:
        query = "DELETE FROM waiting WHERE number = ? RETURNING length(entry)"
        self._size -= sum(size for (size,) in file.execute(query, (number,)))

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            private_folder(self.path.parent)
            self.path.touch(mode=0o600)
            self._file = self._connect()
            self._size = self._file.execute("SELECT coalesce(sum(length(entry)), 0) FROM waiting").fetchone()[0]
        return self._file

    def _connect(self) -> sqlite3.Connection:
        """Open the database with an exclusive lock, which lasts until it is closed."""
        file = sqlite3.connect(self.path, timeout=LOCK_WAIT_S, check_same_thread=False)
        try:
            # Sent entries must vanish from the disk; a loss of power may cost the last moments.
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


def waiting_spools(folder: Path | None = None) -> Iterator[tuple[str, str, Path]]:
    """Session, prefix and file of every spool."""
    folder = folder or spool_folder()
    for path in sorted(folder.glob("*.db")) if folder.is_dir() else ():
        prefix, _, session = path.stem.partition(".")
        yield session, unquote(prefix), path


def waiting_requests(only: str | None = None, folder: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Session and file of every request that is held for a running session, of one prefix or of all."""
    folder = folder or spool_folder()
    for path in sorted(folder.glob("*.request")) if folder.is_dir() else ():
        prefix, _, session = path.stem.partition(".")
        if only in (None, unquote(prefix)):
            yield session, path
