"""CPU time and memory of this process and its descendants, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray._private.state import actors

ACTORS = {
    "TimedSession": "session",
    "TranscriberActor": "transcriber",
    "EncoderActor": "encoder",
    "RecognizerActor": "recognizer",
    "FaceActor": "faces",
}


@dataclass(frozen=True)
class Use:
    """Resources that one process has used."""

    kind: str
    """driver (this process), session, transcriber, encoder, recognizer, faces, redis, or ray for Ray's own
    processes."""
    name: str
    """Name of the program; of an actor, the kind."""
    cpu: float
    """CPU seconds since its start."""
    memory: float
    """MB (1e6 bytes) of unique memory (USS): what would be free without the process."""


def used() -> dict[int, Use]:
    """Resources by process id. Ray has to run."""
    # A worker's title names its actor only while it is at work, so Ray is asked.
    actor_kinds = {actor["Pid"]: ACTORS.get(actor["ActorClassName"], "ray") for actor in actors().values()}
    found = {}
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            with process.oneshot():
                if process == this:
                    kind = "driver"
                elif "redis-server" in process.name():
                    kind = "redis"
                else:
                    kind = actor_kinds.get(process.pid, "ray")
                name = _program(process) if kind == "ray" else kind
                times, memory = process.cpu_times(), process.memory_full_info()
        except psutil.Error:
            continue  # it has ended meanwhile
        found[process.pid] = Use(kind, name, times.user + times.system, memory.uss / 1e6)
    return found


def _program(process: psutil.Process) -> str:
    return next((Path(word).stem for word in process.cmdline() if word.endswith(".py")), process.name())


def spent(before: Mapping[int, Use], after: Mapping[int, Use]) -> dict[int, float]:
    """CPU seconds between two samples by process id, without processes that ended in between."""
    return {pid: use.cpu - (before[pid].cpu if pid in before else 0.0) for pid, use in after.items()}


def by_kind(values: Mapping[int, float], uses: Mapping[int, Use]) -> dict[str, float]:
    """Sum of values by kind of process."""
    added: defaultdict[str, float] = defaultdict(float)
    for pid, value in values.items():
        added[uses[pid].kind] += value
    return dict(added)


def busiest(seconds: Mapping[int, float], uses: Mapping[int, Use], of: float) -> str:
    """The busiest process, and its share of a core in `of` seconds: "encoder 97 %"."""
    pid = max(seconds, key=seconds.__getitem__)
    return f"{uses[pid].kind} {100 * seconds[pid] / of:.0f} %"
