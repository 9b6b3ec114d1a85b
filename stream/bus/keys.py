"""Names in Redis, and what a session id and a prefix may be."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stream.errors import InputError

PREFIX = "undertone"
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PREFIXES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
RETENTION_S = 24 * 3600  # seconds a session's keys outlive its last event, unless it asks for others


class InvalidName(InputError, ValueError):
    """A text that cannot be a session id or a prefix."""


@dataclass(frozen=True)
class Keys:
    """Names in Redis. The braces are Redis Cluster's hash tag: all keys of a session live on one node."""

    session: str
    prefix: str = PREFIX

    def __post_init__(self) -> None:
        if not SESSION_ID.fullmatch(self.session):
            raise InvalidName(f"session {self.session!r}: letters, digits, '.', '_' and '-', at most 64")
        if not PREFIXES.fullmatch(self.prefix):
            raise InvalidName(f"prefix {self.prefix!r}: letters, digits, '.', '_', ':' and '-', at most 64")

    @property
    def events(self) -> str:
        """The Stream."""
        return f"{self.prefix}:{{{self.session}}}:events"

    @property
    def channel(self) -> str:
        """The Pub/Sub channel."""
        return f"{self.prefix}:{{{self.session}}}"

    @property
    def alive(self) -> str:
        """How a session that goes on does (`stream.bus.directory.Load`); gone when it gives no sign of life."""
        return f"{self.prefix}:{{{self.session}}}:alive"

    @property
    def state(self) -> str:
        """What another process needs to go on with the session (`workers.session.snapshot`); gone when it has ended."""
        return f"{self.prefix}:{{{self.session}}}:state"

    @property
    def rows(self) -> str:
        """List, with `state`: what each of the last utterances has left."""
        return f"{self.prefix}:{{{self.session}}}:rows"

    @property
    def directory(self) -> str:
        """Hash of all sessions: id -> ISO time of start."""
        return f"{self.prefix}:sessions"
