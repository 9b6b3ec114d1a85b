"""Running sessions: where each lives, who started it, and what proves that it is gone.

A session enters itself into one hash of Redis, renews its entry with its heartbeat and removes it at its end. So an
entry stays while nobody has proved that its session is over, however long it is silent.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stream.bus.cluster import Client
from stream.bus.connection import connect
from stream.bus.keys import PREFIX, RETENTION_S, SESSION_ID, Keys

ENTRY_TTL_S = RETENTION_S + 2 * 3600  # seconds that the hash outlives the last renewal of any entry

TAKEN = {
    "live": "is live, or was until a moment ago",
    "ended": "has ended, and its events are kept in this Redis",
    "silent": "has not ended, and gives no sign of life",
    "forgotten": "was deleted lately, and its process may live still",
}


class Home(BaseModel):
    """The process and the cluster in which a running session lives."""

    owner: str | None = None
    """Name of the gateway's token that started it; None: a command did."""
    node: str | None = None
    """A node of the Ray cluster that its actor is in; None: it lives in the process below."""
    cluster: str | None = None
    """Address of that cluster, at which there is one cluster at a time; None if it ends with the process below."""
    machine: str | None = None
    """Machine (and container) of the process with which it ends; None: it outlives any one process."""
    pid: int = 0
    born: str = ""
    """Start of that process, as its machine counts: a pid is used again."""

    @property
    def is_gone(self) -> bool:
        """True if the process with which the session ends has been on this machine and is no more."""
        return self.machine is not None and self.machine == this_machine() and _born(self.pid) != self.born


def this_process(owner: str | None = None, node: str | None = None) -> Home:
    """The home of a session that ends with this process."""
    return Home(owner=owner, node=node, machine=this_machine(), pid=os.getpid(), born=_born(os.getpid()) or "")


def this_machine() -> str | None:
    """This boot of this machine, and the container whose processes we see; None where Linux is not."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """The start of a process, in ticks since the boot; None if there is none, or a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


async def running(client: Client, prefix: str = PREFIX) -> dict[str, Home]:
    """Homes of all running sessions by id; entries that are not ours are ignored."""
    homes = {}
    for session, entry in (await client.hgetall(Keys("any", prefix).running)).items():
        home = _parse(entry)
        if home is not None and SESSION_ID.fullmatch(str(session)):
            homes[str(session)] = home
    return homes


async def home_of(client: Client, keys: Keys) -> Home | None:
    """Home of a session; None if no entry says that it runs."""
    return _parse(await client.hget(keys.running, keys.session))


async def enter(client: Client, keys: Keys, home: Home) -> None:
    """Enter a session that is about to start, or that Redis has lost."""
    await client.hset(keys.running, keys.session, home.model_dump_json())
    if await client.ttl(keys.running) < ENTRY_TTL_S:
        await client.expire(keys.running, ENTRY_TTL_S)


async def leave(client: Client, keys: Keys) -> None:
    """Remove the entry of a session that is over."""
    await client.hdel(keys.running, keys.session)


async def life(client: Client, keys: Keys) -> str:
    """Signs of life in Redis: "live" (a heartbeat, or about to start), "ended", "silent" (neither), "none" (no
    events)."""
    last: Any = await client.xrevrange(keys.events, count=1)
    if last and last[0][1].get("type") == "session.ended":
        return "ended"
    if await client.exists(keys.alive):
        return "live"
    return "silent" if last else "none"


async def state_of(url: str, keys: Keys) -> str:
    """State of a session: that of `life`, but "silent" as soon as its process is known to be gone; or "forgotten":
    it was, a short time ago, while nothing proved its death."""
    client = connect(url)
    try:
        state, home = await life(client, keys), await home_of(client, keys)
        if state == "live" and home is not None and home.is_gone:
            return "silent"
        return "forgotten" if state == "none" and await client.exists(keys.forgotten) else state
    finally:
        await client.aclose()


def taken(keys: Keys, state: str) -> str:
    """A clause about a session whose id cannot be claimed. state: as of `state_of`; "none" has ended in this moment."""
    return f"session {keys.session} {TAKEN.get(state, TAKEN['live'])}"


def _parse(entry: str | bytes | None) -> Home | None:
    try:
        return None if entry is None else Home.model_validate_json(entry)
    except ValidationError:
        return None
