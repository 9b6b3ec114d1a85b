"""A bad network between us and Redis, and between a sender and us: late, lossy, cut.

`tc netem` is not in every kernel (not in that of the machine this was written on), so a relay does it to streams: bytes
come later, in order, as TCP hands them over after packets were late or sent again; a cut keeps connections, silently.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream.sources.file import FileSource
from tests.chaos.service import GIVEN, Service
from tests.chaos.truth import Verdict, judge
from tests.support.paths import DEMO

AGAIN = 0.4  # seconds after which a packet that was lost has been sent again


@dataclass(frozen=True)
class Weather:
    """What a relay does to each piece of a stream."""

    delay: float = 0.0
    """Seconds, one way."""
    jitter: float = 0.0
    """Seconds by which that may be more or less."""
    loss: float = 0.0
    """Share of pieces that have to be sent again."""


class Relay:
    """Takes connections at `port` and hands them on."""

    def __init__(self, target: int, seed: int, weather: Weather = Weather()) -> None:
        """target: port, on this machine."""
        self.weather, self.port = weather, 0
        self._target, self._rng = target, random.Random(seed)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self, seconds: float) -> None:
        """Let nothing through for a while."""
        self._open.clear()
        await asyncio.sleep(seconds)
        self._open.set()

    async def aclose(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, back), (there, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pieces in order, each at its time: one that is late holds up those behind it."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)
        loop = asyncio.get_running_loop()

        async def hand_on() -> None:
            while (entry := await due.get())[1]:
                await asyncio.sleep(max(0.0, entry[0] - loop.time()))
                await self._open.wait()
                sink.write(entry[1])
                await sink.drain()

        handing = asyncio.create_task(hand_on())
        try:
            while piece := await source.read(1 << 16):
                weather, rng = self.weather, self._rng
                late = weather.delay + rng.uniform(-weather.jitter, weather.jitter)
                late += AGAIN if rng.random() < weather.loss else 0.0
                await due.put((loop.time() + max(0.0, late), piece))
            await due.put((0.0, b""))
            await handing
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            handing.cancel()
            sink.close()


WEATHERS = {
    "calm": Weather(),
    "200 ± 100 ms": Weather(0.2, 0.1),
    "5 % lost": Weather(0.01, 0.0, 0.05),
}


async def campaign(
    service: Service, redis: Relay, gateway: Relay, cut: float, say: Callable[[str], None]
) -> dict[str, Verdict]:
    """A recording, and a track that is sent live, in each weather and through a cut of so many seconds."""
    said = np.concatenate([block.samples for block in FileSource(DEMO, "mix")], 1)[0]
    truth = await service.play("truth", GIVEN)
    verdicts: dict[str, Verdict] = {}
    for name in (*WEATHERS, f"cut for {cut:.0f} s"):
        say(name)
        redis.weather = gateway.weather = WEATHERS.get(name, Weather())
        slug = "".join(letter for letter in name if letter.isalnum())
        cutting = asyncio.create_task(_cut(redis, gateway, cut)) if name not in WEATHERS else None
        file, live = await asyncio.gather(
            service.play(f"file-{slug}", GIVEN), service.push(f"live-{slug}", said, [gateway.port])
        )
        if cutting is not None:
            await cutting
        verdicts[f"{name}: Redis"], verdicts[f"{name}: sender"] = judge(file, truth), judge(live, None)
    return verdicts


async def _cut(redis: Relay, gateway: Relay, seconds: float) -> None:
    await asyncio.sleep(8)
    await asyncio.gather(redis.cut(seconds), gateway.cut(seconds))
