"""A session that is over, with its sound: from the server's recording, and from the file that the page sent."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsers import SLOW, agreed
from tests.support.gateways import Gateway
from tests.support.paths import DEMO

IN_STEP_S = 0.1
MOMENTS = """() => {
    const current = document.querySelector(".row.current time")?.textContent;
    const video = document.querySelector("#stage video");
    const heard = video.currentTime;
    return [heard, Number(document.querySelector("#scrubber").value), current, video.paused];
}"""


@pytest.mark.parametrize("kept_by", ["server", "page"])
def test_sound_and_transcript_are_in_step(page: Page, gateway: Gateway, kept_by: str) -> None:
    page.goto(f"{gateway.http}/#new")
    agreed(page)
    page.get_by_label("Keep sound and pictures on the server").set_checked(kept_by == "server")
    page.locator("#file").set_input_files(DEMO)
    page.locator("#upload-speed").select_option("max")
    page.locator("#upload").click()
    expect(page.locator("#session-state")).to_contain_text("ended", timeout=SLOW)
    if kept_by == "server":
        page.reload()  # which the file that was sent does not outlive
    expect(page.locator("#sound")).to_have_text("with sound", timeout=SLOW)
    page.wait_for_function("() => document.querySelector('#stage video')?.readyState >= 2", timeout=SLOW)
    page.locator("#charts").focus()
    page.locator("#scrubber").focus()
    page.keyboard.press("Home")
    page.locator("#play").click()
    page.wait_for_function("() => document.querySelector('#stage video').currentTime > 8", timeout=SLOW)
    for _ in range(10):
        heard, shown, current, is_paused = page.evaluate(MOMENTS)
        assert abs(heard - shown) <= IN_STEP_S and not is_paused
        minutes, seconds = map(int, current.split(":"))
        assert heard - 15 <= 60 * minutes + seconds <= heard + IN_STEP_S
        expect(page.locator(".row.current")).to_be_in_viewport()
        page.wait_for_timeout(130)
    page.locator("#play").click()
    # A moment that is chosen in the timeline is sought in the sound.
    box = page.locator("#charts").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 10)
    page.wait_for_function("() => document.querySelector('#stage video').currentTime > 20", timeout=SLOW)
    heard, shown, *_ = page.evaluate(MOMENTS)
    assert abs(heard - shown) <= IN_STEP_S
