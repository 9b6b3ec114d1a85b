"""Makes the pictures of the demo conversation: the page (dashboard.png, dashboard-phone.png), the page while the
conversation plays (dashboard.webp), and the terminal (terminal.svg).

Run in the repository, after `make install-dev`, with Chromium: .venv/bin/python deploy/demo/screenshots.py
"""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import httpx
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright
from rich.console import Console

from stream.bus.server import private_server
from stream.events import parse
from workers.console.display import TableDisplay

HERE = Path(__file__).parent
CONVERSATION = HERE.parents[1] / "workers" / "demo" / "conversation.opus"  # a link leads out of a media folder
UNDERTONE = Path(sys.executable).with_name("undertone")
SESSION = "a-quarter-with-jonas"
UTTERANCES = 14
FRAME_MS = 250  # of the page's time between two frames; it plays at four times real time
SHOWN_MS, STILL_MS = 190, 2500  # for which a frame, and the last one, is shown
QUALITY = 40  # of WebP's 100
MARGIN = 12  # pixels beside what is recorded


def main() -> None:
    with private_server() as redis, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        serve = [
            UNDERTONE,
            "serve",
            "--no-token",
            "--redis",
            redis,
            "--media",
            CONVERSATION.parent,
            "--port",
            address.rpartition(":")[2],
        ]
        gateway = subprocess.Popen(serve)
        try:
            draw_terminal(played(address))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                opened(browser, address, 1280, 1000, "light").screenshot(path=HERE / "dashboard.png")
                phone = opened(browser, address, 390, 844, "dark")
                phone.locator("#utterance-2").scroll_into_view_if_needed()
                phone.screenshot(path=HERE / "dashboard-phone.png")
                record(opened(browser, address, 1240, 820, "light"))
        finally:
            gateway.terminate()
            gateway.wait()


def played(address: str) -> list[str]:
    """Events of the conversation, JSON, once the gateway has played it."""
    source = {"kind": "file", "name": CONVERSATION.name, "transcript": CONVERSATION.with_suffix(".stm").name}
    asked = {"id": SESSION, "consent": "Nobody: the voices are synthetic", "source": source}
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


def draw_terminal(events: list[str]) -> None:
    """terminal.svg: the table of a replay. events: JSON lines."""
    console = Console(record=True, width=118, height=24, file=io.StringIO(), force_terminal=True)
    display = TableDisplay(console)
    for line in events:
        display.event(parse(line))
    console.print(display.table())
    console.save_svg(str(HERE / "terminal.svg"), title="undertone replay conversation.opus")


def opened(browser: Browser, address: str, width: int, height: int, scheme: Literal["light", "dark"]) -> Page:
    """The session in a page, with all its labels."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(f"{address}/#session={SESSION}")
    page.locator("article.final").nth(UTTERANCES - 1).wait_for(state="attached")
    page.wait_for_timeout(500)
    return page


def record(page: Page) -> None:
    """dashboard.webp: the session played in the page. The page's clock is turned by hand, so that a busy machine drops
    no frame."""
    duration = float(page.locator("#scrubber").get_attribute("max") or 0)
    page.locator("#playback-speed").select_option("4")
    page.clock.install()
    page.clock.pause_at(datetime.now() + timedelta(seconds=5))
    page.locator("#play").click()
    page.locator("#player").evaluate("player => player.scrollIntoView({ block: 'start' })")
    view = page.locator("#player").bounding_box()
    assert view is not None and page.viewport_size is not None
    left, top = view["x"] - MARGIN, view["y"]
    clip: FloatRect = {
        "x": left, "y": top, "width": view["width"] + 2 * MARGIN, "height": page.viewport_size["height"] - top,
    }  # fmt: skip
    frames = []
    for _ in range(round(duration / 4 * 1000 / FRAME_MS) + 2):
        page.clock.run_for(FRAME_MS)
        frames.append(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))
    shown = [SHOWN_MS] * (len(frames) - 1) + [STILL_MS]
    frames[0].save(
        HERE / "dashboard.webp", save_all=True, append_images=frames[1:], duration=shown, loop=0, quality=QUALITY
    )


if __name__ == "__main__":
    main()
