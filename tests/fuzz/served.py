"""A gateway of our own to be abused, with a token, and its log, in which no traceback may stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import ray

from stream.redis_server import private_server
from tests.e2e.gateways import Gateway, gateways
from tests.fuzz.media import recordings
from tests.fuzz.target import Wrong
from workers.actors import ray_cluster
from workers.gateway.access import new_token


@dataclass
class Served:
    """A running gateway, and a token that may do all things."""

    gateway: Gateway
    token: str
    redis: str
    _read: int = 0

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.gateway.http, headers={"Authorization": f"Bearer {self.token}"}, timeout=60)

    def check(self) -> None:
        """Raises Wrong when the gateway is gone, or something escaped into its log."""
        if self.gateway.process.poll() is not None:
            raise Wrong(f"the gateway ended with {self.gateway.process.returncode}")
        log = self.gateway.log.read_bytes()[self._read :]
        self._read += len(log)
        if b"Traceback" in log:
            raise Wrong(log[log.index(b"Traceback") :].decode(errors="replace"))

    def processes(self) -> list[int]:
        """The gateway's, and those of the sessions it serves."""
        actors = [each.pid for each in psutil.process_iter(["name", "cmdline"]) if "ray::Served" in str(each.info)]
        return [self.gateway.process.pid, *actors]


@contextmanager
def using(folder: Path, redis: str, ray_address: str) -> Iterator[Served]:
    """A gateway in a Redis and a Ray that are there."""
    token, entry = new_token("fuzz", ["admin"])
    (folder / "tokens.toml").write_text(f"{entry}sessions = 2\nrequests = 10000000\n")
    (folder / "media").mkdir()
    (folder / "media" / "sound.wav").write_bytes(recordings()[0])
    options = ("--redis", redis, "--ray-address", ray_address, "--tokens", str(folder / "tokens.toml"))
    with gateways(folder, 1, *options, "--media", str(folder / "media"), "--upload", "1") as (gateway,):
        yield Served(gateway, token, redis)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    with private_server() as redis, ray_cluster(None):
        address = ray.get_runtime_context().gcs_address
        with using(folder, redis, address) as one:
            yield one
