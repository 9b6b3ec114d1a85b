"""What a version writes that later ones have to read, into a folder of its own: `python -m tests.golden written NAME`.

killed*.json     what sessions left in Redis when their process was killed while somebody talked
recording/       a folder that `replay --record` made, with pictures and a transcript
waiting/         the spool of a session whose events did not reach Redis
voices/Ada.json  an enrolled voice, of which the numbers are made up
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import redis

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.events import parse
from tests.golden import GOLDEN, sessions
from tests.golden.sessions import DEMO_FILES, Servers
from tests.support.recordings import RATE, write_mp4
from workers.session import enrolment

KILLED = {"killed": "4:partial:2", "killed-mixed": "6:interim:2", "killed-overlap": "1:interim:3"}
"""The event at which each was killed; its session is called `written-` and so."""
SAID = 3.1  # seconds of the recording
VOICE = np.random.default_rng(0).normal(size=256).astype(np.float32)


def write(servers: Servers, into: Path, folder: Path) -> None:
    """folder: for what is needed meanwhile. Raises FileExistsError: what a version wrote is not written again."""
    into.mkdir(parents=True)
    for name, event in KILLED.items():
        sessions.killed(servers, f"written-{name}", event, options(name, folder))
        (into / f"{name}.json").write_text(json.dumps(left(servers.redis, f"written-{name}"), indent=1) + "\n")
    record(servers, into / "recording", folder)
    asyncio.run(spool(into / "waiting"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.encoders.speaker.SpeakerEncoder", lambda: lambda samples: VOICE / np.linalg.norm(VOICE))
        enrolment.enroll("Ada", [np.zeros(6 * RATE, np.float32)])
    shutil.copytree(enrolment.folder(), into / "voices")


def options(name: str, folder: Path) -> list[str]:
    """Of the replay that was killed; whoever resumes it gives the same."""
    mixed = ["--asr", "none", "--channels", "mix", "--speakers", "cluster", "--no-enrolled"]
    recording = {
        "killed": [DEMO_FILES[0], "--transcript", DEMO_FILES[1]],
        "killed-mixed": [DEMO_FILES[0], *mixed],
        "killed-overlap": sessions.overlapping(folder),
    }
    return [*recording[name], "--interim", "1"]


def left(url: str, session: str) -> dict[str, object]:
    """All of a session's keys."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        key = f"undertone:{{{session}}}"
        events = [fields for _, fields in client.xrange(f"{key}:events")]
        return {"state": client.get(f"{key}:state"), "rows": client.lrange(f"{key}:rows", 0, -1), "events": events}


def put(url: str, session: str, kept: dict[str, object]) -> None:
    """Into a Redis again, in place of what it has there."""
    with redis.Redis.from_url(url) as client:
        key = f"undertone:{{{session}}}"
        client.delete(f"{key}:state", f"{key}:rows", f"{key}:events")
        client.set(f"{key}:state", kept["state"])
        client.rpush(f"{key}:rows", *kept["rows"])
        for fields in kept["events"]:
            client.xadd(f"{key}:events", fields)


def record(servers: Servers, into: Path, folder: Path) -> None:
    """One line of the demo, with pictures that show nobody."""
    write_mp4(folder / "line.mp4", sessions.one_voice()[None, : round(SAID * RATE)], SAID)
    (folder / "line.csv").write_text('start,end,text\n0.6,3.0,"Hi Jonas, thanks for coming."\n')
    given = ("--transcript", "line.csv", "--speed", "max", "--record", "records", "--modalities", "text,audio")
    sessions.run(sessions.command(servers, "replay", "written", "line.mp4", *given), folder)
    shutil.copytree(folder / "records" / "written", into)


async def spool(into: Path) -> None:
    """Some events of the golden recording, published where no Redis is."""
    bus = Bus("redis://127.0.0.1:1", Keys("written-waiting"))
    lines = (GOLDEN / "file.jsonl").read_text().replace("wire-file", "written-waiting").splitlines()
    events = [parse(line) for line in (*lines[:3], lines[-1])]
    bus.publish(events[0], state="a state")
    bus.publish(*events[1:3], state="a later state", row="a row", rows=8)
    bus.publish(events[3])
    await bus.aclose(timeout=1)
    into.mkdir()
    shutil.move(bus.spool.path, into)
