"""What Redis's users may do, and over which certificates, by a real Redis."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from stream.bus.connection import BusError, check
from tests.support.commands import here, undertone
from tests.support.paths import DEMO, DEPLOY
from tests.support.secure_redis import SecureRedis, passes

USERS = ("publisher", "reader", "worker", "operator")
MATRIX = [
    (command, dict(zip(USERS, (cell.strip() for cell in cells.split("|")), strict=True)))
    for command, cells in re.findall(
        r"^\| `(.+?)` \| (.+) \|$", (DEPLOY / "redis/USERS.md").read_text(encoding="utf-8"), re.M
    )
]
"""Commands, and "yes" or "–" for each user."""


def permitted(secure: SecureRedis, user: str, command: str) -> bool:
    try:
        secure.as_user(user, *command.split())
    except NoPermissionError:
        return False
    except ResponseError as error:  # else allowed, and wrong at this moment
        return "not allowed" not in str(error)
    return True


@pytest.mark.parametrize("user", USERS)
def test_users_may(secure: SecureRedis, user: str) -> None:
    allowed = [command for command, users in MATRIX if users[user] == "yes"]
    assert len(allowed) > 15
    assert [command for command in allowed if not permitted(secure, user, command)] == []


@pytest.mark.parametrize("user", USERS)
def test_users_may_not(secure: SecureRedis, user: str) -> None:
    refused = [command for command, users in MATRIX if users[user] == "–"]
    assert len(refused) > 20
    assert [command for command in refused if permitted(secure, user, command)] == []


async def test_another_authority_is_one_clear_line(secure: SecureRedis, tmp_path: Path) -> None:
    await check(url := secure.url("reader"))
    passes(DEPLOY / "redis/make-certificates.sh", tmp_path, "localhost")
    with pytest.raises(
        BusError, match=r"^no Redis answers at rediss://…@localhost:.*certificate verify failed"
    ) as told:
        await check(url.replace(f"{secure.folder}/ca.crt", f"{tmp_path}/ca.crt"))
    password = url.split("@")[0].rpartition(":")[2]
    assert "\n" not in str(told.value) and password not in str(told.value)


async def test_a_certificate_for_another_name_is_one_clear_line(secure: SecureRedis) -> None:
    with pytest.raises(BusError, match=r"^no Redis answers at .*certificate verify failed") as told:
        await check(secure.url("reader").replace("@localhost", "@127.1"))  # another name of the same address
    assert "\n" not in str(told.value)


def test_a_session_runs_over_tls_as_the_publisher(secure: SecureRedis, ray_address: str) -> None:
    """A whole replay, with no more rights than that; and not as the reader."""
    options = ("--speed", "max", "--modalities", "audio", "--interim", "0", "--json", "--ray-address", ray_address)
    done = undertone("replay", DEMO, "--session", "secure", "--redis", secure.url("publisher"), *options)
    assert done.returncode == 0, done.stderr
    published = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    stored = secure.as_user("reader", "XRANGE", "undertone:{secure}:events", "-", "+")
    assert [fields[b"id"].decode() for _, fields in stored] == published
    refused = here("replay", DEMO, "--session", "forged", "--redis", secure.url("reader"), *options)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr and refused.stdout == "", refused.stderr
