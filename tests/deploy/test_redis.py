"""What Redis's users may do, and over which certificates, by a real Redis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from stream.bus.connection import BusError, check
from tests.support.commands import here, undertone
from tests.support.paths import DEMO, DEPLOY
from tests.support.secure_redis import SecureRedis, passes

ALLOWED = [  # the snapshot of a session, which its publisher writes, reads and takes away
    ("publisher", "RPUSH undertone:{old}:rows row"),
    ("publisher", "LTRIM undertone:{old}:rows -9 -1"),
    ("publisher", "LRANGE undertone:{old}:rows 0 -1"),
    ("publisher", "SET undertone:{old}:state {} EX 60"),
    ("publisher", "GET undertone:{old}:state"),
    ("publisher", "EXPIRE undertone:{old}:rows 60"),
    ("operator", "GET undertone:{old}:state"),
    ("operator", "LRANGE undertone:{old}:rows 0 -1"),
    ("publisher", "DEL undertone:{old}:state undertone:{old}:rows"),
]
REFUSED = [
    ("publisher", "DEL undertone:sessions"),
    ("publisher", "DEL undertone:{old}:state undertone:{old}:events"),
    ("publisher", "RPUSH undertone:alerts x"),
    ("publisher", "RPUSH other:{old}:rows x"),
    ("publisher", "GET other"),
    ("publisher", "XADD other:{old}:events * event {}"),
    ("publisher", "FLUSHDB"),
    ("publisher", "CONFIG SET dir /tmp"),
    ("publisher", "SCRIPT FLUSH"),
    ("publisher", "FUNCTION LIST"),
    ("publisher", "REPLICAOF 10.0.0.1 6379"),
    ("publisher", "MIGRATE 10.0.0.1 6379 undertone:sessions 0 1000"),
    ("publisher", "SCAN 0"),
    ("consumer", "GET undertone:{old}:state"),
    ("consumer", "LRANGE undertone:{old}:rows 0 -1"),
    ("consumer", "RPUSH undertone:{old}:rows forged"),
    ("consumer", "KEYS *"),
    ("consumer", "SCAN 0"),
    ("consumer", "FLUSHALL"),
    ("consumer", "CONFIG GET *"),
    ("consumer", "XRANGE other:{old}:events - +"),
    ("operator", "FLUSHDB"),
    ("operator", "CONFIG SET dir /tmp"),
    ("operator", "EVAL return(1) 0"),
    ("operator", "REPLICAOF 10.0.0.1 6379"),
]


@pytest.mark.parametrize(("user", "command"), ALLOWED)
def test_users_may(secure: SecureRedis, user: str, command: str) -> None:
    secure.as_user(user, *command.split())


@pytest.mark.parametrize(("user", "command"), REFUSED)
def test_users_may_not(secure: SecureRedis, user: str, command: str) -> None:
    with pytest.raises(NoPermissionError):
        secure.as_user(user, *command.split())


async def test_another_authority_is_one_clear_line(secure: SecureRedis, tmp_path: Path) -> None:
    await check(url := secure.url("consumer"))
    passes(DEPLOY / "redis/make-certificates.sh", tmp_path, "localhost")
    with pytest.raises(
        BusError, match=r"^no Redis answers at rediss://…@localhost:.*certificate verify failed"
    ) as told:
        await check(url.replace(f"{secure.folder}/ca.crt", f"{tmp_path}/ca.crt"))
    password = url.split("@")[0].rpartition(":")[2]
    assert "\n" not in str(told.value) and password not in str(told.value)


async def test_a_certificate_for_another_name_is_one_clear_line(secure: SecureRedis) -> None:
    with pytest.raises(BusError, match=r"^no Redis answers at .*certificate verify failed") as told:
        await check(secure.url("consumer").replace("@localhost", "@127.1"))  # another name of the same address
    assert "\n" not in str(told.value)


def test_a_session_runs_over_tls_as_the_publisher(secure: SecureRedis, ray_address: str) -> None:
    """A whole replay, with no more rights than that; and not as the consumer."""
    options = ("--speed", "max", "--modalities", "audio", "--interim", "0", "--json", "--ray-address", ray_address)
    done = undertone("replay", DEMO, "--session", "secure", "--redis", secure.url("publisher"), *options)
    assert done.returncode == 0, done.stderr
    published = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    stored = secure.as_user("consumer", "XRANGE", "undertone:{secure}:events", "-", "+")
    assert [fields[b"id"].decode() for _, fields in stored] == published
    refused = here("replay", DEMO, "--session", "forged", "--redis", secure.url("consumer"), *options)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr and refused.stdout == "", refused.stderr
