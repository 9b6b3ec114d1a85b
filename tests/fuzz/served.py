"""A gateway of our own to be abused, with a token, and its log, in which no traceback may stand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.fuzz.media import recordings
from tests.fuzz.target import Wrong
from tests.support.gateways import Gateway, free_port, wait_ready
from tests.support.redis_servers import private_server
from workers.gateway.access import new_token

OURS = re.compile(rb"/(model|stream|workers)/")


@dataclass
class Served:
    """A running gateway, and two tokens that may do all things; the thrifty one may have no session."""

    gateway: Gateway
    token: str
    thrifty: str
    redis: str
    _read: int = 0

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.gateway.http, headers={"Authorization": f"Bearer {self.token}"}, timeout=60)

    def check(self) -> None:
        """Raises Wrong when the gateway is gone, or something of ours escaped into its log (uvicorn has a traceback
        for any text that is not UTF-8, and closes with 1007)."""
        if self.gateway.process.poll() is not None:
            raise Wrong(f"the gateway ended with {self.gateway.process.returncode}")
        with self.gateway.log.open("rb") as file:
            file.seek(self._read)
            log = file.read()
        self._read += len(log)
        for line in log.splitlines():
            if b"Traceback" in line and OURS.search(line):
                raise Wrong(line.decode(errors="replace"))

    def processes(self) -> list[int]:
        return [self.gateway.process.pid]


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A gateway with a Redis, and without Ray (`tests.fuzz.rayless`)."""
    prepared, log, port = prepare(folder), folder / "gateway.log", free_port()
    with private_server() as redis, log.open("wb") as told:
        arguments = [str(port), redis, folder / "tokens.toml", folder / "media"]
        command = [sys.executable, "-m", "tests.fuzz.rayless", *arguments]
        with subprocess.Popen(command, stdout=told, stderr=told) as process:
            try:
                gateway = Gateway(process, port, log)
                wait_ready(gateway, patience=600)
                yield Served(gateway, *prepared, redis)
            finally:
                process.kill()


def prepare(folder: Path) -> tuple[str, str]:
    """The files of a gateway; its two tokens."""
    made = {name: new_token(name, ["admin"]) for name in ("fuzz", "thrifty")}
    entries = [f"{entry}sessions = {2 * (name == 'fuzz')}\nrequests = 10000000\n" for name, (_, entry) in made.items()]
    (folder / "tokens.toml").write_text("\n".join(entries))
    (folder / "media").mkdir()
    (folder / "media" / "sound.wav").write_bytes(recordings()[0])
    return made["fuzz"][0], made["thrifty"][0]
