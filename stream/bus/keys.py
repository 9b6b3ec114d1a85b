"""Names of Redis keys, and the syntax of session ids and prefixes."""

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
    """Redis keys of one session. The braces are Redis Cluster's hash tag: all keys of a session share a node.

    Raises ValueError for an invalid session id or prefix.
    """

    session: str
    prefix: str = PREFIX

    def __post_init__(self) -> None:
        if not SESSION_ID.fullmatch(self.session):
            raise InvalidName(f"session {self.session!r}: letters, digits, '.', '_' and '-', at most 64")
        if not PREFIXES.fullmatch(self.prefix):
            raise InvalidName(f"prefix {self.prefix!r}: letters, digits, '.', '_', ':' and '-', at most 64")

    @property
    def events(self) -> str:
        """The Stream of events."""
        return f"{self.prefix}:{{{self.session}}}:events"

    @property
    def channel(self) -> str:
        """The Pub/Sub channel."""
        return f"{self.prefix}:{{{self.session}}}"

    @property
    def alive(self) -> str:
        """Heartbeat of a live session (`stream.bus.directory.Load`), which expires when it stops."""
        return f"{self.prefix}:{{{self.session}}}:alive"

    @property
    def state(self) -> str:
        """State from which another process can resume the session (`workers.session.snapshot`); deleted at its end."""
        return f"{self.prefix}:{{{self.session}}}:state"

    @property
    def rows(self) -> str:
        """List that belongs to `state`: the data of each of the last utterances."""
        return f"{self.prefix}:{{{self.session}}}:rows"

    @property
    def annotations(self) -> str:
        """Hash of what people wrote about the session (`stream.bus.annotations`)."""
        return f"{self.prefix}:{{{self.session}}}:annotations"

    def ticket(self, digest: str) -> str:
        """Ticket for the session's recording, by the SHA-256 of its secret (`workers.gateway.access`)."""
        return f"{self.prefix}:{{{self.session}}}:ticket:{digest}"

    @property
    def directory(self) -> str:
        """Hash of all sessions: id -> ISO time of start."""
        return f"{self.prefix}:sessions"

    @property
    def running(self) -> str:
        """Hash of the running sessions: id -> where it lives (`stream.bus.running.Home`)."""
        return f"{self.prefix}:running"

    @property
    def forgotten(self) -> str:
        """Mark that the session was erased while nothing proved its death; a session that finds it ends itself."""
        return f"{self.prefix}:{{{self.session}}}:forgotten"


def token_sessions_key(prefix: str, token: str) -> str:
    """Name of the Redis set in which earlier versions kept the sessions that a token of the gateway started."""
    return f"{prefix}:token:{token}:sessions"


def alerts_stream(prefix: str) -> str:
    """Name of the Stream and of the channel that carry the alerts of all sessions."""
    return f"{prefix}:alerts"


def alert_marker(prefix: str, alert_id: str) -> str:
    """Key that records the publisher of an alert; also the beginning of the keys by which webhooks claim it."""
    # The braces are Redis Cluster's hash tag: key and Stream share a node, so that one transaction can hold both.
    return f"{prefix}:alert:{{{alerts_stream(prefix)}}}:{alert_id}"
