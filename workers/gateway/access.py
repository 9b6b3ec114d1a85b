"""Access control of the gateway: bearer tokens with scopes and limits."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream.bus.connection import connect
from stream.bus.forget import IsThere
from stream.bus.keys import Keys
from stream.bus.running import Home, enter, home_of, leave, life, running
from stream.clock import Clock, MonotonicClock
from workers.errors import WorkersError

Scope = Literal["ingest", "read", "edit", "admin"]
TICKET_TTL_S = 15 * 60
UNKNOWN_TICKET = "this ticket is not known, or has expired: ask for a new one"
SCOPES: tuple[Scope, ...] = ("ingest", "read", "edit", "admin")


class AccessError(WorkersError):
    """An unusable token file."""

    exit_code, http_status = 2, 422


class Refused(WorkersError):
    """A request that is not allowed."""

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        """retry_after: seconds after which the same request may be allowed."""
        super().__init__(detail)
        self.http_status, self.detail, self.retry_after = status, detail, retry_after


class Token(BaseModel):
    """An entry of the token file, which contains a hash of the token instead of the token."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Hash of the token in hexadecimal. Tokens are random, so no salt or slow hash is needed."""
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    """ingest: start, feed and stop own sessions; read: read everything that is published; edit: write titles,
    tags and notes; admin: everything."""
    sessions: Annotated[int, Field(ge=0)] = 4
    """Maximum number of simultaneous sessions."""
    requests: Annotated[int, Field(ge=1)] = 600
    """Maximum number of requests per minute."""
    connections: Annotated[int, Field(ge=1)] = 64
    """Maximum number of simultaneous event streams and WebSockets, at each gateway."""
    consent: Annotated[str, Field(min_length=3, max_length=500)] | None = None
    """Statement of consent for sessions of programs that cannot state one (`/v1/listen`); None: these have to."""

    def allows(self, scope: Scope) -> bool:
        """True if the token has the scope, directly or as administrator."""
        return scope in self.scopes or "admin" in self.scopes


class Ticket(BaseModel):
    """Permission to play one session's recording, which stands in a URL: a browser's player sends no token."""

    token: str
    sha256: str
    """Hash of the token: one of the same name that was made anew has none of its tickets."""
    started: str


LOOPBACK = Token(
    name="loopback", sha256="0" * 64, scopes=frozenset(SCOPES), sessions=64, requests=100_000, connections=1000
)
"""Token of this machine if there is no token file: with the hash of `one_time_token`, or of everybody."""


def one_time_token() -> tuple[str, Token]:
    """A token for one run of a gateway without a token file, and its entry."""
    token = _new_secret()
    return token, LOOPBACK.model_copy(update={"sha256": _digest(token)})


def new_token(name: str, scopes: list[str]) -> tuple[str, str]:
    """A new token, and its entry for the token file. Raises AccessError."""
    token = _new_secret()
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
        raise AccessError(f"{path}: must contain [[token]] tables only (`undertone token NAME` creates one)")
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
    """Authenticates tokens and enforces their limits, which all gateways share through Redis."""

    def __init__(self, tokens: list[Token] | None, redis: str, prefix: str, clock: Clock = MonotonicClock()) -> None:
        """tokens: None = no token is needed."""
        self._tokens, self._prefix = tokens, prefix
        self._client, self._clock = connect(redis), clock
        self.is_there: IsThere = _nobody_to_ask
        """Asks whether a silent session lives."""

    @property
    def is_open(self) -> bool:
        """True if no token is needed."""
        return self._tokens is None

    def authenticate(self, presented: str | None) -> Token:
        """The entry of a presented token. Raises Refused (401)."""
        if self._tokens is None:
            return LOOPBACK
        found = None
        digest = _digest(presented or "")
        for token in self._tokens:  # always all of them, so that the time reveals nothing
            if hmac.compare_digest(token.sha256, digest):
                found = token
        if found is None:
            raise Refused(401, "a valid bearer token is needed" if presented is None else "this token is not known")
        return found

    async def admit(self, presented: str | None, scope: Scope | None) -> Token:
        """The token, if it allows `scope` and has requests left this minute. Raises Refused (401, 403, 429)."""
        token = self.authenticate(presented)
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

    async def give_ticket(self, token: Token, keys: Keys, started: str) -> tuple[str, datetime]:
        """A secret that stands for the token at the recording of one session alone, and its end. started: of the
        session, whose id may be used again."""
        secret = secrets.token_urlsafe(32)
        ticket = Ticket(token=token.name, sha256=token.sha256, started=started)
        await self._client.set(keys.ticket(_digest(secret)), ticket.model_dump_json(), ex=TICKET_TTL_S)
        return secret, datetime.fromtimestamp(self._clock.date() + TICKET_TTL_S, UTC)

    async def redeem(self, secret: str, keys: Keys, started: str) -> Token:
        """The token that a ticket stands for, if it is there still and may read; counts as no request of it.

        Raises Refused (401).
        """
        found = await self._client.get(keys.ticket(_digest(secret)))
        try:
            ticket = Ticket.model_validate_json(found or "")
        except ValidationError:
            ticket = None
        tokens = [LOOPBACK] if self._tokens is None else self._tokens
        for token in tokens:
            if ticket == Ticket(token=token.name, sha256=token.sha256, started=started) and token.allows("read"):
                return token
        raise Refused(401, UNKNOWN_TICKET)

    async def reserve(self, token: Token, keys: Keys, home: Home) -> None:
        """Enter a session that is about to start among the running ones. Raises Refused (429), RayError."""
        await enter(self._client, keys, home)
        others = [
            Keys(session, keys.prefix)
            for session, other in (await running(self._client, keys.prefix)).items()
            if other.owner == token.name and session != keys.session
        ]
        if sum([await self._lives(each) for each in others]) >= token.sessions:
            await leave(self._client, keys)
            raise Refused(
                429, f"token {token.name}: at most {token.sessions} sessions at once, and as many are running", 10
            )

    async def withdraw(self, keys: Keys) -> None:
        """Remove a session that did not start."""
        await leave(self._client, keys)

    async def _lives(self, keys: Keys) -> bool:
        """True if a session of the hash lives, as its heartbeat says, or else whoever runs it."""
        signs = await life(self._client, keys)
        if signs in ("live", "ended"):
            return signs == "live"
        home = await home_of(self._client, keys)
        return home is not None and bool(await self.is_there(keys.session, home))

    async def owns(self, token: Token, session: str) -> bool:
        """True if the token may stop and feed a session: it started it, or has the scope admin."""
        if "admin" in token.scopes:
            return True
        home = await home_of(self._client, Keys(session, self._prefix))
        return home is not None and home.owner == token.name

    async def aclose(self) -> None:
        """Close the connection to Redis."""
        await self._client.aclose()


def _new_secret() -> str:
    return f"ut_{secrets.token_urlsafe(32)}"


async def _nobody_to_ask(session: str, home: Home) -> None:
    """There is no Ray."""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
