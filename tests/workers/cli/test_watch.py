"""The screen of `undertone watch`, driven by keys, against a real Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

import pytest
from textual.widgets import DataTable, Input, OptionList, Static

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.events import Base, Degraded, SessionEnded, SessionStarted, SpeakerMerged
from tests.support.events import label, partial
from tests.support.redis_servers import private_server
from workers.cli.watch import MAX_ROWS, Conversation, WatchApp, matches
from workers.console.rows import Row
from workers.console.terminal import printable


def started(session: str) -> SessionStarted:
    return SessionStarted(
        id=f"{session}:started", session=session, time="now", sources=["x"], channels="mixed", speakers="cluster",
        encoders={"asr": "faster-whisper base"}, checkpoint="meld", emotions=["neutral", "joy"], consent=None,
        redacted=False,
    )  # fmt: skip


def ended(session: str) -> SessionEnded:
    return SessionEnded(
        id=f"{session}:ended", session=session, reason="end of source", duration=9, utterances=2, failed=0, counts={}
    )


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


async def publish(url: str, prefix: str, events: Sequence[Base]) -> None:
    bus = Bus(url, Keys(events[0].session, prefix))
    await bus.register("2026-01-01T00:00:00Z")
    for event in events:
        bus.publish(event)
    assert await bus.aclose()


def rows(app: WatchApp) -> list[list[str]]:
    table = app.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(number)] for number in range(table.row_count)]


def words(app: WatchApp) -> list[str]:
    return [row[2] for row in rows(app)]


def status(app: WatchApp) -> str:
    return str(app.query_one("#status", Static).render())


def listed(app: WatchApp) -> list[str]:
    return [str(option.prompt) for option in app.query_one(OptionList).options]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not condition():
            await asyncio.sleep(0.03)


async def test_labels_become_final_and_words_are_no_markup(redis_url: str, prefix: str) -> None:
    first = [started("one"), label("one", 0, text="[bold]hi[/] \x1b[2Jthere"), label("one", 1, uncertain=True)]
    await publish(redis_url, prefix, first)
    app = WatchApp(redis_url, ["one"], prefix)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: len(rows(app)) == 2)
        time, speaker, text, emotion, bar, sentiment, state = rows(app)[0]
        assert text == "[bold]hi[/] there" and (speaker, sentiment, state) == ("Ann", "positive", "provisional")
        assert time == "0:01.0" and emotion == "▲ joy" and bar == "██████·· 0.75"
        assert rows(app)[1][3] == "▲ joy?"
        assert listed(app) == ["● one"] and "words: Whisper base" in status(app)
        final = label("one", 0, revision=1, final=True, trigger="context", emotion="neutral", latency=None)
        merged = SpeakerMerged(id="one:merged", session="one", speaker="Ann", into="Ben")
        await publish(redis_url, prefix, [final, merged, ended("one")])
        await until(lambda: listed(app) == ["○ one"])
        assert [(row[1], row[3], row[6]) for row in rows(app)] == [
            ("Ben", "○ neutral", "final"), ("Ben", "▲ joy?", "provisional"),
        ]  # fmt: skip
        assert "end of source" in status(app)
        await pilot.press("f")
        assert len(rows(app)) == 1 and "finals only" in status(app)
        await pilot.press("f")
        assert len(rows(app)) == 2
        await pilot.press("q")
    assert app.return_code == 0 and app.return_value is None


async def test_words_of_who_still_talks_come_before_any_label(redis_url: str, prefix: str) -> None:
    app = WatchApp(redis_url, ["one"], prefix)
    async with app.run_test(size=(140, 30)) as pilot:
        await publish(redis_url, prefix, [partial("one", 0, "So what do", stable="So what")])
        await until(lambda: rows(app) == [["0:01.0", "Ann", "So what do", "", "", "", "goes on"]])
        await pilot.press("f")
        assert rows(app) == []
        await pilot.press("f")
        await publish(redis_url, prefix, [label("one", 0, text="So what do", trigger="interval", id="one:0:interim:0")])
        await until(lambda: rows(app)[0][3] == "▲ joy")
        await publish(redis_url, prefix, [partial("one", 0, "So what do you think", stable="So what do you")])
        await until(lambda: words(app) == ["So what do you think"])
        assert rows(app)[0][3] == "▲ joy" and rows(app)[0][6] == "goes on"
        await publish(redis_url, prefix, [label("one", 0, text="So what do you think?")])
        await until(lambda: rows(app)[0][6] == "provisional")
        assert words(app) == ["So what do you think?"]


async def test_all_sessions_new_ones_too_live_ones_first(redis_url: str, prefix: str) -> None:
    await publish(redis_url, prefix, [label("over", 0, text="long ago"), ended("over")])
    await publish(redis_url, prefix, [label("live", 0, text="now")])
    app = WatchApp(redis_url, [], prefix)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: listed(app) == ["● live", "○ over"])
        assert words(app) == ["now"], "a live one is shown"
        await pilot.press("down")
        assert words(app) == ["long ago"]
        await pilot.press("down")
        assert words(app) == ["long ago"], "there is no further one"
        await publish(redis_url, prefix, [label("new", 0, text="just begun")])
        await until(lambda: listed(app) == ["● new", "● live", "○ over"])
        assert words(app) == ["long ago"], "a new session does not take the choice away"
        assert app.query_one(OptionList).highlighted == 2
        await pilot.press("up", "up")
        assert words(app) == ["just begun"]


async def test_search(redis_url: str, prefix: str) -> None:
    labels = [
        label("one", 0, text="A quiet fox", speaker="Ann"),
        label("one", 1, text="Nothing", speaker="Foxley"),
        label("one", 2, text="", speaker="Ann", emotion="neutral"),
    ]
    await publish(redis_url, prefix, labels)
    app = WatchApp(redis_url, ["one"], prefix)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: len(rows(app)) == 3)
        await pilot.press("slash", *"fo")
        assert app.query_one(Input).display and words(app) == ["A quiet fox", "Nothing"]
        await pilot.press("x", "space", "enter")
        assert words(app) == [] and not app.query_one(Input).display
        await pilot.press("slash", "end", "backspace", "enter", "space")
        assert len(rows(app)) == 2 and "search: fox" in status(app) and "paused" in status(app)
        await pilot.press("escape")
        assert len(rows(app)) == 3 and "search" not in status(app)
    assert matches(Row(labels[2]), "NEUTR") and not matches(Row(labels[0]), "neutral")


async def test_a_pause_keeps_receiving(redis_url: str, prefix: str) -> None:
    await publish(redis_url, prefix, [label("one", 0)])
    app = WatchApp(redis_url, ["one"], prefix)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: len(rows(app)) == 1)
        await pilot.press("space")
        await publish(redis_url, prefix, [label("one", n) for n in range(1, 6)])
        await until(lambda: "paused, 5 wait" in status(app))
        assert len(rows(app)) == 1
        await pilot.press("space")
        assert len(rows(app)) == 6 and "paused" not in status(app)


async def test_the_last_label_stays_in_sight_and_a_narrow_screen_will_do(redis_url: str, prefix: str) -> None:
    await publish(redis_url, prefix, [label("one", n, text="word " * 40) for n in range(60)])
    app = WatchApp(redis_url, ["one"], prefix)
    async with app.run_test(size=(80, 20)) as pilot:
        await until(lambda: len(rows(app)) == 60)
        table = app.query_one(DataTable)
        await until(lambda: table.scroll_offset.y == table.max_scroll_y > 0)
        await pilot.press("pageup")
        at = table.scroll_offset.y
        await publish(redis_url, prefix, [label("one", 60)])
        await until(lambda: len(rows(app)) == 61)
        assert table.scroll_offset.y == at < table.max_scroll_y, "who reads above is left there"
        await pilot.resize_terminal(200, 30)
        await until(lambda: len(words(app)[0]) > 60)


@pytest.mark.integration
async def test_ctrl_c_and_a_refusal() -> None:
    with private_server("--requirepass", "right") as url:
        app = WatchApp(url, ["one"], "undertone")
        async with app.run_test():
            await until(lambda: app.return_value is not None)
        assert "authenticated" in str(app.return_value)
        app = WatchApp(url.replace("//", "//:right@"), ["one"], "undertone")
        async with app.run_test() as pilot:
            await pilot.press("ctrl+c")
        assert app.return_code == 130


def test_memory_is_bounded() -> None:
    known = Conversation()
    for number in range(MAX_ROWS + 10):
        known.event(label("one", number))
    known.event(Degraded(id="d", session="one", audio_time=1, reason="video dropped"))
    assert len(known.rows) == MAX_ROWS and next(iter(known.rows)) == 10 and "video dropped" in known.note
    assert printable("a\nb\x1b[0m") == "a b"
