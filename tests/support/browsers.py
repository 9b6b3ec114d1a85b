"""The browser of the tests: Debian's Chromium."""

from __future__ import annotations

import os

from playwright.sync_api import Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SLOW = 180_000  # ms, while models load and other tests run


def agreed(page: Page, who: str = "Mara") -> None:
    """Fill in that these people, separated by commas, agreed."""
    page.get_by_label("Who takes part").fill(who)
    for name in who.split(", "):
        page.get_by_label(f"{name} agreed").check()
    page.get_by_label("For what").fill("to test the page")
