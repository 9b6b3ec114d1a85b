"""Where a session's events wait on disk while Redis is away."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import platformdirs


def spool_folder() -> Path:
    """Of this machine and this user."""
    return platformdirs.user_state_path("undertone") / "spool"


def spool_path(session: str, prefix: str, folder: Path | None = None) -> Path:
    """The file of a session's events that wait."""
    return (folder or spool_folder()) / f"{quote(prefix, safe='')}.{session}.db"
