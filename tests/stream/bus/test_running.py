"""Sessions that run: what is known of them while they are silent, and what it takes to be taken for dead."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest
from redis import Redis

from stream.bus.connection import claim
from stream.bus.directory import Load, overview
from stream.bus.forget import CannotForget, find, forget
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.running import Home, this_process
from tests.support.events import ended, notice

ALIVE = Load(position=0, seconds=0, in_flight=0, lag=0).model_dump_json()
ELSEWHERE = Home(machine="another", pid=1, born="1")


async def silent(url: str, home: Home) -> Bus:
    """A session that was published and gives no sign of life any more."""
    bus = Bus(url, Keys(f"silent-{secrets.token_hex(3)}"), home=home)
    await bus.register("2026-01-01T00:00:00Z")
    await bus.beat(ALIVE)
    bus.publish(notice(bus.keys.session, 0))
    await bus.flush()
    with Redis.from_url(url) as client:
        client.delete(bus.keys.alive)  # ten seconds have passed
    return bus


@pytest.mark.integration
def test_a_process_is_gone_when_it_has_ended_not_before() -> None:
    source = "from stream.bus.running import this_process; print(this_process().model_dump_json(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        home = Home.model_validate_json(process.stdout.readline())
        assert not home.is_gone and home.pid == process.pid
        process.kill()
        while process.stdout.read():
            pass
        for _ in range(1000):
            if home.is_gone:
                break
        assert home.is_gone, "also while nobody has waited for it"
    assert home.is_gone and not this_process().is_gone
    assert this_process().model_copy(update={"born": "1"}).is_gone, "another process has its number"
    assert not ELSEWHERE.is_gone and not Home().is_gone, "nobody here can know"


@pytest.mark.parametrize("home", [this_process(), ELSEWHERE, Home(owner="desk", node="of another cluster")])
async def test_silence_is_no_proof_of_death(redis_url: str, home: Home) -> None:
    bus = await silent(redis_url, home)
    with pytest.raises(CannotForget, match="has not ended, and from here nobody can ask"):
        await forget(redis_url, bus.keys)
    assert [info.state for info in await overview(redis_url, only=[bus.keys.session])] == ["lost"]
    await bus.aclose()
    with Redis.from_url(redis_url) as client:
        client.delete(bus.keys.events)  # expired: not a sign for a day
    assert bus.keys.running in (await forget(redis_url, bus.keys)).removed.entries


async def test_who_runs_it_is_asked(redis_url: str) -> None:
    there = True

    async def ask(session: str, home: Home) -> bool:
        assert home.node == "n" and session == bus.keys.session
        return there

    bus = await silent(redis_url, Home(node="n"))
    await bus.aclose()
    with pytest.raises(CannotForget, match="its process is there: stop it first"):
        await forget(redis_url, bus.keys, is_there=ask, gone=True)
    there = False
    done = await forget(redis_url, bus.keys, is_there=ask)
    assert not done.left and bus.keys.running in done.removed.entries
    assert await claim(redis_url, bus.keys), "it is gone, so its id is free"


async def test_a_session_that_was_forgotten_while_it_lived_ends_itself(redis_url: str) -> None:
    for sign in ("beat", "event"):
        bus = await silent(redis_url, ELSEWHERE)
        done = await forget(redis_url, bus.keys, gone=True)
        assert done.removed and not done.left
        assert not await claim(redis_url, bus.keys), "it may live still"
        if sign == "beat":
            await bus.beat(ALIVE)
        else:
            bus.publish(notice(bus.keys.session, 1))
            await bus.flush()
        assert bus.forgotten.is_set()
        bus.publish(notice(bus.keys.session, 2), ended(bus.keys.session), state="{}", row="1", rows=2)
        await bus.beat(ALIVE)
        assert await bus.aclose() and not await find(redis_url, bus.keys), "nothing of it comes back"


async def test_a_redis_that_was_emptied_lists_a_live_session_again(redis_url: str) -> None:
    """Else nobody could find it, nor its owner stop it."""
    keys = Keys("flushed", f"flushed-{secrets.token_hex(3)}")
    bus = Bus(redis_url, keys, home=Home(owner="desk", node="n"))
    await bus.register("2026-01-01T00:00:00Z")
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.delete(keys.directory, keys.running, keys.events, keys.alive)
        await bus.beat(ALIVE)
        assert '"desk"' in str(client.hget(keys.running, keys.session))
        assert client.ttl(keys.running) > 0 and client.ttl(keys.directory) > 0
        assert [info.state for info in await overview(redis_url, keys.prefix)] == ["live"]
        bus.publish(ended("flushed"))
        assert await bus.aclose()
        assert not client.exists(keys.running), "it has ended"
