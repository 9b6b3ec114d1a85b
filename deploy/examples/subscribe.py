"""The labels of a session, in a program without an event loop.

UNDERTONE_REDIS=redis://localhost:6379/0 python subscribe.py SESSION
"""

import os
import sys

from stream.bus.subscriber import subscribe_sync

url = os.environ.get("UNDERTONE_REDIS", "redis://localhost:6379/0")

for event in subscribe_sync(url, sys.argv[1]):  # history, then live; ends after session.ended
    if event.type == "emotion" and event.final:
        sure = "" if not event.uncertain else "?"
        print(f"{event.audio_start:7.1f} {event.speaker}: {event.emotion}{sure} {event.text or ''}", flush=True)
