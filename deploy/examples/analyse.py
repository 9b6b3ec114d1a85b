"""The labels of a recording, in a program: no server, nothing else is started.

python analyse.py call.wav
"""

import sys

import undertone

for event in undertone.analyse(sys.argv[1]):
    if event.type == "emotion" and event.final:
        sure = "" if not event.uncertain else " (uncertain)"
        print(f"{event.audio_start:6.1f} s  {event.speaker}: {event.emotion}{sure}  {event.text!r}")
