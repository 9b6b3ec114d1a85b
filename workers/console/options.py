"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer


def _prefix(given: str) -> str:
    from stream.bus.keys import PREFIXES

    if not PREFIXES.fullmatch(given):  # braces would put sessions elsewhere in a Redis Cluster
        raise typer.BadParameter("letters, digits, '.', '_', ':' and '-', at most 64")
    return given


Prefix = Annotated[str, typer.Option(callback=_prefix, help="Prefix of all keys in Redis.")]
