"""What people write about a session, in a real Redis."""

from __future__ import annotations

import json
import secrets

import pytest
from pydantic import ValidationError

from stream.bus.annotations import MAX_NOTES, NOTE, Change, NewNote, TooManyNotes, add_note, change, read, remove_note
from stream.bus.connection import SessionNotFound, connect
from stream.bus.directory import overview
from stream.bus.forget import forget
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from tests.support.events import ended, notice


@pytest.fixture
def keys() -> Keys:
    return Keys("standup", f"written-{secrets.token_hex(3)}")


async def begun(url: str, keys: Keys, kept_s: int = 600) -> Bus:
    bus = Bus(url, keys, kept_s)
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(notice(keys.session, 0))
    await bus.flush()
    return bus


async def test_title_tags_and_notes_are_kept_and_changed(redis_url: str, keys: Keys) -> None:
    bus = await begun(redis_url, keys)
    assert await read(redis_url, keys) == await change(redis_url, keys, Change())
    first = await change(redis_url, keys, Change(title=" Stand-up ", tags=["team", "weekly", "team"]))
    assert (first.title, first.tags, first.notes) == ("Stand-up", ["team", "weekly"], [])
    late = await add_note(redis_url, keys, NewNote(time=61.5, text="she laughs here"), "desk")
    early = await add_note(redis_url, keys, NewNote(time=2, text="it begins"), "phone")
    both = await change(redis_url, keys, Change(tags=[]))
    assert (both.title, both.tags, both.notes) == ("Stand-up", [], [early, late])
    assert early.author == "phone" and early.written.endswith("+00:00")
    assert await remove_note(redis_url, keys, late.id) and not await remove_note(redis_url, keys, late.id)
    assert (await read(redis_url, keys)).notes == [early]
    assert (await change(redis_url, keys, Change(title=""))).title is None
    await bus.aclose()


async def test_the_directory_has_title_and_tags(redis_url: str, keys: Keys) -> None:
    bus = await begun(redis_url, keys)
    (info,) = await overview(redis_url, keys.prefix)
    assert (info.title, info.tags) == (None, [])
    await change(redis_url, keys, Change(title="Stand-up", tags=["team"]))
    (info,) = await overview(redis_url, keys.prefix)
    assert (info.title, info.tags) == ("Stand-up", ["team"])
    await bus.aclose()


async def test_they_expire_with_the_events_whoever_was_first(redis_url: str, keys: Keys) -> None:
    bus, client = await begun(redis_url, keys, 600), connect(redis_url)
    await client.expire(keys.events, 100)
    await change(redis_url, keys, Change(title="Stand-up"))
    assert await client.ttl(keys.annotations) in (99, 100)
    bus.publish(notice(keys.session, 1))
    await bus.flush()
    assert 590 < await client.ttl(keys.annotations) <= 600 and 590 < await client.ttl(keys.events) <= 600
    await bus.aclose()
    await client.aclose()


async def test_of_a_session_that_is_not_there_nothing_is_written(redis_url: str, keys: Keys) -> None:
    for writing in (
        change(redis_url, keys, Change(title="x")),
        add_note(redis_url, keys, NewNote(time=0, text="x"), "a"),
    ):
        with pytest.raises(SessionNotFound):
            await writing
    assert not await remove_note(redis_url, keys, "none")
    client = connect(redis_url)
    assert not await client.exists(keys.annotations)
    await client.aclose()


async def test_forgetting_takes_them_too(redis_url: str, keys: Keys) -> None:
    bus = await begun(redis_url, keys)
    bus.publish(ended(keys.session))
    await bus.aclose()
    await add_note(redis_url, keys, NewNote(time=0, text="delete me"), "desk")
    done = await forget(redis_url, keys)
    assert keys.annotations in done.removed.keys and not done.left


async def test_a_session_forgotten_while_it_lives_takes_them_back(redis_url: str, keys: Keys) -> None:
    bus, client = await begun(redis_url, keys), connect(redis_url)
    await change(redis_url, keys, Change(title="Stand-up"))
    await client.set(keys.forgotten, "1", ex=60)
    bus.publish(notice(keys.session, 1))
    await bus.flush()
    assert bus.forgotten.is_set() and not await client.exists(keys.annotations)
    await bus.aclose()
    await client.aclose()


async def test_notes_are_bounded(redis_url: str, keys: Keys) -> None:
    bus, client = await begun(redis_url, keys), connect(redis_url)
    await client.hset(keys.annotations, mapping={f"{NOTE}{n}": "{}" for n in range(MAX_NOTES)})
    with pytest.raises(TooManyNotes, match="has 1000 notes"):
        await add_note(redis_url, keys, NewNote(time=0, text="one more"), "desk")
    await bus.aclose()
    await client.aclose()


async def test_what_other_programs_wrote_there_hides_nothing(redis_url: str, keys: Keys) -> None:
    bus, client = await begun(redis_url, keys), connect(redis_url)
    note = await add_note(redis_url, keys, NewNote(time=3, text="mine"), "desk")
    await client.hset(keys.annotations, mapping={"tags": '{"no": "list"}', f"{NOTE}x": "no JSON", "later": "version"})
    assert (await read(redis_url, keys)).notes == [note] and (await read(redis_url, keys)).tags == []
    assert [info.id for info in await overview(redis_url, keys.prefix)] == [keys.session]
    await client.delete(keys.annotations)
    await client.set(keys.annotations, "of another type")
    (info,) = await overview(redis_url, keys.prefix)
    assert (info.id, info.title, info.tags) == (keys.session, None, [])
    await bus.aclose()
    await client.aclose()


@pytest.mark.parametrize(
    "wanted",
    [
        {"title": "x" * 201},
        {"tags": [" "]},
        {"tags": ["x" * 41]},
        {"tags": [str(n) for n in range(21)]},
        {"titel": "x"},
    ],
)
def test_changes_are_bounded(wanted) -> None:
    with pytest.raises(ValidationError):
        Change.model_validate_json(json.dumps(wanted))


@pytest.mark.parametrize("time, text", [(-1, "x"), (float("inf"), "x"), (0, "  "), (0, "x" * 2001)])
def test_notes_have_a_moment_and_words(time, text) -> None:
    with pytest.raises(ValidationError):
        NewNote(time=time, text=text)


async def test_a_user_of_redis_with_earlier_rights_reads_everything_else(redis_url: str, keys: Keys) -> None:
    bus, client = await begun(redis_url, keys), connect(redis_url)
    await change(redis_url, keys, Change(title="Stand-up"))
    rights = ["on", ">old", "+@all", *(f"~{keys.prefix}:{name}" for name in ("sessions", "{*}:events", "{*}:alive"))]
    await client.execute_command("ACL", "SETUSER", keys.prefix, *rights)
    (info,) = await overview(redis_url.replace("://", f"://{keys.prefix}:old@"), keys.prefix)
    assert (info.id, info.title, info.tags) == (keys.session, None, [])
    await client.execute_command("ACL", "DELUSER", keys.prefix)
    await bus.aclose()
    await client.aclose()
