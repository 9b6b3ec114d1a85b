"""Measures the page with a meeting of four hours, ten speakers and 5,000 utterances.

How long it takes to open, the work of the main thread per frame while the transcript is scrolled, and memory.

Run in the repository, after `make install-dev`, with Chromium, on an idle machine:
    PYTHONPATH=. .venv/bin/python deploy/page_check.py
Writes workers/bench/report/page.json, which BENCHMARKS.md shows (`undertone bench report`).
"""

from __future__ import annotations

import asyncio
import bisect
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from stream.bus.server import private_server
from tests.support.meetings import PEOPLE, meeting
from workers.bench.report.machine import describe

ROOT = Path(__file__).parents[1]
FOUND = ROOT / "workers" / "bench" / "report" / "page.json"
PAGE = ROOT / "stream" / "dashboard"
UNDERTONE = Path(sys.executable).with_name("undertone")
SECONDS, UTTERANCE_S = 4 * 3600, 2.5
TIMES = 5  # that the session is opened
WHEELS, WHEEL_PX, PAUSE_MS = 300, 220, 16
TRACED = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]


def main() -> None:
    with private_server() as redis, socket.socket() as probe:
        asyncio.run(meeting(redis, "four-hours", SECONDS, PEOPLE, utterance_s=UTTERANCE_S))
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        gateway = subprocess.Popen([UNDERTONE, "serve", "--no-token", "--redis", redis, "--port", port])
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                found = measured(browser, f"{address}/#session=four-hours")
                found["machine"] = describe() | {"browser": f"Chromium {browser.version}, headless"}
        finally:
            gateway.terminate()
            gateway.wait()
    FOUND.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def measured(browser: Browser, address: str) -> dict[str, Any]:
    """Times to open (ms), work per frame (ms), memory (MiB), and what is sent (KiB)."""
    opened = [_open(browser, address) for _ in range(TIMES)]
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(address)
    page.locator("#after .talk li").first.wait_for(timeout=60_000)
    page.wait_for_timeout(3000)
    frames = scrolled(browser, page)
    own = [*PAGE.glob("*.js"), *PAGE.glob("*.css"), PAGE / "index.html"]
    return {
        "utterances": opened[0]["rows"],
        "opening": [
            _times(name, [one[name] for one in opened]) for name in ("first words", "all utterances", "summary")
        ],
        "scrolling": [
            {
                "frames": len(frames),
                "median, ms": round(float(np.median(frames)), 1),
                "95 %, ms": round(float(np.percentile(frames, 95)), 1),
                "longest, ms": round(max(frames), 1),
            }
        ],
        "heap, MiB": page.evaluate("() => performance.memory.usedJSHeapSize >> 20"),
        "nodes": page.evaluate("() => document.querySelectorAll('*').length"),
        "files": {
            "own, lines": sum(len(path.read_text().splitlines()) for path in own),
            "own, KiB": sum(path.stat().st_size for path in own) >> 10,
            "libraries, KiB": sum(path.stat().st_size for path in (PAGE / "vendor").rglob("*.?s*")) >> 10,
        },
    }


def _times(until: str, taken: list[int]) -> dict[str, Any]:
    return {"until": until, "median, ms": median(taken), "longest, ms": max(taken)}


def _open(browser: Browser, address: str) -> dict[str, int]:
    """Milliseconds from the navigation of a new browser context until each part is there, and the number of rows."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(address)
    taken = {}
    for name, ready in {
        "first words": "() => document.querySelectorAll('article').length > 3",
        "all utterances": "() => document.querySelector('#session-state')?.textContent.includes('ended')",
        "summary": "() => document.querySelector('#after .talk li') !== null",
    }.items():
        page.wait_for_function(ready, polling=20, timeout=60_000)
        taken[name] = round(page.evaluate("() => performance.now()"))
    taken["rows"] = int(page.locator("#transcript").get_attribute("data-rows") or 0)
    page.context.close()
    return taken


def scrolled(browser: Browser, page: Page) -> list[float]:
    """Milliseconds of the main thread's tasks between two commits to the compositor, for each frame."""
    events: list[dict[str, Any]] = []
    over: list[bool] = []
    session = browser.new_browser_cdp_session()
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    session.on("Tracing.tracingComplete", lambda _: over.append(True))
    session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": {"includedCategories": TRACED}})
    page.mouse.move(500, 300)
    for _ in range(WHEELS):
        page.mouse.wheel(0, WHEEL_PX)
        page.wait_for_timeout(PAUSE_MS)
    session.send("Tracing.end")
    while not over:
        page.wait_for_timeout(100)
    main_thread = {
        (event["pid"], event["tid"])
        for event in events
        if event.get("ph") == "M" and event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    events = [event for event in events if (event["pid"], event["tid"]) in main_thread]
    commits = sorted(event["ts"] for event in events if event["name"] == "Commit")
    work = [0.0] * (len(commits) + 1)
    for event in events:
        if event["name"] == "ThreadControllerImpl::RunTask":
            work[bisect.bisect(commits, event["ts"])] += event.get("dur", 0) / 1000
    return work[1:-1]


def _wait(address: str) -> None:
    while True:
        try:
            if httpx.get(f"{address}/readyz").json()["models"]:
                return
        except httpx.TransportError:  # not up yet
            pass
        time.sleep(0.5)


if __name__ == "__main__":
    main()
