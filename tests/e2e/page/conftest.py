"""A real gateway, and the page in a real browser whose microphone hears the demo conversation."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
import redis
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from stream.bus.keys import Keys
from tests.support.browsers import CHROMIUM
from tests.support.gateways import Gateway, gateways
from tests.support.meetings import meeting
from tests.support.published import published
from tests.support.recordings import RATE, write_wav


@pytest.fixture(scope="package")
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


@pytest.fixture
def live(redis_url: str) -> Iterator[Callable[..., str]]:
    """Makes a live meeting with such options of `meeting`; its id. It is live no longer when the test is over."""
    made: list[str] = []

    def make(seconds: float, **options: object) -> str:
        made.append(f"live-{secrets.token_hex(4)}")
        return published(meeting(redis_url, made[-1], seconds, is_live=True, **options))  # type: ignore[arg-type]

    yield make
    with redis.Redis.from_url(redis_url) as client:
        for session in made:
            client.delete(Keys(session).alive)
