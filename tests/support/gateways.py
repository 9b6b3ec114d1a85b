"""Gateways as processes, for tests: over the shared Ray and Redis, on free ports."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import websockets

from tests.support.commands import UNDERTONE


@dataclass
class Gateway:
    """One `undertone serve`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gateways(folder: Path, count: int, *options: str, invited: bool = False) -> Iterator[list[Gateway]]:
    """`count` of them side by side, ready; ended with the context.

    invited: without --tokens they ask for the token that they print; else they ask for none. Models are loaded by the
    sessions that need them, unless an option says otherwise.
    """
    if "--preload" not in options:
        options = ("--no-preload", *options)
    started = []
    if not invited and "--tokens" not in options:
        options = (*options, "--no-token")
    for n in range(count):
        port, log = free_port(), folder / f"gateway-{n}.log"
        command = [UNDERTONE, "serve", "--port", str(port), *options]
        with log.open("wb") as told:
            started.append(Gateway(subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT), port, log))
    try:
        for gateway in started:
            wait_ready(gateway)
        yield started
    finally:
        for gateway in started:
            gateway.process.kill()
            gateway.process.wait()


def wait_ready(gateway: Gateway, patience: float = 90) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        assert gateway.process.poll() is None, gateway.log.read_text()
        try:
            if httpx.get(f"{gateway.http}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(gateway.log.read_text())


def pcm(samples: np.ndarray) -> bytes:
    """16 bit, little-endian."""
    return (samples * 32767).astype("<i2").tobytes()


HEARD = {"consent": "synthetic voices", "modalities": ["audio"], "interim": 0}


async def events_of(gateway: Gateway, session: str, after: str = "") -> list[dict]:
    async with websockets.connect(f"{gateway.ws}/sessions/{session}/events?after={after}") as socket:
        got = [json.loads(message) async for message in socket]
    assert socket.close_code == 1000
    return got
