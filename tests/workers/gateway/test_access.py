"""Tokens, scopes and limits."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from redis import Redis

from stream.bus.directory import Load
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.running import Home
from stream.clock import VirtualClock
from tests.support.events import ended, notice
from workers.gateway.access import Access, AccessError, Refused, Token, new_token, read_tokens

ALIVE = Load(position=0, seconds=0, in_flight=0, lag=0).model_dump_json()


def made(tmp_path: Path, *tokens: tuple[str, list[str]], extra: str = "") -> tuple[list[str], list[Token]]:
    made = [new_token(name, scopes) for name, scopes in tokens]
    file = tmp_path / "tokens.toml"
    file.write_text("\n".join(entry for _, entry in made) + extra)
    return [secret for secret, _ in made], read_tokens(file)


def prefix() -> str:
    return f"access-{secrets.token_hex(4)}"


async def test_a_token_opens_what_its_scopes_say(redis_url: str, tmp_path: Path) -> None:
    (reader, admin), tokens = made(tmp_path, ("reader", ["read"]), ("root", ["admin"]))
    access = Access(tokens, redis_url, prefix())
    assert (await access.admit(reader, "read")).name == "reader"
    assert (await access.admit(reader, None)).name == "reader"
    assert (await access.admit(admin, "ingest")).name == "root"
    for presented, scope, status in ((reader, "ingest", 403), (None, "read", 401), (reader + "x", "read", 401)):
        with pytest.raises(Refused) as refusal:
            await access.admit(presented, scope)  # type: ignore[arg-type]
        assert refusal.value.http_status == status
    await access.aclose()


async def test_requests_are_limited_together_over_gateways(redis_url: str, tmp_path: Path) -> None:
    (secret,), tokens = made(tmp_path, ("busy", ["read"]), extra="requests = 5\n")
    shared = prefix()
    clock = VirtualClock(date=1_800_000_000)  # a minute begins
    gateways = [Access(tokens, redis_url, shared, clock) for _ in range(2)]
    await clock.sleep(20)
    for n in range(5):
        await gateways[n % 2].admit(secret, "read")
    for gateway in gateways:
        with pytest.raises(Refused) as refusal:
            await gateway.admit(secret, "read")
        assert (refusal.value.http_status, refusal.value.retry_after) == (429, 40)
    await clock.sleep(40)
    for gateway in gateways:
        await gateway.admit(secret, "read")
    for gateway in gateways:
        await gateway.aclose()


async def test_sessions_are_limited_while_they_go_on(redis_url: str, tmp_path: Path) -> None:
    (secret,), tokens = made(tmp_path, ("desk", ["ingest"]), extra="sessions = 1\n")
    shared = prefix()
    access = Access(tokens, redis_url, shared)
    token, home = access.authenticate(secret), Home(owner="desk", node="of a cluster")
    one, two, three = (Keys(name, shared) for name in ("one", "two", "three"))
    await access.reserve(token, one, home)
    bus = Bus(redis_url, one, home=home)
    await bus.register("2026-01-01T00:00:00Z")
    await bus.beat(ALIVE)
    with pytest.raises(Refused, match="1 sessions at once"):
        await access.reserve(token, two, home)
    assert await access.owns(token, "one") and not await access.owns(token, "two")
    bus.publish(ended("one"))
    assert await bus.aclose()
    await access.reserve(token, three, home)
    assert not await access.owns(token, "one")
    await access.aclose()


async def test_a_silent_session_is_its_owners_and_counts_while_it_is_there(redis_url: str, tmp_path: Path) -> None:
    """Ten seconds without a sign of life are no death, and what has expired does not count for ever."""
    (secret,), tokens = made(tmp_path, ("desk", ["ingest"]), extra="sessions = 1\n")
    shared, there = prefix(), {"stalled": True}

    async def ask(session: str, home: Home) -> bool:
        return there[session]

    access = Access(tokens, redis_url, shared)
    access.is_there = ask
    token, home = access.authenticate(secret), Home(owner="desk", node="of a cluster")
    stalled, later = Keys("stalled", shared), Keys("later", shared)
    await access.reserve(token, stalled, home)
    bus = Bus(redis_url, stalled, home=home)
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(notice("stalled", 0))
    assert await bus.aclose()
    assert await access.owns(token, "stalled")
    with pytest.raises(Refused, match="1 sessions at once"):
        await access.reserve(token, later, home)
    assert await access.owns(token, "stalled"), "a refusal takes nothing away"
    with Redis.from_url(redis_url) as client:
        client.delete(stalled.events, stalled.directory)  # expired
    with pytest.raises(Refused, match="1 sessions at once"):
        await access.reserve(token, later, home)
    there["stalled"] = False
    await access.reserve(token, later, home)
    await access.aclose()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must contain"),
        ("nonsense", "tokens.toml: "),
        ("[[token]]\nname = 'a'\nsha256 = 'abc'\nscopes = ['read']", "token 1: sha256"),
        (f"[[token]]\nname = 'a b'\nsha256 = '{'0' * 64}'\nscopes = ['read']", "token 1: name"),
        (f"[[token]]\nname = 'a'\nsha256 = '{'0' * 64}'\nscopes = ['fly']", "token 1: scopes"),
        (f"[[token]]\nname = 'a'\nsha256 = '{'0' * 64}'\nscopes = []", "token 1: scopes"),
        (f"[[token]]\nname = 'a'\nsha256 = '{'0' * 64}'\nscopes = ['read']\nconsent = ''", "token 1: consent"),
        (2 * f"[[token]]\nname = 'a'\nsha256 = '{'0' * 64}'\nscopes = ['read']\n", "same name"),
        ("[[token]]\nsecret = 'plain'", "token 1: "),
    ],
)
def test_a_token_file_that_is_wrong_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(AccessError, match=complaint):
        read_tokens(file)
    with pytest.raises(AccessError):
        read_tokens(tmp_path / "absent.toml")
    with pytest.raises(AccessError, match="name"):
        new_token("a b", ["read"])
