"""Who may do what on the gateway: bearer tokens with scopes and limits."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream.bus.connection import connect
from stream.bus.directory import overview, owned
from stream.clock import Clock, MonotonicClock

Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = ("ingest", "read", "admin")
OWNED = 30 * 24 * 3600  # seconds that a token's sessions are known as its own after it has started the last


class AccessError(Exception):
    """A token file that cannot be used; the message is one line."""

    exit_code, http_status = 2, 422


class Refused(Exception):
    """A request that is not allowed."""

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after


class Token(BaseModel):
    """What the operator knows of a token: not the token."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the token, in hexadecimal. Tokens are random, so that no salt or slow hash is needed."""
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    """ingest: start, feed and stop own sessions; read: all that is published; admin: all."""
    sessions: Annotated[int, Field(ge=0)] = 4
    """At once."""
    requests: Annotated[int, Field(ge=1)] = 600
    """A minute."""
    connections: Annotated[int, Field(ge=1)] = 64
    """Event streams and WebSockets that are open at once, at each gateway."""

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


LOOPBACK = Token(
    name="loopback", sha256="0" * 64, scopes=frozenset(SCOPES), sessions=64, requests=100_000, connections=1000
)
"""Everybody on this machine, where no token file is given."""


def new_token(name: str, scopes: list[str]) -> tuple[str, str]:
    """A fresh token, and the lines of the token file that let it in. Raises AccessError."""
    token = f"ut_{secrets.token_urlsafe(32)}"
    try:
        entry = Token(name=name, sha256=_digest(token), scopes=frozenset(scopes))  # type: ignore[arg-type]
    except ValidationError as error:
        raise AccessError(_first(error)) from None
    listed = ", ".join(f'"{scope}"' for scope in SCOPES if scope in entry.scopes)
    return token, f'[[token]]\nname = "{name}"\nsha256 = "{entry.sha256}"\nscopes = [{listed}]\n'


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a TOML file. Raises AccessError."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AccessError(f"{path}: {error}") from None
    listed = entries.get("token")
    if not isinstance(listed, list) or not listed or set(entries) != {"token"}:
        raise AccessError(f"{path}: wants [[token]] tables and nothing else (`undertone token NAME` makes one)")
    tokens = []
    for number, entry in enumerate(listed, 1):
        try:
            tokens.append(Token.model_validate(entry))
        except ValidationError as error:
            raise AccessError(f"{path}: token {number}: {_first(error)}") from None
    if len({token.name for token in tokens}) < len(tokens):
        raise AccessError(f"{path}: two tokens of the same name")
    return tokens


class Access:
    """Recognizes tokens and keeps their limits, which all gateways share through Redis."""

    def __init__(self, tokens: list[Token] | None, redis: str, prefix: str, clock: Clock = MonotonicClock()) -> None:
        """tokens: None = everybody is let in."""
        self._tokens, self._redis, self._prefix = tokens, redis, prefix
        self._client, self._clock = connect(redis), clock

    @property
    def open(self) -> bool:
        """Nobody needs a token."""
        return self._tokens is None

    def who(self, presented: str | None) -> Token:
        """The token that was presented. Raises Refused (401)."""
        if self._tokens is None:
            return LOOPBACK
        found = None
        digest = _digest(presented or "")
        for token in self._tokens:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(token.sha256, digest):
                found = token
        if found is None:
            raise Refused(401, "a valid bearer token is needed" if presented is None else "this token is not known")
        return found

    async def admit(self, presented: str | None, scope: Scope | None) -> Token:
        """The token, if it allows `scope` and has requests left this minute. Raises Refused (401, 403, 429)."""
        token = self.who(presented)
        if scope is not None and not token.allows(scope):
            raise Refused(403, f"token {token.name} lacks the scope {scope}")
        minute, second = divmod(int(self._clock.date()), 60)
        key = f"{self._prefix}:token:{token.name}:{minute}"
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, 120)
            count, _ = await pipe.execute()
        if count > token.requests:
            raise Refused(429, f"token {token.name}: more than {token.requests} requests a minute", 60 - second)
        return token

    async def reserve(self, token: Token, session: str) -> None:
        """Count a session that is about to start as the token's. Raises Refused (429)."""
        key = owned(self._prefix, token.name)
        await self._client.sadd(key, session)
        await self._client.expire(key, OWNED)
        mine = sorted(map(str, await self._client.smembers(key)))
        over = {info.id for info in await overview(self._redis, self._prefix, mine) if info.state != "live"} - {session}
        if over:
            await self._client.srem(key, *over)
        if len(set(mine) - over) > token.sessions:
            await self.release(token, session)
            raise Refused(429, f"token {token.name}: {token.sessions} sessions at once, and so many go on", 10)

    async def release(self, token: Token, session: str) -> None:
        """Count it no more."""
        await self._client.srem(owned(self._prefix, token.name), session)

    async def owns(self, token: Token, session: str) -> bool:
        """Whether the token may stop and feed a session: it started it, or is an administrator's."""
        return "admin" in token.scopes or bool(await self._client.sismember(owned(self._prefix, token.name), session))

    async def aclose(self) -> None:
        await self._client.aclose()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
