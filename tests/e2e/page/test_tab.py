"""A web meeting in another tab: its sound and the microphone as two named tracks of one session."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from playwright.sync_api import expect, sync_playwright

from tests.support.browsers import CHROMIUM, SLOW, agreed
from tests.support.gateways import Gateway
from tests.support.recordings import RATE, write_wav


def test_a_tab_is_heard_beside_the_microphone(gateway: Gateway, tmp_path: Path, demo_audio: np.ndarray) -> None:
    """Each of the two people of the demo conversation comes another way."""
    mara = write_wav(tmp_path / "mara.wav", demo_audio[:1, : 20 * RATE])
    jonas = write_wav(tmp_path / "jonas.wav", demo_audio[1:, : 20 * RATE])
    sound = base64.b64encode(jonas.read_bytes()).decode()
    switches = ["--no-sandbox", "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={mara}"]
    switches += [
        "--autoplay-policy=no-user-gesture-required",
        "--auto-select-tab-capture-source-by-title=Weekly meeting",
    ]
    with sync_playwright() as playwright:
        # Muted, as Playwright starts it, no tab has any sound.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=switches, ignore_default_args=["--mute-audio"]
        )
        context = browser.new_context()
        context.grant_permissions(["microphone"], origin=gateway.http)
        page, meeting = context.new_page(), context.new_page()
        meeting.set_content(
            f"<title>Weekly meeting</title><audio autoplay loop src='data:audio/wav;base64,{sound}'></audio>"
        )
        page.goto(f"{gateway.http}/#new")
        page.bring_to_front()
        agreed(page)
        page.get_by_label("Participant’s name").fill("Mara")
        page.get_by_label("Hear a tab or the screen too").check()
        page.get_by_label("Who is heard there").fill("Jonas")
        page.get_by_role("button", name="Start listening").click()
        expect(page.locator("#analysis-status")).to_contain_text("sending", timeout=SLOW)
        for name in ("Mara", "Jonas"):
            expect(page.locator(f'.speaker-now[data-speaker="{name}"]')).to_contain_text("% of talk", timeout=SLOW)
        page.get_by_role("button", name="Stop listening").click()
        expect(page.locator("#session-state")).to_contain_text("ended", timeout=SLOW)
        browser.close()


def test_a_tab_that_is_not_shared_starts_nothing(gateway: Gateway) -> None:
    with sync_playwright() as playwright:
        switches = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        page = browser.new_page()
        # What a person does in the browser's own window of choices: here the page asks in vain.
        page.add_init_script(
            "navigator.mediaDevices.getDisplayMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))"
        )
        page.goto(f"{gateway.http}/#new")
        before = page.request.get(f"{gateway.http}/sessions?running=true").json()["sessions"]
        agreed(page)
        page.get_by_label("Hear a tab or the screen too").check()
        page.get_by_role("button", name="Start listening").click()
        expect(page.locator("#start-message")).to_contain_text("No tab or screen was shared.")
        assert page.request.get(f"{gateway.http}/sessions?running=true").json()["sessions"] == before
        browser.close()
