"""A gateway of our own to be abused, with a token, and its log, in which no traceback may stand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from stream.redis_server import private_server
from tests.e2e.gateways import Gateway, free_port, gateways, wait_ready
from tests.fuzz.media import recordings
from tests.fuzz.target import Wrong
from workers.gateway.access import new_token


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
        """Raises Wrong when the gateway is gone, or something escaped into its log."""
        if self.gateway.process.poll() is not None:
            raise Wrong(f"the gateway ended with {self.gateway.process.returncode}")
        with self.gateway.log.open("rb") as file:
            file.seek(self._read)
            log = file.read()
        self._read += len(log)
        if b"Traceback" in log:
            raise Wrong(log[log.index(b"Traceback") :].decode(errors="replace"))

    def processes(self) -> list[int]:
        return [self.gateway.process.pid]


@contextmanager
def using(folder: Path, redis: str, ray_address: str) -> Iterator[Served]:
    """A gateway in a Redis and a Ray that are there."""
    prepared = prepare(folder)
    options = ("--redis", redis, "--ray-address", ray_address, "--tokens", str(folder / "tokens.toml"))
    with gateways(folder, 1, *options, "--media", str(folder / "media"), "--upload", "1") as (gateway,):
        yield Served(gateway, *prepared, redis)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A gateway without Ray (`tests.fuzz.rayless`), which a long campaign can do without."""
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
