"""Folders and files that only the user who runs us can reach, whatever the umask."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from stream.errors import StreamError

SHORT_ROOT = Path("/tmp")  # noqa: S108 - folders of 0700 in it; $TMPDIR may be long, a socket's path has 100 bytes


class NotPrivate(StreamError):
    """A folder that should be this user's alone and is not, or cannot be made."""

    exit_code = 2


def private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter, with its parents, or take the one that is there.

    Raises NotPrivate for a folder of another user, a link that another user made, and where none can be made.
    """
    try:
        make_parents(path)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        link, found = path.lstat(), path.stat()
        if not stat.S_ISDIR(found.st_mode) or {link.st_uid, found.st_uid} != {os.geteuid()}:
            raise NotPrivate(f"{path} belongs to another user, or is no folder")
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as error:
        raise NotPrivate(f"{path}: {error.strerror}") from None
    return path


def make_parents(path: Path) -> None:
    """Make the missing parents of a path for this user alone: who may write there could put another in its place.

    Raises OSError.
    """
    if not path.parent.exists():
        make_parents(path.parent)
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)


def short_private_folder(root: Path = SHORT_ROOT) -> Path:
    """A folder of this user with a short path, for sockets: /tmp/undertone-UID, or one with a random name where another
    user has taken that. Raises NotPrivate."""
    try:
        return private_folder(root / f"undertone-{os.geteuid()}")
    except NotPrivate:
        try:
            return Path(tempfile.mkdtemp(prefix="undertone-", dir=root))
        except OSError as error:
            raise NotPrivate(f"{root}: {error.strerror}") from None


def read_private(path: Path) -> str | None:
    """Text of a file that only this user can have written and can read; None if there is none, or another kind."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                return None
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, in one step: a reader sees all of it or what was there before."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # made with mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(draft).replace(path)
