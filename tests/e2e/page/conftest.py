"""A real gateway, and the page in a real browser whose microphone hears the demo conversation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.support.browsers import CHROMIUM
from tests.support.gateways import Gateway, gateways
from tests.support.recordings import RATE, write_wav


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str) -> Iterator[Gateway]:
    """A gateway that may record."""
    folder = tmp_path_factory.mktemp("page")
    record = str(tmp_path_factory.mktemp("recordings"))
    with gateways(folder, 1, "--redis", redis_url, "--ray-address", ray_address, "--record", record) as (one,):
        yield one


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, demo_audio) -> Iterator[Browser]:
    said = write_wav(
        tmp_path_factory.mktemp("microphone") / "said.wav", demo_audio.sum(0, keepdims=True)[:, : 20 * RATE]
    )
    switches = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    switches += [f"--use-file-for-fake-audio-capture={said}", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    """The first page; whatever the browser complains of fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", complain)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(gateway.http)
    yield page
    page.close()
    assert complaints == []
