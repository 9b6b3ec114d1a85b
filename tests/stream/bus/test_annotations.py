"""What people write about a session, in a real Redis."""

from __future__ import annotations

import json
import secrets

import pytest
from pydantic import ValidationError

from stream.bus.alert_rules import Rule, RuleError
from stream.bus.annotations import (
    CORRECTION,
    MAX_CORRECTIONS,
    MAX_NOTES,
    NOTE,
    RULES,
    Change,
    NewCorrection,
    NewNote,
    TooManyCorrections,
    TooManyNotes,
    UnknownLabel,
    add_note,
    change,
    correct,
    read,
    remove_correction,
    remove_note,
    rules,
    set_rules,
)
from stream.bus.connection import SessionNotFound, connect
from stream.bus.directory import overview
from stream.bus.forget import forget
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from tests.support.conversations import started
from tests.support.events import ended, notice

GLAD = Rule(name="glad", emotion="joy")


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
        correct(redis_url, keys, 0, NewCorrection(emotion="joy"), "a"),
        set_rules(redis_url, keys, [GLAD]),
    ):
        with pytest.raises(SessionNotFound):
            await writing
    assert not await remove_note(redis_url, keys, "none")
    assert not await remove_correction(redis_url, keys, 0)
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


async def test_corrections_are_kept_in_order_and_one_an_utterance(redis_url: str, keys: Keys) -> None:
    bus = await begun(redis_url, keys)
    late = await correct(redis_url, keys, 10, NewCorrection(emotion=" joy ", was="anger"), "desk")
    early = await correct(redis_url, keys, 2, NewCorrection(emotion="anger"), "phone")
    assert (late.utterance, late.emotion, late.was, late.author) == (10, "joy", "anger", "desk")
    assert early.was is None and early.written.endswith("+00:00")
    assert (await read(redis_url, keys)).corrections == [early, late]
    again = await correct(redis_url, keys, 10, NewCorrection(emotion="fear", was="anger"), "phone")
    assert (await read(redis_url, keys)).corrections == [early, again]
    assert await remove_correction(redis_url, keys, 2) and not await remove_correction(redis_url, keys, 2)
    assert (await read(redis_url, keys)).corrections == [again]
    await bus.aclose()


async def test_a_correction_is_one_of_the_sessions_labels_while_these_are_known(redis_url: str, keys: Keys) -> None:
    bus = Bus(redis_url, keys, 600)
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(started(id=f"{keys.session}:started", session=keys.session))
    bus.publish(notice(keys.session, 0))
    await bus.flush()
    with pytest.raises(UnknownLabel, match="has no label 'bored'; it has neutral, joy, anger"):
        await correct(redis_url, keys, 0, NewCorrection(emotion="bored"), "desk")
    assert (await correct(redis_url, keys, 0, NewCorrection(emotion="anger"), "desk")).emotion == "anger"
    client = connect(redis_url)
    await client.xtrim(keys.events, maxlen=1, approximate=False)
    assert (await correct(redis_url, keys, 0, NewCorrection(emotion="bored"), "desk")).emotion == "bored"
    await bus.aclose()
    await client.aclose()


async def test_corrections_are_bounded(redis_url: str, keys: Keys) -> None:
    bus, client = await begun(redis_url, keys), connect(redis_url)
    await client.hset(keys.annotations, mapping={f"{CORRECTION}{n}": "{}" for n in range(MAX_CORRECTIONS)})
    with pytest.raises(TooManyCorrections, match="has 10000 corrections"):
        await correct(redis_url, keys, MAX_CORRECTIONS, NewCorrection(emotion="joy"), "desk")
    await correct(redis_url, keys, 7, NewCorrection(emotion="joy"), "desk")
    assert [one.utterance for one in (await read(redis_url, keys)).corrections] == [7]
    await bus.aclose()
    await client.aclose()


async def test_rules_of_a_session_are_replaced_as_a_whole(redis_url: str, keys: Keys) -> None:
    bus = await begun(redis_url, keys)
    assert await rules(redis_url, keys) == []
    sad = Rule(name="sad customer", emotion="sadness", speaker="customer*", above=0.8, utterances=3, certain=True)
    assert await set_rules(redis_url, keys, [GLAD, sad]) == [GLAD, sad]
    assert await rules(redis_url, keys) == (await read(redis_url, keys)).rules == [GLAD, sad]
    with pytest.raises(RuleError, match=r"^rule 2 \('Glad!'\): another rule has the same name$"):
        await set_rules(redis_url, keys, [GLAD, Rule(name="Glad!", emotion="fear")])
    assert await set_rules(redis_url, keys, []) == await rules(redis_url, keys) == []
    await bus.aclose()


async def test_garbage_in_the_fields_of_corrections_and_rules_is_skipped(redis_url: str, keys: Keys) -> None:
    bus, client = await begun(redis_url, keys), connect(redis_url)
    mine = await correct(redis_url, keys, 3, NewCorrection(emotion="joy"), "desk")
    foreign = {
        "": mine.model_dump_json(),
        "x": "no JSON",
        "4": mine.model_dump_json(),  # of another utterance
        "5": '{"utterance": 5, "emotion": ""}',
        "-1": mine.model_copy(update={"utterance": -1}).model_dump_json(),
    }
    await client.hset(keys.annotations, mapping={CORRECTION + name: value for name, value in foreign.items()})
    same = json.dumps([{"name": "a", "emotion": "joy"}, {"name": "A", "emotion": "joy"}])
    many = json.dumps([{"name": str(n), "emotion": "joy"} for n in range(21)])
    for garbage in ("no JSON", "{}", '[{"name": "x"}]', same, many):
        await client.hset(keys.annotations, RULES, garbage)
        assert (await read(redis_url, keys)).corrections == [mine]
        assert (await read(redis_url, keys)).rules == await rules(redis_url, keys) == []
    await bus.aclose()
    await client.aclose()


@pytest.mark.parametrize("emotion", ["", " ", "x" * 65, None])
def test_a_correction_has_a_label(emotion) -> None:
    with pytest.raises(ValidationError):
        NewCorrection(emotion=emotion)


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
