"""The browser of the tests: Debian's Chromium."""

from __future__ import annotations

import os

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SLOW = 180_000  # ms, while models load and other tests run
