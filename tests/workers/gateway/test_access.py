"""Tokens, scopes and limits."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from stream.bus.directory import Load
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.clock import VirtualClock
from workers.gateway.access import Access, AccessError, Refused, Token, new_token, read_tokens


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
    token = access.authenticate(secret)
    await access.reserve(token, "one")
    bus = Bus(redis_url, Keys("one", shared))
    await bus.register("2026-01-01T00:00:00Z")
    await bus.beat(Load(position=0, seconds=0, in_flight=0, lag=0).model_dump_json())
    with pytest.raises(Refused, match="1 sessions at once"):
        await access.reserve(token, "two")
    assert await access.owns(token, "one") and not await access.owns(token, "two")
    await bus._client.delete(bus.keys.alive)  # it is gone: its place is free
    await bus.aclose()
    await access.reserve(token, "three")
    assert not await access.owns(token, "one")
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
