"""Sessions that are started in the page, from a fake microphone and camera and from a file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.support.browsers import SLOW, agreed
from tests.support.gateways import Gateway
from tests.support.paths import DEMO
from tests.support.recordings import RATE, write_wav


@pytest.fixture(autouse=True)
def _form(page: Page, gateway: Gateway) -> None:
    page.goto(f"{gateway.http}/#new")


def test_the_page_says_what_is_being_loaded_until_it_is_there(page: Page) -> None:
    """The server's answers are the test's: models load but once."""
    loading = ["Whisper base", "checkpoint meld"]
    page.route("**/readyz", lambda route: route.fulfill(json={"loading": loading}))
    page.reload()
    expect(page.locator("#loading")).to_have_text(re.compile("Loading Whisper base, checkpoint meld …"))
    loading.pop()
    expect(page.locator("#loading")).to_have_text(re.compile("Loading Whisper base …"))
    loading.pop()
    expect(page.locator("#loading")).to_be_hidden()


def test_the_page_says_what_is_away(page: Page) -> None:
    """Redis and Ray are the suite's; so the answer that names them is the test's."""
    away = {"redis": True, "ray": False, "loading": []}
    page.route("**/readyz", lambda route: route.fulfill(json=away))
    page.reload()
    expect(page.locator("#away")).to_contain_text("Ray is away")
    away["ray"] = True
    expect(page.locator("#away")).to_be_hidden()


def test_a_session_from_microphone_and_camera(page: Page) -> None:
    """The notice that one is analysed, the speaker, labels, what was heard and seen, the end."""
    agreed(page)
    page.get_by_label("Participant’s name").fill("Mara")
    page.get_by_label("Use the camera too").check()
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#analysis-bar")).to_be_visible(timeout=SLOW)
    expect(page.locator("#analysis-status")).to_contain_text("You are being analysed")
    first = page.locator("article.final").first
    expect(first).to_be_visible(timeout=SLOW)
    expect(first).to_contain_text("Mara")
    expect(first.get_by_role("img", name="missing: face")).to_be_visible()  # for the fake camera shows none
    page.locator("#transcript").hover()
    page.mouse.wheel(0, -5000)  # or the newest words would be brought into view again
    opened = page.locator(f"#{first.get_attribute('id')}")  # others may become the first one in view
    opened.locator("summary").click()
    expect(opened.locator(".why")).to_contain_text("voice")
    expect(page.locator("#now")).to_contain_text("100 % of talk")
    expect(page.locator("#timeline canvas").first).to_be_visible()
    page.get_by_role("button", name="Stop listening").click()
    expect(page.locator("#session-state")).to_contain_text("ended", timeout=SLOW)
    expect(page.locator("#analysis-bar")).to_be_hidden()


def test_a_recording_is_dropped_in_watched_exported_and_replayed(page: Page) -> None:
    page.get_by_label("Title").fill("Two friends")
    agreed(page)
    page.locator("#file").set_input_files(DEMO)
    page.locator("#upload-speed").select_option("max")
    page.locator("#upload").click()
    expect(page.locator("#session-state")).to_contain_text("ended", timeout=SLOW)
    expect(page.get_by_role("heading", name="Two friends")).to_be_visible()
    articles = page.locator("article[id^=utterance-]")
    expect(articles.first).to_be_visible()
    rows = page.locator("#transcript")
    total = int(rows.get_attribute("data-rows") or 0)
    assert total >= 10
    page.locator("#attention-text summary").click()
    expect(page.locator("#attention-table")).to_contain_text("speaker 2")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.locator("#export-srt").click()
    assert "-->" in download.value.path().read_text()
    page.keyboard.press("Escape")
    # Scrubbing back takes nothing away, but on request: then the session is as it stood at that moment.
    page.locator("#scrubber").focus()
    page.keyboard.press("Home")
    expect(rows).to_have_attribute("data-rows", str(total))
    page.get_by_label("hide what came later").check()
    expect(articles).to_have_count(0)
    page.locator("#scrubber").focus()
    page.keyboard.press("End")
    expect(rows).to_have_attribute("data-rows", str(total))
    page.locator("#playback-speed").select_option("16")
    page.locator("#scrubber").focus()
    page.keyboard.press("Home")
    page.locator("#play").click()
    expect(articles.first).to_be_visible(timeout=20_000)


def test_nobody_is_analysed_without_agreeing(page: Page, gateway: Gateway) -> None:
    """One who has not agreed is named, and nothing starts; the notice says what it is for."""
    agreed(page, "Ann, Ben")
    page.get_by_label("Ben agreed").uncheck()
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#start-message")).to_have_text("Ben: not agreed yet. Nobody is analysed without agreeing.")
    expect(page.get_by_label("Who takes part")).to_be_focused()
    page.get_by_text("A notice to paste into the meeting’s chat").click()
    expect(page.get_by_label("Notice")).to_have_value(re.compile("for this: to test the page.*Without your yes"))
    page.get_by_label("Ben agreed").check()
    page.get_by_role("button", name="Start listening").click()
    page.get_by_role("button", name="Stop listening").click(timeout=SLOW)
    expect(page.locator("#session-state")).to_contain_text("ended", timeout=SLOW)
    page.get_by_role("button", name="More").click()
    expect(page.locator("#facts")).to_contain_text("Ann, Ben agreed (asked in the meeting")


@pytest.mark.parametrize(("people", "source"), [("2-4", "microphone"), (" 3 ", "recording")])
def test_how_many_people_share_a_microphone(
    page: Page, demo_audio: np.ndarray, tmp_path: Path, people: str, source: str
) -> None:
    agreed(page)
    page.get_by_label("People on one microphone").fill(people)
    if source == "microphone":
        page.get_by_role("button", name="Start listening").click()
        page.get_by_role("button", name="Stop listening").click(timeout=SLOW)
    else:
        page.locator("#file").set_input_files(write_wav(tmp_path / "room.wav", demo_audio.sum(0)[None, : 10 * RATE]))
        page.locator("#upload-speed").select_option("max")
        page.locator("#upload").click()
    expect(page.locator("#session-state")).to_contain_text("ended", timeout=SLOW)
    page.get_by_role("button", name="More").click()
    expect(page.locator("#facts")).to_contain_text(f"people: {people.strip()}")


@pytest.mark.parametrize("people", ["4-2", "0", "x"])
def test_a_number_of_people_that_is_none_starts_nothing(page: Page, gateway: Gateway, people: str) -> None:
    def sessions() -> list[str]:
        return [one["id"] for one in page.request.get(f"{gateway.http}/sessions").json()["sessions"]]

    before = sessions()
    agreed(page)
    page.locator("#file").set_input_files(DEMO)
    field = page.get_by_label("People on one microphone")
    field.fill(people)
    for button in ("Start listening", "Upload and analyse"):
        page.get_by_role("button", name=button).click()
        told = f"People on one microphone: a number such as 3, or a range such as 2-4, not “{people}”."
        expect(page.locator("#start-message")).to_have_text(told)
        expect(page.locator("#start-message")).to_be_in_viewport()
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#upload-progress")).to_be_hidden()
    assert sessions() == before
