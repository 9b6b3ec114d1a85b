"""Makes dashboard.png and dashboard-phone.png: the demo conversation in the page, by the real gateway.

Run in the repository, after `make test` or `make install-dev`: .venv/bin/python deploy/demo/screenshots.py
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from stream.bus.server import private_server

HERE = Path(__file__).parent
UNDERTONE = Path(sys.executable).with_name("undertone")
SESSION = "a-quarter-with-jonas"


def main() -> None:
    with private_server() as redis, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        conversation = HERE / "conversation.opus"
        replay = [UNDERTONE, "replay", conversation, "--transcript", conversation.with_suffix(".stm"), "--redis", redis]
        replay += ["--speed", "4", "--session", SESSION, "--consent", "Nobody: the voices are synthetic"]
        subprocess.run(replay, check=True)
        gateway = subprocess.Popen([UNDERTONE, "serve", "--no-token", "--port", port, "--redis", redis])
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                for name, width, height, scheme in (
                    ("dashboard", 1280, 1000, "light"),
                    ("dashboard-phone", 390, 844, "dark"),
                ):
                    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                    while True:
                        try:
                            page.goto(f"http://127.0.0.1:{port}/#session={SESSION}")
                            break
                        except Exception:  # not up yet
                            page.wait_for_timeout(500)
                    page.locator("article.final").nth(13).wait_for(state="attached")
                    if name == "dashboard-phone":
                        page.locator("#utterance-2").scroll_into_view_if_needed()
                    page.wait_for_timeout(500)
                    page.screenshot(path=HERE / f"{name}.png")
        finally:
            gateway.terminate()
            gateway.wait()


if __name__ == "__main__":
    main()
