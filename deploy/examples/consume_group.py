"""A session's events shared by several workers: each event goes to one of those with the same GROUP.

UNDERTONE_REDIS=redis://localhost:6379/0 python consume_group.py SESSION GROUP WORKER

An event is acknowledged when the next is asked for. What a worker had not done when it died comes again, so work must
bear being done twice: event.id is the same both times.
"""

import asyncio
import os
import sys

import undertone

URL = os.environ.get("UNDERTONE_REDIS", "redis://localhost:6379/0")


async def main(session: str, group: str, worker: str) -> None:
    async for event in undertone.consume(URL, session, group, worker):
        print(worker, event.id, event.type, flush=True)  # the work


asyncio.run(main(*sys.argv[1:]))
