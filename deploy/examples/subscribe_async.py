"""The labels of a session as they are given, and how sure they are.

UNDERTONE_REDIS=redis://localhost:6379/0 python subscribe_async.py SESSION [AFTER_EVENT_ID]
"""

import asyncio
import os
import sys

import undertone

URL = os.environ.get("UNDERTONE_REDIS", "redis://localhost:6379/0")


async def main(session: str, after: str | None = None) -> None:
    async for event in undertone.subscribe(URL, session, after=after):  # history, then live; ends after session.ended
        match event.type:
            case "emotion" if event.trigger == "speech_ended":
                who = undertone.one_line(event.speaker)  # names come from outside, and shall not steer the terminal
                print(event.id, who, event.emotion, event.probabilities[event.emotion], flush=True)
            case "utterance.failed":
                print(event.id, "has no label:", undertone.one_line(event.reason), flush=True)


asyncio.run(main(*sys.argv[1:]))
