"""One session in the page: transcript, timeline, what stands beside them, and its states."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import SLOW
from tests.support.gateways import Gateway
from tests.support.meetings import PEOPLE, meeting
from tests.support.published import conversation, published, talking

Live = Callable[..., str]
SUMMED = "#after .talk li"


def an_id() -> str:
    return f"meeting-{secrets.token_hex(4)}"


def test_a_session_that_is_not_there(browser: Browser, gateway: Gateway) -> None:
    """The message, and the way to the others; no charts, and nothing to export."""
    page = browser.new_page()
    page.goto(f"{gateway.http}/#session=nope")
    expect(page.locator("#session-message")).to_have_text("no session 'nope'")
    expect(page.get_by_role("link", name="All sessions")).to_be_visible()
    for part in ("#session-header", "#player", "#timeline", "#transcript"):
        expect(page.locator(part)).to_have_count(0)
    page.close()


def test_a_session_in_which_nobody_spoke(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(meeting(redis_url, an_id(), 45, utterance_s=1000))
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator("#transcript-empty")).to_have_text("No speech was found in 0:45 of sound.")
    expect(page.locator("#session-state")).to_have_text("0:45, ended: its source ended")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_anybody(
    browser: Browser, gateway: Gateway, redis_url: str, live: Live, scheme: str
) -> None:
    """axe-core finds no violation, on a desk and on a phone; nothing is wider than a phone."""
    session = published(conversation(redis_url, 12))
    lively = live(60, people=PEOPLE[:5])
    views = {
        "#home": "#past tbody tr >> nth=0",
        "#new": "#start-form",
        f"#session={session}": SUMMED,
        f"#session={lively}": "#now .speaker-now",
    }
    for width in (1280, 360):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        for view, shown in views.items():
            page.goto(f"{gateway.http}/{view}")
            page.reload()
            expect(page.locator(shown).first).to_be_visible()
            if view == f"#session={session}":
                page.locator("article summary").first.click()
                page.get_by_role("button", name="Make a rule").click()
            found = Axe().run(page).response["violations"]
            assert not found, [(view, v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found]
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            if width > 900 and view.startswith("#session"):
                assert page.evaluate("() => document.documentElement.scrollHeight - innerHeight") < 100, (
                    "all at a glance"
                )
        page.close()


def test_all_is_reached_by_the_keyboard(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(conversation(redis_url, 12))
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator(SUMMED).first).to_be_visible()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.textContent.trim()"))
    parts = {
        "Skip to content",
        "theme-toggle",
        "export-button",
        "more-button",
        "play",
        "scrubber",
        "transcript",
        "charts",
    }
    assert parts <= reached, parts - reached
    page.locator("#charts").focus()
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    expect(page.locator("article:focus")).to_have_count(1)


def test_a_meeting_of_hours_stays_usable(page: Page, gateway: Gateway, redis_url: str) -> None:
    """All rows are there, and only those near the view are drawn; lanes have bins, and blocks once there is room."""
    session = published(meeting(redis_url, an_id(), 3 * 3600, PEOPLE))
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator(SUMMED)).to_have_count(len(PEOPLE), timeout=SLOW)
    total = int(page.locator("#transcript").get_attribute("data-rows") or 0)
    assert total > 3000
    assert page.locator("article").count() < 60
    expect(page.locator("#lanes")).to_have_attribute("data-drawn", "bins")
    for _ in range(8):
        page.locator("#zoom-in").click()
    expect(page.locator("#lanes")).to_have_attribute("data-drawn", "utterances")
    expect(page.locator("#attention-graph")).to_have_count(0)  # a matrix, with so many
    expect(page.locator("#attention-table tbody tr")).to_have_count(len(PEOPLE))
    page.locator("#transcript").focus()
    page.keyboard.press("End")
    expect(page.locator(f"#utterance-{total - 1}")).to_be_visible(timeout=SLOW)
    page.locator("#after .moments button").first.click()
    expect(page.locator("article:focus")).to_be_in_viewport()


def test_a_link_leads_to_a_moment(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(conversation(redis_url, 400))
    page.goto(f"{gateway.http}/#session={session}&t=361.0")  # of utterance 200, which begins at 360
    expect(page.locator("#utterance-200")).to_be_in_viewport(timeout=SLOW)
    expect(page.locator("#utterance-200")).to_be_focused()


def test_words_are_never_markup(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(conversation(redis_url, 3, "<img src=x onerror=alert(1)><b>bold</b>"))
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator("#utterance-2")).to_contain_text("<b>bold</b>")
    assert page.locator("article img, article b").count() == 0


def test_what_was_heard_in_a_voice(page: Page, gateway: Gateway, redis_url: str) -> None:
    """In words: a badge beside the label, and a line of the details; nothing of it where the voice is not known."""
    session = published(conversation(redis_url, 3))
    page.goto(f"{gateway.http}/#session={session}")
    laughed, other = page.locator("#utterance-1"), page.locator("#utterance-2")
    expect(laughed.locator(".badge.sound")).to_have_text("laughter")
    for article in (laughed, other):
        article.locator("summary").click()
        expect(article.locator(".why")).to_contain_text("Sentiment")
    heard = "excited (arousal 0.62), sounds angry; laughter at 0:02.4, laughter at 0:02.4"
    expect(laughed.locator(".why")).to_contain_text(f"Heard{heard}")
    expect(other.locator(".badge.sound")).to_have_count(0)
    expect(other.locator(".why")).not_to_contain_text("Heard")


def test_words_that_may_still_change_stand_apart(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(talking(redis_url))
    page.goto(f"{gateway.http}/#session={session}")
    words = page.locator("#utterance-0 .words")
    expect(words).to_have_text("So what do you")
    expect(words.locator(".unstable")).to_have_text(" do you")
    assert words.evaluate("node => getComputedStyle(node).fontStyle") == "normal"
    assert words.locator(".unstable").evaluate("node => getComputedStyle(node).fontStyle") == "italic"


def test_who_is_upset_now(page: Page, gateway: Gateway, live: Live) -> None:
    """In words, for each speaker, with what they said last; the newest words are in view."""
    session = live(600, people=PEOPLE[:2], angry=PEOPLE[:1], seed=3, sources=["track 0"])
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator("#session-state")).to_have_text("● 10:00")
    expect(page.locator("#headline")).to_contain_text("pset")
    expect(page.locator('.speaker-now[data-speaker="Ann"]')).to_contain_text("anger")
    expect(page.locator('.speaker-now[data-speaker="Ann"]')).to_contain_text("% of talk")
    expect(page.locator("#headline")).to_contain_text("The mood is")
    last = int(page.locator("#transcript").get_attribute("data-rows") or 0) - 1
    expect(page.locator(f"#utterance-{last}")).to_be_in_viewport()


def test_the_interface_is_described(page: Page, gateway: Gateway) -> None:
    page.goto(f"{gateway.http}/docs")
    expect(page.get_by_text("/sessions/{session}/export/{format}")).to_be_visible(timeout=20_000)
