"""Parts of a suite of benchmarks that end in each way a part can; processes of their own import them by name."""

from __future__ import annotations

import os
import time

from model.progress import Progress
from stream.errors import MediaError
from workers.bench.report.results import Tables


def quick(progress: Progress) -> Tables:
    progress.step("figures", 1, 2)
    print("noise")  # is no part of what --json prints
    return {"graph": [{"work": f"in {os.getpid()}", "ms, median": 1.5}]}


def lacking(progress: Progress) -> Tables:
    raise MediaError("no such recording")


def broken(progress: Progress) -> Tables:
    raise ValueError("a slip")


def dying(progress: Progress) -> Tables:
    os._exit(3)


def endless(progress: Progress) -> Tables:
    progress.tell(f"endless {os.getpid()}")
    while True:
        time.sleep(0.1)
