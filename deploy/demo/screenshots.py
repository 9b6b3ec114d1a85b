"""Makes the pictures of the page: the demo conversation (dashboard.png, dashboard-phone.png), a walk through the page
(dashboard.webp); and of the terminal (terminal.svg).

The demo conversation is analysed; the meetings around it are made up (tests/support/meetings.py).
Run in the repository, after `make install-dev`, with Chromium: PYTHONPATH=. .venv/bin/python deploy/demo/screenshots.py
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console

from stream.bus.server import private_server
from stream.events import parse
from tests.support.meetings import PEOPLE, meeting
from workers.console.display import TableDisplay

HERE = Path(__file__).parent
CONVERSATION = HERE.parents[1] / "workers" / "demo" / "conversation.opus"  # a link leads out of a media folder
UNDERTONE = Path(sys.executable).with_name("undertone")
SESSION, CALL, REVIEW = "a-quarter-with-jonas", "support-4711", "quarterly-review"
SIZE = {"width": 1240, "height": 820}
SHOWN_MS = 650  # for which a frame of something that moves is shown
READ_MS = 2600  # and one that is to be read
QUALITY = 45  # of WebP's 100


def main() -> None:
    with private_server() as redis, tempfile.TemporaryDirectory() as recordings, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        options = ["--redis", redis, "--media", CONVERSATION.parent, "--record", recordings]
        gateway = subprocess.Popen([UNDERTONE, "serve", "--no-token", *options, "--port", address.rpartition(":")[2]])
        try:
            draw_terminal(played(address))
            asyncio.run(made_up(redis))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                opened(browser, address, 1280, 900, "light").screenshot(path=HERE / "dashboard.png")
                phone = opened(browser, address, 390, 844, "dark")
                phone.locator("#transcript").scroll_into_view_if_needed()
                phone.screenshot(path=HERE / "dashboard-phone.png")
                Walk(browser, address).save(HERE / "dashboard.webp")
        finally:
            gateway.terminate()
            gateway.wait()


def played(address: str) -> list[str]:
    """Events of the conversation, JSON, once the gateway has played it."""
    source = {"kind": "file", "name": CONVERSATION.name, "transcript": CONVERSATION.with_suffix(".stm").name}
    consent = "Nobody: the voices are synthetic"
    asked = {"id": SESSION, "title": "A quarter with Jonas", "consent": consent, "source": source, "record": True}
    with httpx.Client(base_url=address, timeout=300) as client:
        while True:
            try:
                client.get("/healthz").raise_for_status()
                break
            except httpx.TransportError:  # not up yet
                time.sleep(0.5)
        client.post("/sessions", json=asked).raise_for_status()
        with client.stream("GET", f"/sessions/{SESSION}/events") as events:
            return [line.removeprefix("data: ") for line in events.iter_lines() if line.startswith("data: ")]


async def made_up(redis: str) -> None:
    """Two live meetings, and a past one of an hour with six people."""
    await meeting(redis, REVIEW, 3600, PEOPLE[:6], "Quarterly review", seed=1, angry=["Ben"], days_ago=1)
    await meeting(redis, "planning", 1500, PEOPLE[2:6], "Planning", seed=7, days_ago=6)
    await meeting(redis, "daily", 760, PEOPLE[3:8], "Daily", seed=5, is_live=True)
    await meeting(redis, CALL, 760, PEOPLE[:3], "Support call 4711", seed=4, angry=["Chandra"], is_live=True)


def draw_terminal(events: list[str]) -> None:
    """terminal.svg: the table of a replay. events: JSON lines."""
    console = Console(record=True, width=118, height=24, file=io.StringIO(), force_terminal=True)
    display = TableDisplay(console)
    for line in events:
        display.event(parse(line))
    console.print(display.table())
    console.save_svg(str(HERE / "terminal.svg"), title="undertone replay conversation.opus")


def opened(browser: Browser, address: str, width: int, height: int, scheme: Literal["light", "dark"]) -> Page:
    """The conversation in a page, with all its labels and its summary."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(f"{address}/#session={SESSION}")
    page.locator("#after .talk li").first.wait_for()
    page.wait_for_timeout(500)
    return page


class Walk:
    """A walk through the page, frame by frame."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        self._address = address
        self._frames: list[Image.Image] = []
        self._shown_ms: list[int] = []
        for scene in (self._wall, self._call, self._rule, self._hour, self._summary, self._playback):
            scene()

    def save(self, path: Path) -> None:
        """Write the frames as an animated picture."""
        first, *others = self._frames
        first.save(
            path, save_all=True, append_images=others, duration=self._shown_ms, loop=0, quality=QUALITY, method=6
        )

    def _open(self, view: str, part: str) -> None:
        self._page.goto(f"{self._address}/#{view}")
        self._page.locator(part).first.wait_for()
        self._page.wait_for_timeout(1200)

    def _frame(self, milliseconds: int = READ_MS) -> None:
        self._page.wait_for_timeout(200)
        self._frames.append(Image.open(io.BytesIO(self._page.screenshot())).convert("RGB"))
        self._shown_ms.append(milliseconds)

    def _wall(self) -> None:
        """What is live, and what was."""
        self._open("home", "#wall .chip")
        self._frame()
        search = self._page.get_by_label("Search titles, tags and dates")
        for typed in ("pl", "plan"):
            search.fill(typed)
            self._frame(SHOWN_MS)
        search.fill("")
        self._frame(SHOWN_MS)

    def _call(self) -> None:
        """Who is upset now, and since when."""
        self._page.locator(f'#wall [data-session="{CALL}"] a').click()
        self._page.locator("#recent").wait_for()
        self._page.wait_for_timeout(1000)
        self._frame()

    def _rule(self) -> None:
        """An alert for what lasts."""
        self._page.get_by_role("button", name="Make a rule").click()
        form = self._page.locator("#rule-form")
        form.scroll_into_view_if_needed()
        self._frame(SHOWN_MS)
        form.get_by_label("Alert when").select_option("Chandra")
        form.get_by_label("shows").select_option("anger")
        self._frame(SHOWN_MS)
        form.get_by_role("button", name="Save the rule").click()
        self._page.locator("#alerts .alert-list li").first.wait_for()
        self._page.locator("#alerts").scroll_into_view_if_needed()
        self._frame()

    def _hour(self) -> None:
        """An hour with six people: shares while it is wide, utterances when it is near."""
        self._open(f"session={REVIEW}", "#after .talk li")
        self._frame()
        for _ in range(3):
            self._page.locator("#zoom-in").click()
            self._frame(SHOWN_MS)
        self._page.get_by_label("Mood of").select_option("Ben")
        self._frame(SHOWN_MS)
        self._page.locator("#zoom-all").click()
        self._frame(READ_MS)

    def _summary(self) -> None:
        """From a strong moment to its words, and what the label rests on."""
        moment = self._page.locator("#after .moments button").nth(1)
        moment.scroll_into_view_if_needed()
        self._frame(SHOWN_MS)
        moment.click()
        row = self._page.locator("article:focus")
        row.wait_for()
        self._frame(SHOWN_MS)
        row.locator("summary").click()
        self._frame()

    def _playback(self) -> None:
        """The conversation with its sound, in step."""
        self._open(f"session={SESSION}", "#after .talk li")
        self._page.locator("#sound", has_text=re.compile("with sound")).wait_for()
        scrubber = self._page.locator("#scrubber")
        length = float(scrubber.get_attribute("max") or 0)
        for second in range(2, int(length), 3):
            scrubber.fill(str(second))
            self._frame(SHOWN_MS)


if __name__ == "__main__":
    main()
