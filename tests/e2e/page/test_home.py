"""The first page: the wall of live sessions, the table of past ones; and what people write about a session."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.support.gateways import Gateway
from tests.support.meetings import PEOPLE, meeting
from tests.support.published import published


def an_id() -> str:
    return f"meeting-{secrets.token_hex(4)}"


def test_the_wall_shows_how_each_live_session_is(page: Page, live: Callable[..., str]) -> None:
    session = live(400, people=PEOPLE[:2], title="Support call", angry=PEOPLE[:2], seed=2, sources=["track 0"])
    card = page.locator(f'#wall [data-session="{session}"]')
    expect(card).to_contain_text("Support call", timeout=20_000)
    expect(card).to_contain_text("● 6:40")
    expect(card.locator(".headline")).to_contain_text("pset")
    expect(card.locator(".chip")).to_have_count(2)
    expect(card.locator(".said")).to_contain_text(":")
    expect(card.get_by_role("img", name="Mood")).to_be_visible()
    card.get_by_role("link").click()
    expect(page.locator("#now .speaker-now")).to_have_count(2)


def test_past_sessions_are_found_renamed_and_deleted_with_proof(page: Page, redis_url: str) -> None:
    mark = secrets.token_hex(3)
    session = published(meeting(redis_url, an_id(), 120, PEOPLE[:2], title=f"Call {mark}"))
    other = published(meeting(redis_url, an_id(), 60, PEOPLE[:2], title=f"Planning {mark}"))
    row = page.locator(f'#past [data-session="{session}"]')
    expect(row).to_contain_text("2:00", timeout=20_000)
    expect(row.locator(".who")).to_have_text(re.compile("Ann, Ben|Ben, Ann"))
    page.get_by_label("Search titles, tags and dates").fill(f"call {mark}")
    expect(page.locator(f'#past [data-session="{other}"]')).to_have_count(0)
    row.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Title").fill(f"Call {mark}, the second")
    page.get_by_role("textbox", name="Tags").fill("support, urgent")
    page.get_by_role("button", name="Save").click()
    expect(row).to_contain_text(f"Call {mark}, the second")
    expect(row.locator(".tag")).to_have_text(["support", "urgent"])
    page.get_by_label("Search titles, tags and dates").fill(f"urgent {mark}")
    page.get_by_label("When").select_option("last 7 days")
    expect(page.locator("#past tbody tr")).to_have_count(1)
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#erased")).to_contain_text("A second search found nothing")
    expect(page.locator("dialog .proof")).to_contain_text(session)
    page.get_by_role("button", name="Close").click()
    expect(row).to_have_count(0)
    expect(page.get_by_text(f"No session has “urgent {mark}”.")).to_be_visible()


def test_a_rule_made_here_raises_alerts(page: Page, gateway: Gateway, live: Callable[..., str]) -> None:
    """In the list, in the transcript, and on the wall; and the rule stays with the session."""
    session = live(400, people=PEOPLE[:2], angry=PEOPLE[:1], seed=3)
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator("#alerts")).to_contain_text("No rules yet")
    page.get_by_role("button", name="Make a rule").click()
    form = page.locator("#rule-form")
    form.get_by_label("Alert when").select_option("Ann")
    form.get_by_label("shows").select_option("anger")
    form.get_by_label("per cent sure").fill("40")
    form.get_by_role("button", name="Save the rule").click()
    alert = page.locator("#alerts .alert-list li").first
    expect(alert).to_contain_text("Ann: anger, 2 in a row")
    alert.get_by_role("button").click()
    expect(page.locator("article:focus")).to_contain_text("Ann")
    expect(page.locator("#transcript .notice.alert").first).to_be_attached()
    page.reload()
    expect(page.locator("#alerts")).to_contain_text("Rules: 1")
    expect(page.locator("#alerts .alert-list li").first).to_be_visible()
    page.goto(f"{gateway.http}/#home")
    expect(page.locator(f'#wall [data-session="{session}"] .alerted')).to_contain_text("Ann, anger")


def test_notes_and_corrections_stay_with_the_session(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(meeting(redis_url, an_id(), 60, PEOPLE[:2]))
    page.goto(f"{gateway.http}/#session={session}")
    page.get_by_label("Note at this moment").fill("Here it turned")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#notes li")).to_contain_text("Here it turned")
    first = page.locator("#utterance-0")
    first.locator("summary").click()
    first.get_by_label("It is").select_option("fear")
    expect(first.locator(".corrected")).to_have_text("corrected: fear")
    page.reload()
    expect(page.locator("#utterance-0 .corrected")).to_have_text("corrected: fear")
    kept = page.request.get(f"{gateway.http}/sessions/{session}/annotations").json()
    assert [one["emotion"] for one in kept["corrections"]] == ["fear"]
    page.locator("#utterance-0 summary").click()
    page.get_by_role("button", name="Withdraw the correction").click()
    expect(page.locator("#utterance-0 .corrected")).to_have_count(0)
    page.get_by_role("button", name="Remove the note").click()
    expect(page.locator("#notes li")).to_have_count(0)
