"""The labels of a session, in a program without an event loop.

UNDERTONE_REDIS=redis://localhost:6379/0 python subscribe.py SESSION
"""

import os
import sys

import undertone

url = os.environ.get("UNDERTONE_REDIS", "redis://localhost:6379/0")

for event in undertone.subscribe_sync(url, sys.argv[1]):  # history, then live; ends after session.ended
    if event.type == "emotion" and event.final:
        sure = "" if not event.uncertain else "?"
        line = f"{event.audio_start:7.1f} {event.speaker}: {event.emotion}{sure} {event.text or ''}"
        print(
            undertone.one_line(line), flush=True
        )  # words and names come from outside, and shall not steer the terminal
