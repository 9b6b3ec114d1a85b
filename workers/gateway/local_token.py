"""The token of a gateway that has no token file: made at each start, known to the user who started it."""

from __future__ import annotations

import os
from contextlib import suppress
from html import escape
from pathlib import Path

from platformdirs import user_state_path

from stream.private import write_private
from workers.errors import UsageError


def token_path(port: int) -> Path:
    """File with the token of this user's gateway at `port`, in a folder that no other user can enter."""
    return user_state_path("undertone") / "gateways" / f"{port}.token"


def write_token(port: int, secret: str) -> None:
    """Leave the token for this user's programs. Raises OSError."""
    path = token_path(port)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)  # of a gateway that was killed, perhaps with other permissions
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)


def write_link(port: int, address: str) -> str:
    """Leave a page for this user that leads to an address of the gateway at `port`; returns its URL. Raises OSError.

    The address has the token, which in a browser's command line every user of the machine could read.
    """
    path = token_path(port).with_suffix(".html")
    write_private(path, f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(address)}">\n')
    return path.as_uri()


def remove_token(port: int, secret: str) -> None:
    """Remove what was left for this user's programs, unless a later gateway at this port has replaced it."""
    path = token_path(port)
    with suppress(OSError):
        if path.read_text() == secret:
            path.unlink()
            path.with_suffix(".html").unlink(missing_ok=True)


def read_token(port: int) -> str:
    """The token of this user's gateway at `port`. Raises UsageError."""
    try:
        return token_path(port).read_text()
    except OSError:
        raise UsageError(
            f"no gateway of yours with a token of its own at port {port}: start `undertone serve`, or name its --port"
        ) from None
